"""Abdomen CT: liver, spleen and kidneys in one axial slice, with contrast medium."""

import numpy as np

from cbmir.phantoms.canvas import Frame, Sketch, arc, blob, blur, edge, ellipse, fractal, paint, radius, texture, wander
from cbmir.phantoms.catalog import Case
from cbmir.phantoms.ct import AIR, FAT, MUSCLE, couch, rib_ring, scan, vertebra


def draw_abdomen(case: Case) -> np.ndarray:
    """Case -> (h, w) float32 HU, at the level of liver and kidneys; the patient's right is on the left."""
    f, traits, body = case.frame, case.habitus.traits, case.body
    level = float(case.rng.uniform(-1, 1))
    thick = 0.035 + 0.11 * case.habitus.fat
    rx, ry = 1.12, 0.82
    skin = ellipse(f, 0, 0, rx, ry, power=2.3, soft=0.01)
    image = paint(np.full(f.shape, AIR, np.float32), couch(f, 0.93), -300.0)
    image = paint(image, skin, 20.0)
    image = paint(image, ellipse(f, 0, 0, rx - 0.02, ry - 0.02, power=2.3, soft=0.01), FAT + 6 * texture(f, body, 9))
    image = paint(image, ellipse(f, 0, 0.01, rx - thick, ry - thick, power=2.3), MUSCLE)
    cavity = ellipse(f, 0, -0.02, rx - thick - 0.07, ry - thick - 0.07, power=2.2)
    image = paint(image, cavity, FAT + 10)
    for side in (-1, 1):
        image = paint(image, ellipse(f, side * 0.30, 0.53, 0.22, 0.15, side * -0.15), MUSCLE + 5 * texture(f, body, 12))
        image = paint(image, ellipse(f, side * 0.19, 0.33, 0.07, 0.11), MUSCLE)
    image = rib_ring(image, f, rx - thick - 0.05, ry - thick - 0.05, count=12, phase=traits[0])
    image = _bowel(image, f, body, cavity)
    image = _kidneys(image, case, level)
    image = _liver_and_spleen(image, case, cavity, level)
    image = vertebra(image, f, 0.36)
    image = paint(image, ellipse(f, 0.03, 0.17, 0.062, 0.06), 165.0)
    image = paint(image, ellipse(f, -0.13, 0.15, 0.075, 0.05), 145.0)
    return scan(image, case, case.rng.uniform(9, 15))


def _bowel(image: np.ndarray, f: Frame, body: np.random.Generator, cavity: np.ndarray) -> np.ndarray:
    """Stomach with its gas bubble in front, small loops below it."""
    for _ in range(9):
        cx, cy, r = body.uniform(-0.05, 0.62), body.uniform(-0.40, 0.12), body.uniform(0.07, 0.12)
        loop = ellipse(f, cx, cy, r * body.uniform(1, 1.5), r, body.uniform(0, 3)) * cavity
        image = paint(image, loop, 62.0)
        image = paint(image, ellipse(f, cx, cy, r * 0.62, r * 0.55) * cavity, body.choice([18.0, 18.0, -420.0]))
    stomach = ellipse(f, 0.42, -0.40, 0.32, 0.17, 0.25) * cavity
    image = paint(image, stomach, 70.0)
    inside = ellipse(f, 0.42, -0.40, 0.29, 0.14, 0.25) * cavity
    image = paint(image, inside, 22.0)
    return paint(image, inside * edge(f.y + 0.44, 0.008), -900.0)


