"""Image sources: one file a source, folders and label files in, one manifest out.

A source is a function `read(roots, options, remarks) -> pa.Table` whose columns are a subset of the manifest's, plus any
further ones, plus where each row stands (`remarks.FILE`, `remarks.ROW`) if it is read from a table; `manifest.build` fills in
the rest. What is odd goes to `remarks`. To add a source, write its file and add its row to SOURCES.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import pyarrow as pa

from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError, nearest


@dataclass(frozen=True)
class Options:
    """What a person says about a source beside its roots."""

    columns: dict[str, str] = field(default_factory=dict)  # manifest column -> the source's own name for it
    constants: dict[str, str] = field(default_factory=dict)  # manifest column -> one value for every row
    one_hot: tuple[str, ...] = ()  # columns that are labels; patterns with *
    separator: str = "|"  # between the labels of one column
    image_root: dict[str, str] = field(default_factory=dict)  # dataset ('': all others) -> where relative paths begin
    axis: int | None = None  # of a volume, along which it is cut
    every: int = 1  # of so many slices of a volume one is kept
    window: tuple[float, float] | None = None  # center and width, in the volume's own values
    protocol: str | None = None  # a published selection of rows, by name
    missing_images: str = "keep"  # or 'drop': rows whose image is not there
    deidentify: bool | None = None  # None: as the source does by itself
    salt_file: str | None = None
    seed: int = 0  # of the split, where the source has none

    def said(self) -> dict:
        """The options that differ from their defaults, as run.json records them."""
        default = Options()
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != getattr(default, f.name)}


@dataclass(frozen=True)
class Protocol:
    """A published selection of a source's rows.

    Labels of the manifest that are not in `labels` (None: all count) go to the column `other_labels`; then `predicate`, in SQL over the manifest,
    says which rows stay.
    """

    predicate: str
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Source:
    """One kind of collection that `cbmir manifest` reads.

    takes         which of the options that not every source understands: columns, one_hot, separator, image_root, axis, window
    lists_files   its rows come from a listing of files, so that no image can be missing
    deidentifies  ids are hashed unless a person says otherwise
    protocols     published selections of its rows, by name
    """

    module: str
    summary: str
    example: str
    takes: tuple[str, ...] = ()
    lists_files: bool = False
    deidentifies: bool = False
    protocols: tuple[str, ...] = ()


SOURCES: dict[str, Source] = {
    "folder": Source(
        "cbmir.datasets.folder",
        "image files in directories; the label is the path of directories below ROOT",
        "cbmir manifest folder scans --set modality=MR --set region=brain --study study",
        lists_files=True,
    ),
    "csv": Source(
        "cbmir.datasets.csv_table",
        "a table with one row an image; paths relative to the table",
        "cbmir manifest csv images.csv --column labels=diagnosis --study study",
        takes=("columns", "one_hot", "separator", "image_root"),
    ),
    "phantoms": Source(
        "cbmir.datasets.phantoms",
        "a collection drawn by cbmir phantoms",
        "cbmir manifest phantoms demo/images --study demo/study",
    ),
    "nih14": Source(
        "cbmir.datasets.nih14",
        "NIH ChestX-ray14: Data_Entry_2017*.csv, train_val_list.txt, test_list.txt, images_*/images",
        "cbmir manifest nih14 ChestXray14 --protocol denner2024 --study study",
        protocols=("denner2024",),
    ),
    "chexpert": Source(
        "cbmir.datasets.chexpert",
        "CheXpert v1.0 or v1.0-small: train.csv, valid.csv and the folders beside them",
        "cbmir manifest chexpert CheXpert-v1.0 --protocol denner2024 --study study",
        protocols=("denner2024",),
    ),
    "mimic-cxr": Source(
        "cbmir.datasets.mimic_cxr",
        "MIMIC-CXR-JPG 2.0: mimic-cxr-2.0.0-split, -chexpert and -metadata (.csv or .csv.gz), files/p10 ... p19",
        "cbmir manifest mimic-cxr mimic-cxr-jpg-2.0.0 --protocol denner2024 --study study",
        protocols=("denner2024",),
    ),
    "radimagenet": Source(
        "cbmir.datasets.radimagenet",
        "RadImageNet: RadiologyAI_train.csv, _val.csv, _test.csv, and the folders CT, MR and US",
        "cbmir manifest radimagenet radiology_ai --protocol denner2024 --study study",
        protocols=("denner2024",),
    ),
    "denner-csv": Source(
        "cbmir.datasets.denner_csv",
        "split files of Denner et al. 2024: filepath, dataset, split, modality, anatomic_region, one-hot labels",
        "cbmir manifest denner-csv train.csv val.csv test.csv --image-root /data --study study",
        takes=("image_root",),
    ),
    "dicom": Source(
        "cbmir.datasets.dicom_tree",
        "DICOM files in directories of any layout, as acquired or along --axis; ids hashed unless --no-deidentify",
        "cbmir manifest dicom archive --study study",
        takes=("axis",),
        lists_files=True,
        deidentifies=True,
    ),
    "nifti": Source(
        "cbmir.datasets.nifti_folder",
        "NIfTI volumes in directories, as slices along --axis; the label is the path of directories below ROOT",
        "cbmir manifest nifti volumes --axis 2 --window 40,400 --set modality=CT --study study",
        takes=("axis", "window"),
        lists_files=True,
    ),
    "medmnist": Source(
        "cbmir.datasets.medmnist",
        "MedMNIST .npz files, 2D and 3D",
        "cbmir manifest medmnist breastmnist_224.npz --study study",
        takes=("axis",),
        lists_files=True,
    ),
}


_SOME = ("columns", "one_hot", "separator", "image_root", "axis", "window")  # options that not every source takes
_FLAGS = {"columns": "--column", "one_hot": "--one-hot", "image_root": "--image-root"}


def reader(source: str) -> Callable[[list[str], Options, Remarks], pa.Table]:
    """The `read` of a source; UserError for a name that is not there."""
    if source not in SOURCES:
        near = nearest(source, list(SOURCES)) or f"sources: {', '.join(SOURCES)}"
        raise UserError(f"unknown source '{source}'; {near}")
    return importlib.import_module(SOURCES[source].module).read


def protocol(source: str, name: str) -> Protocol:
    """A source's protocol by its name; UserError where the source has none of that name."""
    known = SOURCES[source].protocols
    if name not in known:
        has = f"{source} has {', '.join(known)}" if known else f"{source} has none"
        others = ", ".join(key for key, value in SOURCES.items() if name in value.protocols)
        raise UserError(f"--protocol {name}: {has}" + (f"; it is a protocol of {others}" if others else ""))
    return importlib.import_module(SOURCES[source].module).PROTOCOLS[name]


def refuse_what_has_no_meaning(source: str, options: Options) -> None:
    """UserError for an option that the source would pass over in silence."""
    said = options.said()
    if options.every < 1:
        raise UserError(f"--every {options.every}; expected 1 (every slice of a volume) or more")
    for name in _SOME:
        if name in said and name not in SOURCES[source].takes:
            flag = _FLAGS.get(name, f"--{name}")
            takers = ", ".join(key for key, value in SOURCES.items() if name in value.takes)
            raise UserError(f"{flag} has no meaning for {source}; expected it with {takers}; leave it out")
    if options.protocol:
        protocol(source, options.protocol)
