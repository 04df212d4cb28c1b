"""Chest radiograph, frontal: a soft sum of attenuations, shown as film shows it (dense is bright)."""

import numpy as np

from cbmir.phantoms.canvas import Frame, Sketch, arc, blob, blur, edge, ellipse, fractal, paint, texture, wander
from cbmir.phantoms.catalog import Case

# Attenuation, chosen for the look of a film: soft tissue of the chest wall = 1.
LUNG, HEART, SPINE, BELLY = 0.80, 0.62, 0.22, 0.75


def draw_chest(case: Case) -> np.ndarray:
    """Case -> (h, w) float32, 0 black .. 1 white."""
    f, traits = case.frame, case.habitus.traits
    right, left = _lung(f, -1, traits), _lung(f, 1, traits)
    lungs = np.maximum(right, left)
    wall = _torso(f, case)
    heart = _heart(f, case)
    dense = wall * (0.92 + 0.25 * case.habitus.fat * np.clip(f.y + 0.2, 0, 1)) - LUNG * lungs * wall
    dense += HEART * heart * (0.35 + 0.65 * lungs) + _mediastinum(f, traits)
    dense += BELLY * np.clip(f.y - 0.38, 0, 0.5) * wall * (1 - lungs)
    vessels = _vessels(f, case.body) * lungs
    dense += 0.05 * lungs * fractal(f, case.body, 9, 3)
    dense = _add_findings(dense, case, lungs, vessels)
    dense += _bones(f, case) * wall
    return _expose(dense, case)


def _torso(f: Frame, case: Case) -> np.ndarray:
    slope = 0.06 * case.habitus.traits[0]
    sketch = Sketch(f)
    for side in (-1, 1):
        shoulder = arc(
            (0, -1.4), (side * 0.2, -1.4), (side * 0.17, -0.82), (side * 0.75, -0.80 + slope), (side * 1.0, -0.5)
        )
        flank = arc((side * 1.0, -0.5), (side * 1.02, 0.2), (side * (0.92 + 0.1 * case.habitus.fat), 1.6))
        sketch.fill([*shoulder, *flank, (0, 1.6)])
        sketch.line([(side * 0.98, -0.50), (side * 1.22, 0.5)], 0.34)
    return blur(sketch.mask(), 2.5)


def _lung(f: Frame, side: int, traits: tuple[float, ...]) -> np.ndarray:
    base = 0.52 + 0.07 * traits[1] + (0.05 if side > 0 else 0.0)
    apex, broad = -0.76 + 0.03 * traits[2], 0.80 + 0.03 * traits[3]
    lateral = arc((side * 0.28, apex), (side * 0.62, apex + 0.05), (side * broad, -0.1), (side * broad, base + 0.10))
    dome = arc((side * broad, base + 0.10), (side * 0.60, base - 0.22), (side * 0.30, base - 0.24), (side * 0.10, base))
    medial = arc(
        (side * 0.10, base), (side * 0.10, 0.0), (side * 0.16, -0.3), (side * 0.12, apex + 0.1), (side * 0.28, apex)
    )
    sketch = Sketch(f)
    sketch.fill([*lateral, *dome, *medial])
    return blur(sketch.mask(), 1.6)


def _heart(f: Frame, case: Case) -> np.ndarray:
    size = 1.0 + 0.07 * case.habitus.traits[4] + (0.06 if case.view == "AP" else 0.0)
    if "Cardiomegaly" in case.findings:
        size *= case.lesion.uniform(1.28, 1.5)
    sketch = Sketch(f)
    reach, low = 0.10 + 0.36 * size, 0.52
    edge_left = arc((0.05, -0.25), (0.24, -0.18), (0.22, 0.05), (reach + 0.12, 0.12), (reach, low))
    edge_right = arc(
        (reach, low), (0.1, low + 0.12), (-0.12 - 0.22 * size, low), (-0.10 - 0.20 * size, 0.0), (-0.08, -0.25)
    )
    sketch.fill([*edge_left, *edge_right])
    return blur(sketch.mask(), 2.5)


def _mediastinum(f: Frame, traits: tuple[float, ...]) -> np.ndarray:
    column = blob(f, 0, 0, 0.10, 9.0)
    vessels = 0.30 * edge(np.abs(f.x) - 0.13, 0.06) * edge(np.abs(f.y + 0.25) - 0.42, 0.2)
    knob = 0.22 * ellipse(f, 0.15, -0.36 + 0.03 * traits[5], 0.10, 0.10, soft=0.03)
    trachea = -0.22 * edge(np.abs(f.x + 0.01) - 0.045, 0.03) * edge(f.y + 0.28, 0.12)
    hila = 0.24 * (blob(f, -0.20, -0.10, 0.07, 0.12) + blob(f, 0.20, -0.13, 0.07, 0.11))
    return SPINE * column + vessels + knob + trachea + hila


