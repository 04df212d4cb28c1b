"""Peak resident memory of the driver of `cbmir embed` for a collection, and for one ten times as large."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.collection import draw, plain_files, study_of

SMALL = 2_000


def run(scratch: Path) -> None:
    files = plain_files(draw(scratch))
    peaks = []
    for count in (SMALL, 10 * SMALL):
        study = study_of(files, count, scratch / f"memory-{count}")
        began = time.perf_counter()
        peaks.append(peak_memory("embed", "--study", study.root, "--encoder", "pixels32"))
        print(
            f"  {count:>7,} images: driver's peak {peaks[-1]:.0f} MiB, {time.perf_counter() - began:.0f} s", flush=True
        )
    print(f"  ratio {peaks[1] / peaks[0]:.2f} for ten times the images")


def peak_memory(*arguments: str) -> float:
    """Highest resident memory of one cbmir process itself, in MiB; the processes it starts are not counted."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cbmir", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0.0
    while process.poll() is None:
        try:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        except OSError:
            found = None
        peak = max(peak, float(found.group(1)) / 1024) if found else peak
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"cbmir {' '.join(arguments)} ended with {process.returncode}")
    return peak
