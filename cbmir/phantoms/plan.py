"""Who is in a collection: patients, studies, labels, splits, file formats, and which files are broken."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from cbmir.errors import UserError
from cbmir.phantoms.catalog import COMPANIONS, LABELS, NO_FINDING, REGIONS, Region

SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
IMAGES_A_PATIENT = {1: 0.34, 2: 0.26, 3: 0.18, 4: 0.12, 5: 0.06, 6: 0.04}
# From this size on, every label has a test image too: below, these alone would fill more than the test split.
TEST_FOR_EVERY_LABEL = 300
SECOND_STUDY, FOLLOW_UP_IS_NORMAL, OTHER_MODALITY = 0.5, 0.15, 0.3
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "png16": ".png", "dicom": ".dcm"}
# How a file can be broken, and which formats can be broken that way.
BROKEN = {
    "truncated": {"png", "png16"},
    "empty": {"png", "jpeg", "png16", "dicom"},
    "text": {"jpeg"},
    "no_pixels": {"dicom"},
    "missing": {"png", "jpeg", "png16", "dicom"},
    "garbage": {"jpeg"},
}


@dataclass(frozen=True)
class Row:
    """One line of phantoms.csv; the fields are its columns."""

    image_id: str
    path: str
    split: str
    patient_id: str
    study_id: str
    modality: str
    region: str
    labels: str
    age: int
    sex: str
    view: str
    format: str
    broken: str = ""


@dataclass(frozen=True)
class _Patient:
    split: str
    region: Region
    finding: str
    size: int


def plan_rows(*, images: int, seed: int, broken: int) -> list[Row]:
    """The rows of a collection, in the order of their image ids; exactly `images` of them, `broken` marked as broken."""
    if images < len(LABELS):
        raise UserError(f"images={images}: each of the {len(LABELS)} labels needs one; ask for {len(LABELS)} or more")
    # The last number keeps this stream apart from the images' own, which are seeded [seed, index].
    rng = np.random.default_rng(np.random.SeedSequence([seed, images, 1]))
    patients = _founders(images)
    patients += _fill(images, patients, rng)
    rows = []
    for number, at in enumerate(rng.permutation(len(patients)), start=1):
        rows += _rows_of(patients[at], f"p{number:05d}", rng)
    return _break_some(rows, broken, rng)


def _founders(images: int) -> list[_Patient]:
    """One patient a label and split, so that no label is missing where it must not be."""
    splits = ["train", "test"] if images >= TEST_FOR_EVERY_LABEL else ["train"]
    return [
        _Patient(split, region, finding, 1) for split in splits for region in REGIONS for finding in region.findings
    ]


def _fill(images: int, founders: list[_Patient], rng: np.random.Generator) -> list[_Patient]:
    """Patients for the rest; each joins the split that is furthest behind its share."""
    have = Counter(patient.split for patient in founders)
    patients = []
    while (left := images - have.total()) > 0:
        split = max(SPLITS, key=lambda name: SPLITS[name] * images - have[name])
        region = REGIONS[_pick(rng, {i: region.share for i, region in enumerate(REGIONS)})]
        size = min(left, _pick(rng, IMAGES_A_PATIENT))
        patients.append(_Patient(split, region, _pick(rng, region.findings), size))
        have[split] += size
    return patients


def _pick(rng: np.random.Generator, shares: dict):
    weights = np.array(list(shares.values()), dtype=float)
    return list(shares)[rng.choice(len(shares), p=weights / weights.sum())]


def _rows_of(patient: _Patient, patient_id: str, rng: np.random.Generator) -> list[Row]:
    young, old = patient.region.ages
    age = int(np.clip(rng.normal(0.6 * old + 0.4 * young, 0.2 * (old - young)), young, old))
    sex = "F" if patient.region.region == "breast" else str(rng.choice(["F", "M"]))
    second_from = (
        int(rng.integers(1, patient.size)) if patient.size > 2 and rng.random() < SECOND_STUDY else patient.size
    )
    rows = []
    for study, size in enumerate((second_from, patient.size - second_from), start=1):
        region, finding = (patient.region, patient.finding) if study == 1 else _later_study(patient, rng)
        file_format = _pick(rng, region.formats)
        for i in range(size):
            image_id = f"{patient_id}_s{study}_{i}"
            row = Row(
                image_id=image_id,
                path=f"images/{patient_id}/{image_id}{SUFFIXES[file_format]}",
                split=patient.split,
                patient_id=patient_id,
                study_id=f"{patient_id}_s{study}",
                modality=region.modality,
                region=region.region,
                labels="|".join(_labels(region, finding, rng, first=study == 1 and i == 0)),
                age=age,
                sex=sex,
                view=_pick(rng, region.views),
                format=file_format,
            )
            rows.append(row)
    return rows


def _later_study(patient: _Patient, rng: np.random.Generator) -> tuple[Region, str]:
    """The same examination again, or the same part of the body (head and brain are one) in another modality."""
    same_part = {"brain": "head"}
    part = same_part.get(patient.region.region, patient.region.region)
    others = [r for r in REGIONS if same_part.get(r.region, r.region) == part and r is not patient.region]
    if others and rng.random() < OTHER_MODALITY:
        return others[0], _pick(rng, others[0].findings)
    return patient.region, patient.finding


def _labels(region: Region, finding: str, rng: np.random.Generator, *, first: bool) -> list[str]:
    """One label, seldom two; a patient's later images may be normal, the first shows the finding."""
    if not first and rng.random() < FOLLOW_UP_IS_NORMAL:
        finding = NO_FINDING
    label = f"{region.modality}/{region.region}/{finding}"
    beside, chance = COMPANIONS.get(label, ("", 0.0))
    return [label, beside] if rng.random() < chance else [label]


def _break_some(rows: list[Row], broken: int, rng: np.random.Generator) -> list[Row]:
    """Mark `broken` rows, kinds and splits in turn; every label keeps a good image in each split where it had one."""
    rows = list(rows)
    good = Counter((row.split, label) for row in rows for label in row.labels.split("|"))
    order = rng.permutation(len(rows)).tolist()
    for count in range(broken):
        kind = list(BROKEN)[count % len(BROKEN)]
        splits = ["train", "test"] if count % 2 == 0 else ["test", "train"]
        spare = [at for split in splits for at in order if rows[at].split == split and _can_break(rows[at], kind, good)]
        if not spare:
            raise UserError(
                f"broken={broken}: after {count} of {len(rows)} images no label can spare a file for '{kind}'; "
                f"ask for broken={count} or fewer, or for more images"
            )
        rows[spare[0]] = replace(rows[spare[0]], broken=kind)
        good.subtract((rows[spare[0]].split, label) for label in rows[spare[0]].labels.split("|"))
    return rows


def _can_break(row: Row, kind: str, good: Counter) -> bool:
    spared = all(good[row.split, label] > 1 for label in row.labels.split("|"))
    return not row.broken and row.format in BROKEN[kind] and spared
