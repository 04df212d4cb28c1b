"""Hand radiograph: bones as tapered outlines with a bright cortex, in a soft-tissue glove."""

from dataclasses import dataclass

import numpy as np

from cbmir.phantoms.canvas import Points, Sketch, arc, blur, fractal
from cbmir.phantoms.catalog import Case


@dataclass(frozen=True)
class Bone:
    """From start to end (body units), half as wide as `width` at its waist; name: finger number and segment."""

    name: str
    start: tuple[float, float]
    end: tuple[float, float]
    width: float


# Per finger (index to little): metacarpal base, knuckle, lengths of the three phalanges, heading in degrees from up.
FINGERS = (
    ((-0.20, 0.56), (-0.33, -0.02), (0.38, 0.24, 0.17), -11),
    ((-0.06, 0.54), (-0.09, -0.08), (0.43, 0.28, 0.18), -2),
    ((0.08, 0.56), (0.14, -0.01), (0.40, 0.27, 0.18), 7),
    ((0.20, 0.60), (0.36, 0.12), (0.31, 0.19, 0.16), 18),
)
THUMB = ((-0.28, 0.60), (-0.55, 0.26), (-0.70, -0.03), (-0.76, -0.26))
CARPALS = (
    (-0.26, 0.70, 0.07),
    (-0.12, 0.68, 0.07),
    (0.01, 0.67, 0.09),
    (0.15, 0.70, 0.08),
    (-0.18, 0.83, 0.09),
    (-0.02, 0.83, 0.08),
    (0.13, 0.84, 0.07),
)


def draw_hand(case: Case) -> np.ndarray:
    """Case -> (h, w) float32, 0 black .. 1 white."""
    f, rng = case.frame, case.rng
    bones = _skeleton(case)
    glove = Sketch(f)
    _draw_glove(glove, bones)
    flesh = blur(glove.mask(), 3.0)
    bone = _draw_bones(case, bones)
    grain = 1 + 0.10 * fractal(f, case.body, 16, 2)
    grey = 0.05 + 0.30 * flesh * (1 + 0.05 * fractal(f, case.body, 4, 2)) + 0.55 * bone * grain
    grey = blur(grey.astype(np.float32), 0.6) * rng.uniform(0.9, 1.12)
    noise = rng.standard_normal(f.shape, dtype=np.float32) * np.float32(0.012)
    return np.clip(grey ** np.float32(rng.uniform(0.85, 1.1)) + noise, 0, 1).astype(np.float32)


def _skeleton(case: Case) -> list[Bone]:
    spread = 1 + 0.15 * case.habitus.traits[0] + case.rng.normal(0, 0.06)
    bones = []
    for number, (base, knuckle, lengths, degrees) in enumerate(FINGERS, start=2):
        bones.append(Bone(f"{number}-0", base, knuckle, 0.122))
        heading = np.radians(degrees * spread + case.rng.normal(0, 1.5))
        step = np.array([np.sin(heading), -np.cos(heading)])
        at = np.array(knuckle) + 0.035 * step
        for segment, length in enumerate(lengths, start=1):
            end = at + length * step
            bones.append(Bone(f"{number}-{segment}", tuple(at), tuple(end), 0.122 - 0.019 * segment))
            at = end + 0.025 * step
    for segment in range(3):
        (x0, y0), (x1, y1) = THUMB[segment], THUMB[segment + 1]
        bones.append(
            Bone(f"1-{segment}", (x0, y0), (x1 + 0.07 * (x0 - x1), y1 + 0.07 * (y0 - y1)), 0.130 - 0.015 * segment)
        )
    return bones


def _draw_glove(glove: Sketch, bones: list[Bone]) -> None:
    for bone in bones:
        glove.line([bone.start, bone.end], 0.25 if bone.name.endswith("-0") else 0.195)
    glove.fill(
        [(-0.40, 0.0), (-0.1, -0.12), (0.2, -0.1), (0.45, 0.1), (0.34, 0.75), (0.30, 1.7), (-0.32, 1.7), (-0.42, 0.6)]
    )
    glove.fill(arc((-0.42, 0.05), (-0.5, 0.35), (-0.66, 0.3), (-0.36, 0.85)))


