"""One row -> its pixels: poses the patient, calls the region's drawing function, burns in a side marker."""

import numpy as np

from cbmir.phantoms.canvas import Sketch, arc, place
from cbmir.phantoms.catalog import NO_FINDING, REGIONS, Case, habitus_of
from cbmir.phantoms.ct_abdomen import draw_abdomen
from cbmir.phantoms.ct_chest import draw_thorax
from cbmir.phantoms.ct_head import draw_head
from cbmir.phantoms.mr_brain import draw_brain
from cbmir.phantoms.mr_knee import draw_knee
from cbmir.phantoms.plan import Row
from cbmir.phantoms.us import draw_breast, draw_thyroid
from cbmir.phantoms.xr_chest import draw_chest
from cbmir.phantoms.xr_hand import draw_hand

DRAW = {
    ("XR", "chest"): draw_chest,
    ("XR", "hand"): draw_hand,
    ("CT", "abdomen"): draw_abdomen,
    ("CT", "head"): draw_head,
    ("CT", "chest"): draw_thorax,
    ("MR", "brain"): draw_brain,
    ("MR", "knee"): draw_knee,
    ("US", "breast"): draw_breast,
    ("US", "thyroid"): draw_thyroid,
}
# Standard deviation of the pose's rotation, in radians; a probe is held straight.
TILT = {"XR": 0.025, "CT": 0.02, "MR": 0.025, "US": 0.012}
MARKED = 0.4


def draw_row(row: Row, *, seed: int, rng: np.random.Generator) -> np.ndarray:
    """(h, w) float32: XR and US grey 0..1, CT Hounsfield units, MR signal 0..about 1. rng is the image's own."""
    number = [(region.modality, region.region) for region in REGIONS].index((row.modality, row.region))
    patient = int(row.patient_id.removeprefix("p"))

    def stream(*purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([seed, patient, *purpose]))

    habitus = habitus_of(stream(0, 1))
    height, width = (int(rng.integers(low, high + 1)) for low, high in REGIONS[number].sides)
    frame = place(
        (height, width),
        angle=rng.normal(0, TILT[row.modality]),
        zoom=rng.uniform(0.96, 1.04),
        shift=tuple(rng.normal(0, 0.015, 2)),
        stretch=(habitus.width, habitus.height),
    )
    findings = frozenset(label.split("/")[2] for label in row.labels.split("|")) - {NO_FINDING}
    case = Case(frame, habitus, findings, row.view, stream(number, 2), stream(number, 3), rng)
    pixels = DRAW[row.modality, row.region](case)
    if row.modality == "XR" and rng.random() < MARKED:
        return _mark_side(pixels, rng)
    return pixels


def _mark_side(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A lead letter in an upper corner: R on the left of the image, L on its right, as radiographs are hung."""
    h, w = pixels.shape
    frame = place((h, w), angle=0.0, zoom=1.0, shift=(0.0, 0.0), stretch=(1.0, 1.0))
    unit = min(h, w) / 2
    letter = str(rng.choice(["L", "R"]))
    x = (w / 2 / unit - 0.17) * (1 if letter == "L" else -1)
    y, tall = rng.uniform(0.10, 0.16) - h / 2 / unit, 0.12
    sketch = Sketch(frame)
    sketch.line([(x - 0.03, y), (x - 0.03, y + tall)], 0.02)
    if letter == "L":
        sketch.line([(x - 0.03, y + tall), (x + 0.04, y + tall)], 0.02)
    else:
        sketch.line(arc((x - 0.03, y), (x + 0.07, y - 0.01), (x + 0.07, y + 0.07), (x - 0.03, y + 0.06)), 0.02)
        sketch.line([(x, y + 0.06), (x + 0.04, y + tall)], 0.02)
    return np.maximum(pixels, 0.97 * sketch.mask())
