"""folder: image files in directories, the label being the directories between ROOT and the file.

ROOT/glioma/a.png                  label MODALITY/region/glioma (modality and region from --set)
ROOT/XR/chest/Nodule/a.png         label XR/chest/Nodule, modality XR, region chest
ROOT/train/glioma/a.png            the same with a split: train, val or test as the first directory
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from cbmir.datasets import Options
from cbmir.datasets.remarks import Remarks
from cbmir.datasets.splits import SPLITS
from cbmir.errors import UserError
from cbmir.store import open_filesystem

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom")


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """Every image file below the roots, sorted by path; hidden files are passed over."""
    rows = [row for root in roots for row in _rows(root, options)]
    names = ("image_id", "uri", "dataset", "split", "modality", "region", "labels")
    table = pa.Table.from_pylist(
        rows, schema=pa.schema([(n, pa.string()) for n in names[:-1]] + [("labels", pa.list_(pa.string()))])
    )
    return table.drop_columns("split") if table["split"].null_count == len(table) else table


def _rows(root: str, options: Options) -> Iterator[dict]:
    fs, top = open_filesystem(root)
    if fs.get_file_info(top).type != pafs.FileType.Directory:
        raise UserError(f"no directory {root}; expected a folder of images; check ROOT")
    dataset = options.constants.get("dataset") or PurePosixPath(top).name
    files = [i.path for i in fs.get_file_info(pafs.FileSelector(top, recursive=True)) if i.is_file]
    for path in sorted(files):
        relative = PurePosixPath(os.path.relpath(path, top))
        if relative.suffix.lower() not in IMAGE_SUFFIXES or any(part.startswith(".") for part in relative.parts):
            continue
        yield {
            "image_id": f"{dataset}/{relative}",
            "uri": _address(path, root),
            "dataset": dataset,
            **_meaning(relative),
        }


def _address(path: str, root: str) -> str:
    """A local path as it is; one on an object store as an address, with the root's own options behind '?'."""
    if "://" not in root:
        return path
    place = urlsplit(root)
    inside = path.split("/", 1)[1] if place.netloc else path.lstrip("/")  # a bucket is the first part of its paths
    return urlunsplit(place._replace(path=f"/{quote(inside)}"))


def _meaning(relative: PurePosixPath) -> dict:
    """'train/XR/chest/Nodule/a.png' -> its split, modality, region and labels."""
    directories = list(relative.parts[:-1])
    split = SPLITS.get(directories[0].lower()) if directories else None
    if split:
        directories = directories[1:]
    found = {"split": split, "modality": None, "region": None, "labels": []}
    if len(directories) >= 3:
        found |= {"modality": directories[0], "region": directories[1]}
        finding = "/".join(directories[2:])
        found["labels"] = [f"{directories[0].upper()}/{directories[1].lower()}/{finding}"]
    elif directories:
        found["labels"] = [" ".join(directories)]
    return found
