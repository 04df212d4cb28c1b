"""Memory of a running command, from /proc."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.processes import children


@dataclass
class Peaks:
    """Highest memory in MiB: resident of the command itself, and proportional (shared pages counted once) of all its processes."""

    driver: float = 0.0
    everything: float = 0.0


def watched(*arguments: str, every: float = 0.5) -> Peaks:
    """Run one cbmir command to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cbmir", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peaks = Peaks()
    while process.poll() is None:
        peaks.driver = max(peaks.driver, _field(process.pid, "status", "VmHWM"))
        everybody = [process.pid, *children(process.pid)]
        peaks.everything = max(peaks.everything, sum(_field(pid, "smaps_rollup", "Pss") for pid in everybody))
        time.sleep(every)
    if process.returncode:
        raise RuntimeError(f"cbmir {' '.join(arguments)} ended with {process.returncode}")
    return peaks


def _field(pid: int, file: str, name: str) -> float:
    """A field of /proc/PID/FILE in MiB; 0 for a process that has ended."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return float(found.group(1)) / 1024 if found else 0.0
