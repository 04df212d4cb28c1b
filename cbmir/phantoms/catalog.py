"""What a collection holds: regions, findings, their shares, and the habitus of a patient. Data, not code."""

from dataclasses import dataclass

import numpy as np

from cbmir.phantoms.canvas import Frame

NO_FINDING = "No Finding"


@dataclass(frozen=True)
class Region:
    """One kind of study.

    share: of all images; findings: name -> share within the region; views: name -> share;
    formats: file format -> share; sides: image (height, width) ranges in pixels; ages: patients' years.
    """

    modality: str
    region: str
    share: float
    findings: dict[str, float]
    views: dict[str, float]
    formats: dict[str, float]
    sides: tuple[tuple[int, int], tuple[int, int]]
    ages: tuple[int, int] = (18, 90)

    @property
    def labels(self) -> list[str]:
        return [f"{self.modality}/{self.region}/{finding}" for finding in self.findings]


_XR = {"png": 0.35, "jpeg": 0.35, "dicom": 0.30}
_SLICE = {"png16": 0.5, "dicom": 0.5}
_US = {"jpeg": 0.55, "png": 0.45}

REGIONS = (
    Region(
        "XR",
        "chest",
        0.27,
        {
            NO_FINDING: 0.52,
            "Effusion": 0.14,
            "Cardiomegaly": 0.12,
            "Consolidation": 0.11,
            "Nodule": 0.07,
            "Pneumothorax": 0.04,
        },
        {"PA": 0.75, "AP": 0.25},
        _XR,
        ((256, 304), (256, 304)),
    ),
    Region(
        "XR",
        "hand",
        0.10,
        {NO_FINDING: 0.55, "Fracture": 0.30, "Osteophyte": 0.15},
        {"PA": 1.0},
        _XR,
        ((272, 320), (208, 240)),
        (12, 88),
    ),
    Region(
        "CT",
        "abdomen",
        0.13,
        {NO_FINDING: 0.56, "Liver Lesion": 0.22, "Kidney Stone": 0.14, "Free Fluid": 0.08},
        {"axial": 1.0},
        _SLICE,
        ((224, 256), (288, 320)),
    ),
    Region(
        "CT",
        "head",
        0.10,
        {NO_FINDING: 0.60, "Hemorrhage": 0.20, "Infarct": 0.20},
        {"axial": 1.0},
        _SLICE,
        ((256, 288), (224, 256)),
    ),
    Region(
        "CT",
        "chest",
        0.08,
        {NO_FINDING: 0.50, "Nodule": 0.28, "Emphysema": 0.22},
        {"axial": 1.0},
        _SLICE,
        ((224, 256), (288, 320)),
        (30, 88),
    ),
    Region(
        "MR",
        "brain",
        0.12,
        {NO_FINDING: 0.52, "White Matter Lesions": 0.24, "Glioma": 0.16, "Meningioma": 0.08},
        {"axial": 1.0},
        _SLICE,
        ((240, 272), (208, 240)),
    ),
    Region(
        "MR",
        "knee",
        0.07,
        {NO_FINDING: 0.52, "Effusion": 0.28, "Meniscal Tear": 0.20},
        {"sagittal": 1.0},
        _SLICE,
        ((240, 288), (208, 240)),
        (16, 80),
    ),
    Region(
        "US",
        "breast",
        0.07,
        {NO_FINDING: 0.50, "Cyst": 0.30, "Mass": 0.20},
        {"radial": 0.5, "antiradial": 0.5},
        _US,
        ((224, 256), (272, 320)),
        (25, 82),
    ),
    Region(
        "US",
        "thyroid",
        0.06,
        {NO_FINDING: 0.54, "Nodule": 0.34, "Diffuse": 0.12},
        {"transverse": 1.0},
        _US,
        ((208, 240), (272, 320)),
    ),
)

LABELS = tuple(label for region in REGIONS for label in region.labels)

# Findings that come together in one image now and then: the second beside the first, and how often.
COMPANIONS = {
    "XR/chest/Cardiomegaly": ("XR/chest/Effusion", 0.20),
    "XR/chest/Consolidation": ("XR/chest/Effusion", 0.15),
    "CT/abdomen/Liver Lesion": ("CT/abdomen/Free Fluid", 0.06),
    "CT/chest/Emphysema": ("CT/chest/Nodule", 0.12),
}


@dataclass(frozen=True)
class Habitus:
    """What stays the same in every image of one patient: stretch of the body plane, fat 0..1, traits each -1..1."""

    width: float
    height: float
    fat: float
    traits: tuple[float, ...]


def habitus_of(rng: np.random.Generator) -> Habitus:
    """A patient's habitus, drawn from the patient's own generator."""
    width, height = rng.normal(1, 0.02, 2).clip(0.95, 1.05)
    return Habitus(float(width), float(height), float(rng.beta(2, 2.5)), tuple(rng.uniform(-1, 1, 8).tolist()))


@dataclass(frozen=True)
class Case:
    """Everything a drawing function needs to know about one image.

    frame: the posed grid; findings: names without modality and region, empty for a normal image;
    body: the patient's generator, same anatomy in each image of a patient and region; lesion: the same for the
    patient's findings; rng: this image's own generator (level of the slice, noise, exposure).
    """

    frame: Frame
    habitus: Habitus
    findings: frozenset[str]
    view: str
    body: np.random.Generator
    lesion: np.random.Generator
    rng: np.random.Generator
