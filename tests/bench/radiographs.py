"""Full-size radiographs to measure on: drawn ones, enlarged to 2,500 x 3,000 pixels with a detector's noise, every other one PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.collection import draw, plain_files

SIZE = (2500, 3000)


def radiographs(scratch: Path, *, count: int = 40) -> list[Path]:
    """Files of 7.5 million grey pixels: JPEG of quality 90 and PNG in turn."""
    directory = scratch / "radiographs"
    if directory.is_dir():
        return sorted(directory.iterdir())
    directory.mkdir()
    rng = np.random.default_rng(0)
    for i, file in enumerate(plain_files(draw(scratch))[:count]):
        enlarged = np.asarray(Image.open(file).convert("L").resize(SIZE, Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(enlarged + rng.normal(0, 3, enlarged.shape).astype(np.float32), 0, 255).astype(np.uint8)
        name = directory / f"{i:03d}"
        if i % 2:
            Image.fromarray(noisy).save(f"{name}.png", compress_level=3)
        else:
            Image.fromarray(noisy).save(f"{name}.jpg", quality=90)
    return sorted(directory.iterdir())
