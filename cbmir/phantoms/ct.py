"""What CT slices share, in Hounsfield units (air -1000, fat -100, water 0, muscle 50, bone 300 and more)."""

import numpy as np

from cbmir.phantoms.canvas import Frame, Sketch, blur, edge, ellipse, paint
from cbmir.phantoms.catalog import Case

AIR, FAT, MUSCLE = -1000.0, -105.0, 58.0


def scan(image: np.ndarray, case: Case, noise: float, sharpness: float = 0.7) -> np.ndarray:
    """Detector blur and the slightly blotchy noise of a reconstruction kernel; noise in HU."""
    grain = case.rng.standard_normal(image.shape, dtype=np.float32)
    grain = 0.6 * grain + 1.3 * blur(grain, 0.9)
    return (blur(image, sharpness) + np.float32(noise) * grain).astype(np.float32)


def couch(f: Frame, y: float) -> np.ndarray:
    """The couch below the patient: a thin bowed line."""
    return edge(np.abs(f.y - y + 0.10 * f.x**2) - 0.012, 0.012) * edge(np.abs(f.x) - 0.8, 0.02)


def vertebra(image: np.ndarray, f: Frame, cy: float, size: float = 1.0) -> np.ndarray:
    image = paint(image, ellipse(f, 0, cy + 0.24 * size, 0.05 * size, 0.14 * size), 330.0)
    for side in (-1, 1):
        image = paint(
            image, ellipse(f, side * 0.15 * size, cy + 0.13 * size, 0.14 * size, 0.04 * size, side * 0.25), 300.0
        )
    image = paint(image, ellipse(f, 0, cy, 0.155 * size, 0.115 * size), 420.0)
    image = paint(image, ellipse(f, 0, cy, 0.128 * size, 0.09 * size), 190.0 + 25 * _weave(f))
    return paint(image, ellipse(f, 0, cy + 0.145 * size, 0.055 * size, 0.04 * size), 25.0)


def _weave(f: Frame) -> np.ndarray:
    """Trabecular pattern without a generator: a fine, fixed weave."""
    return np.sin(60 * f.x) * np.cos(55 * f.y)


def rib_ring(image: np.ndarray, f: Frame, rx: float, ry: float, *, count: int, phase: float) -> np.ndarray:
    sketch = Sketch(f)
    for i in range(count):
        t = 2 * np.pi * (i + 0.5 + 0.25 * phase) / count
        if abs(np.sin(t)) < 0.93:
            at, step = (rx * np.cos(t), ry * np.sin(t)), 0.07
            away = (rx * np.cos(t + step), ry * np.sin(t + step))
            sketch.line([at, away], 0.05)
    return paint(image, sketch.mask(), 380.0)