def _vessels(f: Frame, body: np.random.Generator) -> np.ndarray:
    sketch = Sketch(f)
    for side in (-1, 1):
        for angle in np.linspace(-1.15, 1.25, 9) + body.normal(0, 0.1, 9):
            heading = angle if side > 0 else np.pi - angle
            trunk = wander(body, (side * 0.17, -0.10), heading, body.uniform(0.35, 0.6))
            for i in range(len(trunk) - 1):
                sketch.line(trunk[i : i + 2], 0.042 * (1 - i / 7), 0.9 - 0.1 * i)
            branch = wander(body, trunk[3], heading + body.choice([-0.5, 0.5]), 0.28)
            sketch.line(branch, 0.012, 0.5)
    return blur(sketch.mask(), 1.3)


def _bones(f: Frame, case: Case) -> np.ndarray:
    bend = 0.03 * case.habitus.traits[6]
    ribs, rims = Sketch(f), Sketch(f)
    for side in (-1, 1):
        for i in range(9):
            y, out = -0.68 + 0.145 * i, min(0.50 + 0.075 * i, 0.84)
            back = arc(
                (side * 0.07, y),
                (side * out * 0.6, y - 0.10 + bend),
                (side * out * 1.12, y + 0.02),
                (side * out, y + 0.26),
            )
            rims.line(back, 0.062)
            rims.line(back, 0.042, 0.35)
            if 1 < i < 8:
                front = arc((side * out, y + 0.05), (side * out * 0.8, y + 0.30), (side * 0.30, y + 0.42))
                ribs.line(front, 0.050, 0.55)
        clavicle = arc((side * 0.08, -0.56), (side * 0.30, -0.70), (side * 0.5, -0.60), (side * 0.85, -0.78))
        rims.line(clavicle, 0.075)
        rims.line(clavicle, 0.045, 0.55)
        ribs.line(arc((side * 0.92, -0.7), (side * 0.7, -0.2), (side * 0.86, 0.1)), 0.05, 0.4)
    discs = Sketch(f)
    for y in np.arange(-0.9, 1.0, 0.115):
        discs.line([(-0.075, y), (0.075, y)], 0.025, 0.5)
    return blur(0.20 * rims.mask() + 0.11 * ribs.mask(), 0.9) - 0.10 * blur(discs.mask(), 1.2)


def _add_findings(dense: np.ndarray, case: Case, lungs: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Lay vessels and findings over the attenuation; a collapsed lung takes its vessels along."""
    f, lesion = case.frame, case.lesion
    side = lesion.choice([-1, 1])
    half = lungs * (np.sign(f.x) == side)
    if "Pneumothorax" in case.findings:
        free, pleura = _pneumothorax(f, lesion, side)
        dense = dense - 0.10 * free * half + 0.16 * pleura * half
        vessels = vessels * (1 - free * half)
    dense = dense + 0.30 * vessels
    if "Effusion" in case.findings:
        level = lesion.uniform(0.10, 0.36)
        rise = 0.55 * np.clip(np.abs(f.x) - 0.35, 0, 1) ** 2
        opaque = np.maximum(dense, lesion.uniform(0.95, 1.08) + 0.25 * np.clip(f.y - level, 0, 1))
        # Times 4: fluid fills the soft rim of the lung too, else a dark line is left around it.
        dense = paint(dense, np.clip(4 * half, 0, 1) * edge(level - rise - f.y, 0.05), opaque)
    if "Consolidation" in case.findings:
        cx, cy = side * lesion.uniform(0.32, 0.58), lesion.uniform(-0.40, 0.28)
        spread = blob(f, cx, cy, lesion.uniform(0.13, 0.20), lesion.uniform(0.12, 0.18))
        patchy = np.clip(spread * (1.25 + 0.45 * texture(f, lesion, 11)) - 0.2, 0, 0.85)
        dense = dense + half * patchy * (0.62 - 0.35 * blur(vessels, 1.0))
    if "Nodule" in case.findings:
        cx, cy, r = side * lesion.uniform(0.33, 0.62), lesion.uniform(-0.5, 0.22), lesion.uniform(0.045, 0.085)
        dense = dense + 0.34 * ellipse(f, cx, cy, r, r * lesion.uniform(0.85, 1.1), soft=0.025)
    return dense


def _pneumothorax(f: Frame, lesion: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Free air and the visceral pleural line: outside of a shrunken lung."""
    shrink = lesion.uniform(0.74, 0.88)
    gap = ellipse(f, side * 0.30, 0.12, 0.52 * shrink, 0.85 * shrink, soft=0.012)
    return 1 - gap, 4 * gap * (1 - gap)


def _expose(dense: np.ndarray, case: Case) -> np.ndarray:
    rng = case.rng
    grey = 1 - np.exp(-rng.uniform(1.15, 1.4) * np.clip(dense, 0.02, None))
    grey = blur(grey.astype(np.float32), 0.6)
    grain = rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(rng.uniform(0.008, 0.016))
    grey = np.clip((grey - 0.03) * rng.uniform(1.08, 1.2) + rng.normal(0, 0.015), 0, 1)
    return np.clip(grey ** np.float32(rng.uniform(0.95, 1.2)) + grain, 0, 1).astype(np.float32)
