"""Chest CT: two lungs full of vessels around heart, aorta and spine in one axial slice."""

import numpy as np

from cbmir.phantoms.canvas import Frame, Sketch, blur, edge, ellipse, fractal, paint, radius, texture, wander
from cbmir.phantoms.catalog import Case
from cbmir.phantoms.ct import AIR, FAT, MUSCLE, couch, rib_ring, scan, vertebra


def draw_thorax(case: Case) -> np.ndarray:
    """Case -> (h, w) float32 HU, at the level of the heart's upper half."""
    f, traits, body, rng = case.frame, case.habitus.traits, case.body, case.rng
    level = float(rng.uniform(-1, 1))
    thick = 0.04 + 0.07 * case.habitus.fat
    image = paint(np.full(f.shape, AIR, np.float32), couch(f, 0.90), -300.0)
    image = paint(image, ellipse(f, 0, 0, 1.20, 0.80, power=2.5, soft=0.01), 20.0)
    image = paint(image, ellipse(f, 0, 0, 1.18, 0.78, power=2.5, soft=0.01), FAT)
    image = paint(image, ellipse(f, 0, 0, 1.18 - thick, 0.78 - thick, power=2.4), MUSCLE + 12 * texture(f, body, 8))
    image = paint(image, ellipse(f, 0, 0, 0.98, 0.67, power=2.3), 30.0)
    image = rib_ring(image, f, 0.99, 0.67, count=15, phase=traits[0])
    for side in (-1, 1):
        image = paint(image, ellipse(f, side * 0.72, 0.60, 0.22, 0.025, side * -0.5), 350.0)
    lungs = _lungs(f, traits)
    air = -845.0 + 70 * np.clip(f.y, -0.6, 0.6) + 18 * fractal(f, body, 8, 3)
    image = paint(image, lungs, _lung_findings(air, case) + 700 * _lung_vessels(f, body))
    if "Nodule" in case.findings:
        image = _lung_nodule(image, case, lungs)
    image = _mediastinum(image, f, level, traits)
    image = vertebra(image, f, 0.44, 0.95)
    image = paint(image, ellipse(f, 0, -0.64, 0.13, 0.035), 320.0)
    return scan(image, case, rng.uniform(16, 26), 0.6)


def _lungs(f: Frame, traits: tuple[float, ...]) -> np.ndarray:
    masks = []
    for side in (-1, 1):
        whole = ellipse(f, side * 0.53, 0.0, 0.41, 0.60 + 0.02 * traits[1], side * -0.05, power=2.3, soft=0.012)
        masks.append(whole * (1 - ellipse(f, side * 0.03, 0.38, 0.27, 0.25)))
    return np.maximum(*masks)


def _lung_vessels(f: Frame, body: np.random.Generator) -> np.ndarray:
    sketch = Sketch(f)
    for side in (-1, 1):
        for angle in np.linspace(-1.3, 1.3, 9) + body.normal(0, 0.12, 9):
            heading = angle if side > 0 else np.pi - angle
            trunk = wander(body, (side * 0.24, 0.02), heading, body.uniform(0.40, 0.62))
            for i in range(len(trunk) - 1):
                sketch.line(trunk[i : i + 2], 0.040 * (1 - i / 7), 1 - 0.08 * i)
            sketch.line(wander(body, trunk[3], heading + body.choice([-0.6, 0.6]), 0.2), 0.012, 0.7)
    for cx, cy in zip(body.uniform(-0.85, 0.85, 40), body.uniform(-0.5, 0.5, 40), strict=True):
        sketch.line([(cx, cy), (cx + 0.004, cy)], body.uniform(0.010, 0.022), 0.7)
    return blur(sketch.mask(), 0.6)


def _mediastinum(image: np.ndarray, f: Frame, level: float, traits: tuple[float, ...]) -> np.ndarray:
    image = paint(image, ellipse(f, 0.0, -0.08, 0.21, 0.47), -60.0)
    heart = 0.26 + 0.04 * traits[2] + 0.03 * level
    image = paint(image, ellipse(f, 0.13, -0.20, heart + 0.10, heart, -0.45, soft=0.015), 50.0)
    image = paint(image, ellipse(f, 0.20, -0.20, heart * 0.62, heart * 0.50, -0.45, soft=0.04), 130.0)
    image = paint(image, ellipse(f, -0.05, -0.17, 0.10, 0.11, soft=0.02), 140.0)
    for cx, cy, r in ((0.14, 0.31, 0.085), (-0.20, 0.02, 0.08), (0.22, 0.06, 0.07)):
        image = paint(image, ellipse(f, cx, cy, r, r), 140.0)
    for side in (-1, 1):
        image = paint(image, ellipse(f, side * 0.13, 0.13, 0.055, 0.05), 60.0)
        image = paint(image, ellipse(f, side * 0.13, 0.13, 0.042, 0.036), -950.0)
    return image


def _lung_findings(air: np.ndarray, case: Case) -> np.ndarray:
    """Emphysema: holes of pure air that run together, and a darker lung between."""
    if "Emphysema" not in case.findings:
        return air
    holes = texture(case.frame, case.lesion, 11) + 0.6 * texture(case.frame, case.lesion, 4)
    return paint(air - 35, edge(0.55 - holes, 0.25), -1005.0)


def _lung_nodule(image: np.ndarray, case: Case, lungs: np.ndarray) -> np.ndarray:
    f, lesion = case.frame, case.lesion
    side = lesion.choice([-1, 1])
    cx, cy, r = side * lesion.uniform(0.45, 0.78), lesion.uniform(-0.35, 0.25), lesion.uniform(0.045, 0.085)
    spikes = 0.25 * r * texture(f, lesion, 12)
    return paint(image, lungs * edge(radius(f, cx, cy, 1, 1) - r + spikes, 0.02), 40.0)