def _draw_bones(case: Case, bones: list[Bone]) -> np.ndarray:
    sketch, lesion = Sketch(case.frame), case.lesion
    broken = str(lesion.choice(["2-0", "3-0", "4-0", "5-0", "5-0", "2-1", "3-1", "4-1", "5-1"]))
    worn = set(lesion.choice(["2", "3", "4", "5"], 2 + int(lesion.integers(3)) // 2, replace=False).tolist())
    for outline, value in (
        (_radius_outline(), 1.0),
        (_radius_outline(0.72), 0.62),
        (_ulna_outline(), 1.0),
        (_ulna_outline(0.7), 0.62),
    ):
        sketch.fill(outline, value)
    for x, y, r in CARPALS:
        sketch.line([(x, y - 0.01), (x, y + 0.01)], 2 * r, 0.85)
        sketch.line([(x, y - 0.01), (x, y + 0.01)], 1.6 * r, 0.66)
    for bone in bones:
        if "Fracture" in case.findings and bone.name == broken:
            _draw_fracture(sketch, bone, lesion)
        else:
            _draw_bone(sketch, bone)
        if "Osteophyte" in case.findings and bone.name[0] in worn and bone.name[2] in "12":
            _draw_spurs(sketch, bone, lesion)
    return blur(sketch.mask(), 0.7)


def _outline(bone: Bone, scale: float) -> Points:
    start, end = np.array(bone.start), np.array(bone.end)
    along = end - start
    across = np.array([-along[1], along[0]]) / np.hypot(*along)
    t = np.linspace(0, 1, 22)
    flare = np.abs(2 * t - 1)
    half = bone.width * scale * 0.5 * (0.60 + 0.40 * flare**2.5) * np.sqrt(np.clip(1 - flare**10, 0, 1))
    t = 0.5 + (t - 0.5) * (0.90 + 0.10 * scale)
    spine = start + t[:, None] * along
    sides = np.concatenate([spine + half[:, None] * across, (spine - half[:, None] * across)[::-1]])
    return [(float(px), float(py)) for px, py in sides]


def _draw_bone(sketch: Sketch, bone: Bone) -> None:
    sketch.fill(_outline(bone, 1.0), 1.0)
    sketch.fill(_outline(bone, 0.58), 0.60)


def _draw_fracture(sketch: Sketch, bone: Bone, lesion: np.random.Generator) -> None:
    """Two fragments with a dark gap; the far one is tilted and slipped sideways."""
    start, end = np.array(bone.start), np.array(bone.end)
    along = end - start
    length = np.hypot(*along)
    across = np.array([-along[1], along[0]]) / length
    cut = start + lesion.uniform(0.35, 0.62) * along
    _draw_bone(sketch, bone)
    tilt = lesion.choice([-1, 1]) * lesion.uniform(0.10, 0.28)
    slip = across * lesion.choice([-1, 1]) * lesion.uniform(0.012, 0.030)
    near, far = cut - 0.6 * bone.width * across, cut + 0.6 * bone.width * across
    sketch.line([tuple(cut), bone.end], bone.width * 1.05, 0.0)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    shaft = turn @ (end - cut)
    sideways = np.array([-shaft[1], shaft[0]]) / np.hypot(*shaft)
    for scale, value in ((1.0, 1.0), (0.58, 0.60)):
        narrow, wide = 0.32 * bone.width * scale, 0.5 * bone.width * scale
        head, foot = cut + slip + shaft, cut + slip + 0.02 * along / length
        quad = [
            foot - narrow * sideways,
            head - 0.05 * shaft - wide * sideways,
            head,
            head - 0.05 * shaft + wide * sideways,
        ]
        sketch.fill([(float(px), float(py)) for px, py in [*quad, foot + narrow * sideways]], value)
    jag = lesion.uniform(-0.04, 0.04) * along / length
    sketch.line([tuple(near + jag), tuple(far - jag)], 0.016, 0.15)


def _draw_spurs(sketch: Sketch, bone: Bone, lesion: np.random.Generator) -> None:
    """Bony lips on both sides of the far joint, and a joint space that has all but gone."""
    start, end = np.array(bone.start), np.array(bone.end)
    along = (end - start) / np.hypot(*(end - start))
    across = np.array([-along[1], along[0]])
    sketch.line([tuple(end - 0.01 * along), tuple(end + 0.02 * along)], bone.width * 0.7, 0.8)
    for side in (-1, 1):
        size = lesion.uniform(0.28, 0.45) * bone.width
        lip = end + side * across * bone.width * 0.52
        sketch.line([tuple(end), tuple(lip + side * 0.25 * size * across - 0.3 * size * along)], 0.7 * size, 1.0)


def _radius_outline(scale: float = 1.0) -> Points:
    half = [(0.16, 0.92), (0.15, 1.02), (0.10, 1.2), (0.09, 1.8)]
    right = [(-0.13 + w * scale, y + 0.02 * (1 - scale)) for w, y in half]
    return [*right, *[(-0.13 - w * scale, y) for w, y in reversed(half)]]


def _ulna_outline(scale: float = 1.0) -> Points:
    half = [(0.07, 0.96), (0.075, 1.02), (0.055, 1.15), (0.05, 1.8)]
    return [*[(0.17 + w * scale, y) for w, y in half], *[(0.17 - w * scale, y) for w, y in reversed(half)]]
