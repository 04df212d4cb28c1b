"""Image sources: one file a source, folders and label files in, one manifest out.

A source is a function `read(roots, options) -> pa.Table` whose columns are a subset of the manifest's, plus any further
ones; `manifest.build` fills in the rest. To add one, write its file and add its row to SOURCES.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from cbmir.errors import UserError, nearest


@dataclass(frozen=True)
class Options:
    """What a person says about a source beside its roots."""

    columns: dict[str, str] = field(default_factory=dict)  # manifest column -> the source's own name for it
    constants: dict[str, str] = field(default_factory=dict)  # manifest column -> one value for every row
    seed: int = 0  # of the split, where the source has none


@dataclass(frozen=True)
class Source:
    """One kind of collection that `cbmir manifest` reads."""

    module: str
    summary: str
    example: str


SOURCES: dict[str, Source] = {
    "folder": Source(
        "cbmir.datasets.folder",
        "image files in directories; the label is the path of directories below ROOT",
        "cbmir manifest folder scans --set modality=MR --set region=brain --study study",
    ),
    "csv": Source(
        "cbmir.datasets.csv_table",
        "a table with one row an image; paths relative to the table",
        "cbmir manifest csv images.csv --column labels=diagnosis --study study",
    ),
    "phantoms": Source(
        "cbmir.datasets.phantoms",
        "a collection drawn by cbmir phantoms",
        "cbmir manifest phantoms demo/images --study demo/study",
    ),
    "medmnist": Source(
        "cbmir.datasets.medmnist",
        "MedMNIST .npz files, 2D and 3D",
        "cbmir manifest medmnist breastmnist_224.npz --study study",
    ),
}


def reader(source: str) -> Callable[[list[str], Options], pa.Table]:
    """The `read` of a source; UserError for a name that is not there."""
    if source not in SOURCES:
        near = nearest(source, list(SOURCES)) or f"sources: {', '.join(SOURCES)}"
        raise UserError(f"unknown source '{source}'; {near}")
    return importlib.import_module(SOURCES[source].module).read
