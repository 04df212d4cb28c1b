"""The most resident memory that a process takes while it does something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """From the beginning of the block on; Linux forgets the peak before it where "5" is written to clear_refs (proc(5))."""

    def __enter__(self) -> Self:
        try:
            _RESET.write_text("5")
            self._known = True
        except OSError:
            self._known = False
        return self

    def __exit__(self, *exception) -> None:
        pass

    def peak(self) -> int | None:
        """Bytes; None where the system does not tell."""
        if not self._known:
            return None
        found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
        return int(found[1]) * 1024 if found else None
