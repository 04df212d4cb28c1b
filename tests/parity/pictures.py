"""Images to compare encoders on: real ones where the samples are at hand, drawn ones everywhere."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from cbmir.images.read import read_image
from cbmir.phantoms import draw_collection


def drawn(scratch: Path, count: int) -> list[np.ndarray]:
    """`count` phantoms, and noise with a slope: (h, w, 3) uint8 of several shapes, one of them in colour."""
    root = scratch / "phantoms"
    draw_collection(root, images=40, seed=3, broken=0)
    with open(root / "phantoms.csv", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["format"] in ("png", "jpeg")]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (150, 97, 3)) * np.linspace(0.2, 1, 97)[None, :, None]
    return [read_image(str(root / path)) for path in paths[:count]] + [noise.astype(np.uint8)]


def real(shared: Path, count: int) -> list[np.ndarray]:
    """`count` of the sample images, from all sources in turn."""
    with open(shared / "data" / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sources = sorted({row["source"] for row in rows})
    of = {source: [row["path"] for row in rows if row["source"] == source] for source in sources}
    chosen = [of[source][(7 * turn) % len(of[source])] for turn in range(count) for source in sources]
    return [read_image(str(shared / "data" / path)) for path in chosen[:count]]
