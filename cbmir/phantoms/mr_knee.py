"""Knee MR, sagittal and proton-density weighted: marrow and fluid bright, cortex, tendon and meniscus dark."""

import numpy as np

from cbmir.phantoms.canvas import Frame, Sketch, arc, blob, blur, edge, ellipse, fractal, paint, texture, wander
from cbmir.phantoms.catalog import Case
from cbmir.phantoms.mr import acquire


def draw_knee(case: Case) -> np.ndarray:
    """Case -> (h, w) float32, 0 no signal .. about 1; fat and marrow bright, tendon and meniscus dark; the front is left."""
    f, traits, body, rng = case.frame, case.habitus.traits, case.body, case.rng
    image = 0.85 * _leg(f, 0.0, case.habitus.fat) * (1 + 0.05 * texture(f, body, 5))
    image = paint(image, _leg(f, 0.035 + 0.09 * case.habitus.fat, case.habitus.fat), _muscle(f, body))
    image = paint(image, ellipse(f, -0.42, 0.16, 0.20, 0.32, -0.35, soft=0.05), 0.80)
    image = _tendons(image, f)
    femur, tibia, patella = _knee_bones(f, traits)
    joint = blur(np.maximum(_capsule(f), 0), 1.0)
    if "Effusion" in case.findings:
        image = _effusion(image, case)
    image = paint(image, joint, 0.55)
    for bone in (femur, tibia, patella):
        image = paint(image, blur(bone, 1.0), 0.10)
        core = np.clip(2.6 * blur(bone, 2.6) - 1.55, 0, 1)
        image = paint(image, core, 0.70 + 0.045 * fractal(f, body, 10, 3))
    image = paint(image, 0.6 * blob(f, 0.05, 0.50, 0.30, 0.012), 0.3)
    return acquire(_menisci(image, case), case, rng.uniform(0.015, 0.028))


def _leg(f: Frame, inset: float, fat: float) -> np.ndarray:
    """The leg's outline, `inset` body units inside the skin."""
    front = -0.66 - 0.10 * np.exp(-(((f.y + 0.12) / 0.28) ** 2)) + inset
    back = 0.70 + 0.06 * fat + 0.16 * np.clip(np.abs(f.y - 0.02) - 0.1, 0, 1) ** 1.2 - 1.4 * inset
    return edge(front - f.x, 0.015) * edge(f.x - back, 0.015)


def _muscle(f: Frame, body: np.random.Generator) -> np.ndarray:
    fibers = texture(f, body, 14, aspect=0.2)
    planes = np.exp(-((texture(f, body, 2.2, aspect=0.25) / 0.10) ** 2))
    return 0.36 + 0.03 * fibers + 0.32 * planes * (f.x > 0.3)


def _tendons(image: np.ndarray, f: Frame) -> np.ndarray:
    sketch = Sketch(f)
    sketch.line(arc((-0.50, -1.5), (-0.52, -0.9), (-0.60, -0.42)), 0.055)
    sketch.line(arc((-0.66, -0.08), (-0.62, 0.25), (-0.46, 0.62)), 0.05)
    return paint(image, blur(sketch.mask(), 0.8), 0.08)


def _knee_bones(f: Frame, traits: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks of femur, tibia and patella."""
    size = 1 + 0.04 * traits[1]
    femur, tibia, patella = Sketch(f), Sketch(f), Sketch(f)
    front = arc((-0.30, -1.6), (-0.26, -0.8), (-0.34, -0.55), (-0.50 * size, -0.38), (-0.44 * size, 0.04))
    under = arc((-0.44 * size, 0.04), (-0.25, 0.28), (0.28, 0.30), (0.50 * size, 0.02))
    behind = arc((0.50 * size, 0.02), (0.56 * size, -0.38), (0.22, -0.42), (0.20, -0.8), (0.16, -1.6))
    femur.fill([*front, *under, *behind])
    plateau = [(-0.44, 0.36), (-0.30, 0.275), (0.34, 0.30), (0.46, 0.37)]
    tibia.fill(
        [
            *plateau,
            *arc((0.46, 0.37), (0.42, 0.60), (0.24, 0.75), (0.20, 1.7)),
            *arc((-0.26, 1.7), (-0.28, 0.9), (-0.46, 0.62), (-0.44, 0.36)),
        ]
    )
    patella.fill(
        [
            *arc((-0.62, -0.44), (-0.74, -0.28), (-0.68, -0.08), (-0.60, -0.06)),
            *arc((-0.60, -0.06), (-0.52, -0.2), (-0.52, -0.32), (-0.62, -0.44)),
        ]
    )
    return femur.mask(), tibia.mask(), patella.mask()


def _capsule(f: Frame) -> np.ndarray:
    """Cartilage and joint space between femur and tibia, and behind the patella."""
    sketch = Sketch(f)
    sketch.line(arc((-0.46, 0.02), (-0.22, 0.30), (0.26, 0.33), (0.52, 0.02)), 0.13)
    sketch.line(arc((-0.50, -0.38), (-0.56, -0.2), (-0.48, 0.0)), 0.08)
    sketch.line([(-0.40, 0.33), (0.42, 0.34)], 0.08)
    return sketch.mask()


def _effusion(image: np.ndarray, case: Case) -> np.ndarray:
    """Bright fluid in the pouch above the patella and behind it."""
    lesion, sketch = case.lesion, Sketch(case.frame)
    amount, top = lesion.uniform(0.12, 0.21), lesion.uniform(-0.92, -0.72)
    sketch.line(arc((-0.40, top), (-0.46, -0.62), (-0.47, -0.45)), amount)
    sketch.line(arc((-0.47, -0.45), (-0.54, -0.2), (-0.48, 0.10)), 0.7 * amount)
    sketch.line(arc((0.50, 0.10), (0.58, 0.2), (0.56, 0.32)), 0.5 * amount)
    return paint(image, blur(sketch.mask(), 1.2), 1.0)


def _menisci(image: np.ndarray, case: Case) -> np.ndarray:
    """Dark wedges in front and behind; a tear is a bright line through one of them."""
    wedges, tear, lesion = Sketch(case.frame), Sketch(case.frame), case.lesion
    wedges.fill([(-0.47, 0.155), (-0.45, 0.305), (-0.18, 0.265)])
    wedges.fill([(0.50, 0.130), (0.48, 0.335), (0.17, 0.285)])
    image = paint(image, blur(wedges.mask(), 0.7), 0.06)
    if "Meniscal Tear" not in case.findings:
        return image
    x0, x1 = (0.25, 0.49) if lesion.random() < 0.75 else (-0.25, -0.46)
    slope = lesion.uniform(-0.05, 0.05)
    tear.line(
        wander(lesion, (x0, 0.265 - slope), np.arctan2(slope, x1 - x0), abs(x1 - x0), bend=0.15),
        lesion.uniform(0.028, 0.04),
    )
    return paint(image, blur(tear.mask() * np.clip(wedges.mask() + 0.3, 0, 1), 0.6), 0.95)
