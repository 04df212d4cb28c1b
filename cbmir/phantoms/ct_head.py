"""Head CT: skull, ventricles and the faint contrast of grey and white matter in one axial slice."""

import numpy as np

from cbmir.phantoms.brain import brain_folds, ventricles
from cbmir.phantoms.canvas import edge, ellipse, paint, radius, ring, texture
from cbmir.phantoms.catalog import Case
from cbmir.phantoms.ct import AIR, scan


def draw_head(case: Case) -> np.ndarray:
    """Case -> (h, w) float32 HU, at the level of the lateral ventricles; the face is up."""
    f, traits, body, rng = case.frame, case.habitus.traits, case.body, case.rng
    rx, ry = 0.76 + 0.02 * traits[0], 0.93
    image = np.full(f.shape, AIR, np.float32)
    image = paint(image, ring(f, 0, 0.10, 0.92, 1.02, 0.03) * edge(0.35 - f.y, 0.05), -600.0)
    image = paint(image, ellipse(f, 0, 0, rx + 0.05, ry + 0.05, soft=0.01), 35.0)
    image = paint(image, ellipse(f, 0, 0, rx, ry, soft=0.012), 1100.0 + 60 * texture(f, body, 6))
    brain = ellipse(f, 0, 0, rx - 0.075, ry - 0.085, soft=0.012)
    rim = radius(f, 0, 0, rx - 0.075, ry - 0.085)
    cortex, sulci = brain_folds(f, body, rim)
    ageing = 0.5 + 0.3 * traits[1]
    tissue = 25.0 + 12 * cortex - 20 * ageing * sulci
    tissue = tissue + 9 * sum(ellipse(f, s * 0.17, 0.02, 0.08, 0.15, s * -0.3, soft=0.04) for s in (-1, 1))
    horns = ventricles(f, rng.uniform(0.8, 1.2) * (1 + 0.18 * traits[2]))
    tissue = paint(tissue, horns, 6.0)
    falx = edge(np.abs(f.x + 0.01 * np.sin(4 * f.y)) - 0.008, 0.008) * edge(0.45 - np.abs(f.y), 0.03)
    tissue = paint(tissue, falx, 55.0)
    tissue = _head_findings(tissue, case, rim)
    image = paint(image, brain, tissue)
    return scan(image, case, rng.uniform(2.0, 3.2), 0.8)


def _head_findings(tissue: np.ndarray, case: Case, rim: np.ndarray) -> np.ndarray:
    f, lesion = case.frame, case.lesion
    side = lesion.choice([-1, 1])
    if "Hemorrhage" in case.findings and lesion.random() < 0.4:
        depth = lesion.uniform(0.12, 0.20)
        crescent = edge(1 - depth * np.cos(1.1 * (f.y - lesion.uniform(-0.25, 0.25))) - rim, 0.02)
        tissue = paint(tissue, crescent * edge(0.12 - side * f.x, 0.05) * edge(np.abs(f.y) - 0.62, 0.1), 66.0)
    elif "Hemorrhage" in case.findings:
        cx, cy, r = side * lesion.uniform(0.22, 0.42), lesion.uniform(-0.35, 0.35), lesion.uniform(0.09, 0.18)
        wobble = r * 0.16 * texture(f, lesion, 5)
        bleed = radius(f, cx, cy, 1, lesion.uniform(0.8, 1.3)) - r + wobble
        tissue = paint(tissue, 0.8 * edge(bleed - 0.06, 0.06), 19.0)
        tissue = paint(tissue, edge(bleed, 0.015), 68.0)
    if "Infarct" in case.findings:
        angle = lesion.uniform(-0.9, 0.9)
        bearing = np.arctan2(f.y, side * f.x) - angle + 0.10 * texture(f, lesion, 4)
        wedge = edge(np.abs(bearing) - lesion.uniform(0.35, 0.55), 0.10) * edge(0.42 - rim, 0.06)
        tissue = paint(tissue, 0.85 * wedge, 17.0)
    return tissue
