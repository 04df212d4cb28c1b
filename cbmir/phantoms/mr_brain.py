"""Brain MR, axial and fluid-attenuated: cortex brighter than white matter, fluid dark, most lesions bright."""

import numpy as np

from cbmir.phantoms.brain import brain_folds, ventricles
from cbmir.phantoms.canvas import blob, blur, edge, ellipse, fractal, paint, radius, texture
from cbmir.phantoms.catalog import Case
from cbmir.phantoms.mr import acquire


def draw_brain(case: Case) -> np.ndarray:
    """Case -> (h, w) float32, 0 no signal .. about 1; white matter 0.42, cortex 0.56, fluid dark; the face is up."""
    f, traits, body, rng = case.frame, case.habitus.traits, case.body, case.rng
    rx, ry = 0.77 + 0.02 * traits[0], 0.95
    scalp = ellipse(f, 0, 0, rx + 0.07, ry + 0.05, soft=0.015)
    image = 0.52 * scalp * (1 + 0.10 * texture(f, body, 5))
    image = paint(image, ellipse(f, 0, 0, rx + 0.01, ry - 0.01, soft=0.015), 0.06)
    inner = (rx - 0.055, ry - 0.075)
    rim = radius(f, 0, 0, *inner)
    cortex, sulci = brain_folds(f, body, rim)
    tissue = 0.42 + 0.015 * fractal(f, body, 7, 2) + 0.20 * cortex
    for side in (-1, 1):
        tissue = paint(tissue, ellipse(f, side * 0.15, -0.14, 0.055, 0.12, side * -0.35, soft=0.03), 0.55)
        tissue = paint(tissue, ellipse(f, side * 0.27, -0.02, 0.07, 0.15, side * -0.3, soft=0.03), 0.53)
        tissue = paint(tissue, ellipse(f, side * 0.12, 0.10, 0.08, 0.10, side * 0.5, soft=0.03), 0.53)
    tissue = paint(tissue, 0.9 * sulci, 0.12)
    horns = ventricles(f, rng.uniform(0.85, 1.15) * (1 + 0.15 * traits[1]))
    tissue = tissue + 0.09 * np.clip(blur(horns, 3.5) - horns, 0, 1)
    tissue = paint(tissue, horns, 0.07)
    falx = edge(np.abs(f.x + 0.01 * np.sin(5 * f.y)) - 0.012, 0.012) * edge(0.40 - np.abs(f.y), 0.03)
    tissue = paint(tissue, 0.8 * falx, 0.14)
    tissue = _brain_findings(tissue, case, rim, horns)
    image = paint(image, ellipse(f, 0, 0, *inner, soft=0.012), tissue)
    return acquire(image, case, rng.uniform(0.012, 0.022))


def _brain_findings(tissue: np.ndarray, case: Case, rim: np.ndarray, horns: np.ndarray) -> np.ndarray:
    f, lesion = case.frame, case.lesion
    side = lesion.choice([-1, 1])
    if "White Matter Lesions" in case.findings:
        spots = np.zeros(f.shape, np.float32)
        for _ in range(int(lesion.integers(8, 16))):
            cx, cy = lesion.choice([-1, 1]) * lesion.uniform(0.16, 0.40), lesion.uniform(-0.45, 0.48)
            size = lesion.uniform(0.012, 0.032)
            spots = np.maximum(spots, blob(f, cx, cy, size, size * lesion.uniform(1, 1.8), lesion.uniform(0, 3)))
        tissue = paint(tissue, np.clip(1.3 * spots, 0, 1) * (1 - horns), 0.88)
    if "Glioma" in case.findings:
        cx, cy, r = side * lesion.uniform(0.25, 0.40), lesion.uniform(-0.42, 0.40), lesion.uniform(0.12, 0.19)
        away = radius(f, cx, cy, 1, lesion.uniform(0.85, 1.2)) + 0.20 * r * texture(f, lesion, 5)
        tissue = paint(tissue, 0.75 * edge(away - 1.7 * r, 0.10) * edge(rim - 0.9, 0.05), 0.78)
        tissue = paint(tissue, edge(away - r, 0.02), 0.66 + 0.08 * texture(f, lesion, 9))
        tissue = paint(tissue, edge(away - 0.5 * r, 0.03), 0.20)
    if "Meningioma" in case.findings:
        angle, r = lesion.uniform(-1.2, 1.2), lesion.uniform(0.11, 0.18)
        cx, cy = side * 0.60 * np.cos(angle), 0.74 * np.sin(angle)
        mass = edge(radius(f, cx, cy, r, r * 0.9) * r - r, 0.012) * edge(rim - 0.985, 0.01)
        tissue = paint(tissue, edge(radius(f, cx, cy, 1, 1) - r - 0.022, 0.015), 0.14)
        tissue = paint(tissue, mass, 0.70 + 0.015 * texture(f, lesion, 12))
    return tissue
