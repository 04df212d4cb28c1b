"""The four radiology sets in small, in their owners' exact format; images are one grey level unless told otherwise."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
NIH_HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def image(path: Path, level: int = 0) -> None:
    """A small picture with some texture, PNG or JPEG by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (np.arange(24)[:, None] * (level % 7 + 1) + np.arange(24) * (level % 5 + 2)) % 256
    Image.fromarray(rows.astype(np.uint8)).save(path)


def table(path: Path, head: list[str] | str, rows: list) -> Path:
    """A CSV file, packed if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="")  # noqa: SIM115
    with opened as file:
        if isinstance(head, str):
            file.write(head + "\n")
            file.writelines(",".join(map(str, row)) + "\n" for row in rows)
        else:
            writer = csv.writer(file)
            writer.writerows([head, *rows])
    return path


def nih14(root: Path, rows: list[tuple[str, str, int]], *, test: list[str], name: str = "Data_Entry_2017.csv") -> Path:
    """rows: (image, findings, patient); images lie in twelve folders, those of `test` in the test list."""
    full = [(i, f, 0, p, f"{40 + p:03d}Y", "FM"[p % 2], "PA", 2500, 2048, 0.143, 0.143, "") for i, f, p in rows]
    table(root / name, NIH_HEAD, full)
    (root / "test_list.txt").write_text("".join(f"{i}\n" for i in test))
    (root / "train_val_list.txt").write_text("\n".join(i for i, _, _ in rows if i not in test))
    for at, (i, _, _) in enumerate(rows):
        image(root / f"images_{at % 12 + 1:03d}" / "images" / i, at)
    return root


def chexpert(
    root: Path, train: list[tuple[str, dict]], valid: list[tuple[str, dict]], *, prefix: str = "CheXpert-v1.0-small"
) -> Path:
    """(path below train/ or valid/, label -> cell) a row; cells that are not given are blank."""
    head = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]
    for name, rows in (("train", train), ("valid", valid)):
        full = [
            [f"{prefix}/{name}/{path}", "Female", 68, "Frontal", "AP", *(cells.get(c, "") for c in CHEXPERT)]
            for path, cells in rows
        ]
        table(root / f"{name}.csv", head, full)
        for at, (path, _) in enumerate(rows):
            image(root / name / path, at)
    return root


def mimic(
    root: Path, rows: list[tuple[str, str, str, str]], labels: dict[tuple[str, str], dict], *, packed: bool = True
) -> Path:
    """rows: (dicom, study, subject, split); labels: (subject, study) -> cells."""
    gz = ".gz" if packed else ""
    table(root / f"mimic-cxr-2.0.0-split.csv{gz}", ["dicom_id", "study_id", "subject_id", "split"], rows)
    full = [[subject, study, *(cells.get(c, "") for c in CHEXPERT)] for (subject, study), cells in labels.items()]
    table(root / f"mimic-cxr-2.0.0-chexpert.csv{gz}", ["subject_id", "study_id", *CHEXPERT], full)
    head = [
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "StudyTime",
        "ViewCodeSequence_CodeMeaning",
    ]
    table(
        root / f"mimic-cxr-2.0.0-metadata.csv{gz}",
        head,
        [[d, p, s, "CHEST (PA AND LAT)", "PA", 3056, 213014.531, "antero-posterior"] for d, s, p, _ in reversed(rows)],
    )
    for at, (dicom, study, subject, _) in enumerate(rows):
        image(root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg", at)
    return root


def radimagenet(
    root: Path, splits: dict[str, list[str]], *, prefix: str = "", ignored: list[str] | None = None, files: bool = True
) -> Path:
    """split -> paths such as CT/lung/Nodule/lung1.png, listed with `prefix` before them."""
    for split in ("train", "val", "test"):
        table(root / f"RadiologyAI_{split}.csv", ["filename"], [[prefix + path] for path in splits.get(split, [])])
    if ignored is not None:
        (root / "ignore_list.txt").write_text("\n".join(ignored) + "\n")
    for at, path in enumerate(path for paths in splits.values() for path in paths):
        if files:
            image(root / path, at)
    return root
