"""Time and memory of `cbmir embed` for a collection, and for four and sixteen times as many images: a straight line, and a flat one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cbmir.store import path_name
from tests.bench.collection import draw, plain_files, study_of
from tests.bench.memory import watched

ENCODER = "timm:mobilenetv3_small_100~random0"
COUNTS = (1_000, 4_000, 16_000)


def run(scratch: Path) -> None:
    files = plain_files(draw(scratch))
    seconds, peaks = [], []
    for count in COUNTS:
        study = study_of(files, count, scratch / f"scaling-{count}")
        peaks.append(watched("embed", "--study", study.root, "--encoder", ENCODER))
        told = study.require("embeddings", f"encoder={path_name(ENCODER)}")["last_attempt"]
        seconds.append(told["images"] / told["images_per_second"])
        print(
            f"  {count:>6,} images: {seconds[-1]:6.1f} s behind {told['start_up_seconds']:.1f} s of start, "
            f"{1000 * seconds[-1] / count:.2f} ms an image; driver {peaks[-1].driver:.0f} MiB, "
            f"all processes {peaks[-1].everything:.0f} MiB; bottleneck: {told['bottleneck']}",
            flush=True,
        )
    slope, intercept = np.polyfit(COUNTS, seconds, 1)
    left = float(np.abs(np.polyval((slope, intercept), COUNTS) - seconds).max())
    print(f"  line: {1000 * slope:.2f} ms an image, {intercept:+.1f} s; farthest from it {left:.1f} s")
    print(
        f"  memory for {COUNTS[-1] // COUNTS[0]} times the images: driver x {peaks[-1].driver / peaks[0].driver:.2f}, "
        f"all processes x {peaks[-1].everything / peaks[0].everything:.2f}"
    )
