"""Peak resident memory of the driver of `cbmir manifest check` for 1,000 images, and for 100,000."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.manifest_speed import peak_memory as peak_of_manifest
from tests.bench.memory import watched

COUNTS = (1_000, 100_000)


def run(scratch: Path) -> None:
    files = _draw(scratch / "pictures", COUNTS[-1])
    peaks = []
    for count in COUNTS:
        table = scratch / f"{count}.csv"
        with open(table, "w") as file:
            file.write("image_id,path,split,labels\n")
            file.writelines(f"check/{i},{files[i]},train,a\n" for i in range(count))
        study = scratch / f"check-{count}"
        peak_of_manifest("manifest", "csv", str(table), "--study", str(study))
        began = time.perf_counter()
        peaks.append(watched("manifest", "check", "--study", str(study), every=0.05).driver)
        seconds = time.perf_counter() - began
        print(f"  {count:>7,} images: driver's peak {peaks[-1]:.0f} MiB, {seconds:.0f} s", flush=True)
    print(f"  ratio {peaks[1] / peaks[0]:.2f} for a hundred times the images")


def _draw(directory: Path, count: int) -> list[str]:
    """Different grey PNG files of 24 pixels, a thousand in a directory."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(count):
        if i % 1_000 == 0:
            (directory / f"{i // 1_000:03d}").mkdir(parents=True)
        files.append(f"{directory}/{i // 1_000:03d}/{i:06d}.png")
        Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8)).save(files[-1])
    return files
