"""Directories between ROOT and a file as split, modality, region and label, for sources whose files lie sorted by class.

ROOT/glioma/a.png                  label MODALITY/region/glioma (modality and region from --set)
ROOT/XR/chest/Nodule/a.png         label XR/chest/Nodule, modality XR, region chest
ROOT/train/glioma/a.png            the same with a split: train, val or test as the first directory
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import cache

from cbmir.datasets.listing import Found, dataset_name, id_prefixes
from cbmir.datasets.splits import SPLITS


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the directories above a file say of it."""

    split: str | None = None
    modality: str | None = None
    region: str | None = None
    labels: tuple[str, ...] = ()


@cache
def meaning(directory: str) -> Meaning:
    """'train/XR/chest/Nodule' -> its split, modality, region and labels; '' -> nothing."""
    names = directory.split("/") if directory else []
    split = SPLITS.get(names[0].lower()) if names else None
    if split:
        names = names[1:]
    if len(names) >= 3:
        label = f"{names[0].upper()}/{names[1].lower()}/{'/'.join(names[2:])}"
        return Meaning(split, names[0], names[1], (label,))
    return Meaning(split, labels=(" ".join(names),) if names else ())


def columns(files: list[Found], dataset: str | None) -> dict[str, list]:
    """Files -> image_id, uri, dataset, split, modality, region and labels, a value a file; split only where one is known.

    Several roots that are called train, val and test are the splits of one collection, whose name is that of the directory above.
    """
    files = _splits_as_one(files)
    prefixes = id_prefixes(files, dataset)
    meanings = [meaning(posixpath.dirname(file.relative)) for file in files]
    found = {
        "image_id": [f"{prefixes[file.top]}/{file.relative}" for file in files],
        "uri": [file.uri for file in files],
        "dataset": [dataset or dataset_name(file) for file in files],
        "modality": [m.modality for m in meanings],
        "region": [m.region for m in meanings],
        "labels": [list(m.labels) for m in meanings],
    }
    if any(m.split for m in meanings):
        found["split"] = [m.split for m in meanings]
    return found


def _splits_as_one(files: list[Found]) -> list[Found]:
    """Files of ROOTs such as scans/train and scans/test as files of scans: drawn by chance, the split would mix them."""
    names = {file.top: dataset_name(file) for file in files}
    if len({SPLITS.get(name.lower()) for name in names.values()} - {None}) < 2:
        return files
    return [
        Found(file.address, f"{names[file.top]}/{file.relative}", posixpath.dirname(file.top))
        if names[file.top].lower() in SPLITS
        else file
        for file in files
    ]