def _kidneys(image: np.ndarray, case: Case, level: float) -> np.ndarray:
    f, lesion = case.frame, case.lesion
    stone_side = lesion.choice([-1, 1])
    for side in (-1, 1):
        cx, cy = side * (0.46 + 0.02 * case.habitus.traits[1]), 0.30 + (0.03 if side < 0 else 0.0)
        long, wide = 0.20 - 0.025 * level, 0.135
        image = paint(image, ellipse(f, cx, cy, wide + 0.07, long + 0.06), FAT)
        image = paint(image, ellipse(f, cx, cy, wide, long, side * 0.4), 165.0)
        image = paint(image, ellipse(f, cx, cy, wide * 0.66, long * 0.68, side * 0.4, soft=0.04), 105.0)
        pelvis = 0.055
        if "Kidney Stone" in case.findings and side == stone_side:
            pelvis = 0.085
        image = paint(image, ellipse(f, cx - side * 0.05, cy, pelvis, pelvis * 1.1), FAT + 20 if pelvis < 0.06 else 8.0)
        if pelvis > 0.06:
            sx, sy = cx - side * lesion.uniform(0.0, 0.08), cy + lesion.uniform(-0.06, 0.06)
            r = lesion.uniform(0.022, 0.042)
            image = paint(image, ellipse(f, sx, sy, r, r * 0.85, soft=0.012), 900.0)
    return image


def _liver_and_spleen(image: np.ndarray, case: Case, cavity: np.ndarray, level: float) -> np.ndarray:
    f, body, lesion, traits = case.frame, case.body, case.lesion, case.habitus.traits
    sketch = Sketch(f)
    reach = 0.30 + 0.12 * traits[2] - 0.12 * level
    sketch.fill([*arc((-1.3, -0.5), (-0.6, -1.0), (0.1, -0.75), (reach, -0.42)), *arc((reach, -0.42), (-0.1, -0.30), (-0.18, 0.02)),
                 *arc((-0.18, 0.02), (-0.34, 0.10), (-0.42, 0.12)), *arc((-0.42, 0.12), (-0.62, 0.2), (-0.80, 0.62)), (-1.3, 0.5)])  # fmt: skip
    inner = blur(cavity, 1.0) * ellipse(
        f, 0, -0.02, 0.99 - 0.11 * case.habitus.fat, 0.70 - 0.11 * case.habitus.fat, power=2.2
    )
    liver = blur(sketch.mask(), 1.0) * inner
    spleen = ellipse(f, 0.80, 0.22, 0.20, 0.34 - 0.03 * level, 0.35) * inner
    spleen *= 1 - ellipse(f, 0.56, 0.22, 0.16, 0.28)
    if "Free Fluid" in case.findings:
        image = _free_fluid(image, case, liver, spleen, cavity)
    parenchyma = 108.0 + 7 * fractal(f, body, 6, 2)
    vessels = Sketch(f)
    for heading in (2.6, 3.3, 3.9, 4.4):
        vessels.line(wander(body, (-0.25, -0.10), heading, body.uniform(0.35, 0.6)), body.uniform(0.025, 0.04))
    image = paint(image, liver, parenchyma + 42 * blur(vessels.mask(), 0.8))
    image = paint(image, spleen, 128.0 + 5 * texture(f, body, 9))
    if "Liver Lesion" in case.findings:
        for _ in range(int(lesion.integers(1, 4))):
            r = lesion.uniform(0.055, 0.14)
            cx, cy = lesion.uniform(-0.78, -0.38), lesion.uniform(-0.42, 0.05)
            image = paint(
                image, liver * ellipse(f, cx, cy, r, r * lesion.uniform(0.8, 1.1), soft=0.03), lesion.uniform(15, 60)
            )
    return image


def _free_fluid(image: np.ndarray, case: Case, liver: np.ndarray, spleen: np.ndarray, cavity: np.ndarray) -> np.ndarray:
    """Fluid pushes the organs off the wall (the masks shrink in place) and fills the flanks."""
    f = case.frame
    amount = case.lesion.uniform(0.06, 0.11)
    inside = radius(f, 0, -0.02, 0.98 - 0.11 * case.habitus.fat, 0.69 - 0.11 * case.habitus.fat, power=2.2)
    rind = cavity * edge(1 - amount - inside, 0.03) * edge(0.5 - np.abs(f.x), 0.1)
    gutters = np.maximum(blob(f, -0.62, 0.36, 0.12, 0.16), blob(f, 0.62, 0.40, 0.12, 0.14)) > 0.55
    fluid = np.maximum(rind, blur(gutters.astype(np.float32), 1.0) * cavity)
    image = paint(image, fluid, 9.0)
    liver *= 1 - rind
    spleen *= 1 - rind
    return image
