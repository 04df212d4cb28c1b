"""medmnist: the .npz files of MedMNIST (Yang et al. 2023), 2D and 3D, any size.

A row's uri is `FILE.npz#array=train_images&row=12`; a volume's slices are rows of their own, with `&slice=5` (and `&axis=1`
where they are not cut along the first axis, and `&zoom=28` where they are resampled to that many voxels a side), `volume_id` and `slice`. Class names and modality follow the collection's own
list where the file's name says which set it is; elsewhere classes are 'class 0', 'class 1' ...
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options
from cbmir.datasets.class_labels import class_lists
from cbmir.datasets.listing import Found, id_prefixes, listed, suffix_counts
from cbmir.datasets.medmnist_sets import MedSet, known_set, published_size
from cbmir.datasets.remarks import Remarks
from cbmir.datasets.texts import spliced
from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.npz import open_array
from cbmir.store import open_filesystem

SPLITS = ("train", "val", "test")
ZOOMS = (2, 512)  # voxels a side


@dataclass(frozen=True)
class NpzFile:
    """One file: its address, its name without suffix, what the ids of its rows begin with, and the set that it is of."""

    address: str
    stem: str
    prefix: str
    dataset: str
    known: MedSet | None


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """MedMNIST files, or directories of them -> rows; a file that cannot be read is named and the others are kept."""
    if options.zoom is not None and not ZOOMS[0] <= options.zoom <= ZOOMS[1]:
        raise UserError(f"--zoom {options.zoom}; expected {ZOOMS[0]} to {ZOOMS[1]} voxels a side")
    files = _files(roots, options.constants.get("dataset"), remarks)
    tables, first = [], None
    for file in files:
        try:
            tables.append(_read_one(file, options, remarks))
        except UserError as error:
            first = first or error
            remarks.add("unreadable_file", str(error), file=file.address)
    if not tables:
        raise first or UserError(f"no .npz at {', '.join(roots)}; expected a MedMNIST .npz; check ROOT")
    table = pa.concat_tables(tables)
    if options.axis is not None and table["slice"].null_count == len(table):
        raise UserError(f"--axis {options.axis}: none of the files holds volumes; leave it out")
    _refuse_zoomed_images(table, options.zoom)
    return table


def _refuse_zoomed_images(table: pa.Table, zoom: int | None) -> None:
    images = table.filter(pc.is_null(table["slice"]))["dataset"]
    if zoom is not None and len(images):
        raise UserError(
            f"--zoom {zoom}: {images[0].as_py()} holds images, and volumes alone are resampled; leave it out, or read volumes by themselves"
        )


def _files(roots: list[str], dataset: str | None, remarks: Remarks) -> list[NpzFile]:
    found = listed(roots, remarks, expected="a MedMNIST .npz")
    npz = [file for file in found if file.relative.lower().endswith(".npz")]
    others = [file for file in found if not file.relative.lower().endswith(".npz")]
    if others:
        detail = f"{len(others):,} files that are no .npz: {suffix_counts(file.relative for file in others)}"
        remarks.add("other_file", detail, file=others[0].address)
    stems = [posixpath.basename(file.relative)[: -len(".npz")] for file in npz]
    return [
        NpzFile(file.address, stem, prefix, dataset or stem, known_set(stem))
        for file, stem, prefix in zip(npz, stems, _prefixes(npz, stems, dataset), strict=True)
    ]


def _prefixes(files: list[Found], stems: list[str], dataset: str | None) -> list[str]:
    """What ids begin with: the file's name, or the dataset where there is one file; more where that would not tell files apart."""
    if len(files) == 1:
        return [dataset or stems[0]]
    if len(set(stems)) == len(stems):
        return [f"{dataset}/{stem}" if dataset else stem for stem in stems]
    tops = id_prefixes(files, dataset)  # the same set in several directories
    return [f"{tops[file.top]}/{file.relative[: -len('.npz')]}" for file in files]


def _read_one(file: NpzFile, options: Options, remarks: Remarks) -> pa.Table:
    names = array_names(file.address)
    present = [split for split in SPLITS if f"{split}_images" in names and f"{split}_labels" in names]
    if not present:
        raise UserError(
            f"{file.address} holds {', '.join(names) or 'nothing'}; expected train_images, train_labels, ... as in MedMNIST"
        )
    parts, shapes, problems = [], {}, []
    for split in present:
        try:
            shapes[split], labels = _arrays(file, split)
            parts.append(_split_rows(file, split, shapes[split], labels, options, remarks))
        except UserError as error:
            problems.append(error)
    if not parts:
        raise problems[0]
    for problem in problems:
        remarks.add("unreadable_file", f"{problem}; left out", file=file.address)
    _compare(file, shapes, remarks)
    return pa.concat_tables(parts)


def array_names(address: str) -> list[str]:
    """Names of a .npz's arrays; UserError for a file that is none."""
    fs, path = open_filesystem(address)
    try:
        with fs.open_input_file(path) as raw, zipfile.ZipFile(raw) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError:
        raise UserError(f"no file {address}; expected a MedMNIST .npz; check ROOT") from None
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{address} is not a .npz that can be read ({reason}); expected a MedMNIST file") from None


def _arrays(file: NpzFile, split: str) -> tuple[tuple[int, ...], np.ndarray]:
    """(shape of a split's images, its labels); UserError where they cannot be had or do not fit."""
    try:
        with closing(open_array(file.address, f"{split}_images")) as images:
            shape = images.shape
        with closing(open_array(file.address, f"{split}_labels")) as stream:
            size = stream.row_bytes * stream.shape[0]
            data = stream.member.read(size)
            if len(data) != size:
                raise ImageError("the array ends before its last row", stage="read")
            labels = np.frombuffer(data, stream.dtype).reshape(stream.shape)
    except (ImageError, OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{file.stem}: {split} cannot be read ({reason}); expected arrays as in MedMNIST; download the file again"
        ) from None
    if labels.dtype.kind not in "biuf":
        raise UserError(f"{file.stem}: {split}_labels are {labels.dtype}; expected class numbers")
    if labels.shape[0] != shape[0] or labels.ndim > 2:
        raise UserError(
            f"{file.stem}: {split} has {shape[0]:,} images and {labels.size:,} labels; expected one label an image"
        )
    return shape, labels


def _split_rows(
    file: NpzFile, split: str, shape: tuple[int, ...], labels: np.ndarray, options: Options, remarks: Remarks
) -> pa.Table:
    """One array of images -> its rows: (n, h, w), (n, h, w, 1 or 3), or volumes (n, d, h, w), (n, d, h, w, 1)."""
    axis = options.axis or 0
    slices = (options.zoom or shape[1 + axis]) if _are_volumes(file, split, shape) else 1
    where = f"{file.address}#array={split}_images"
    present, unknown = class_lists(labels, file.known, where, remarks)
    row = pa.array(np.repeat(np.arange(shape[0]), slices))  # of each slice
    volume = spliced(f"{file.prefix}/{split}/", row)
    uri = spliced(f"{where}&row=", row)
    number = pa.nulls(len(row), pa.int32())
    ids, volumes = volume, pa.nulls(len(row), pa.string())
    if _are_volumes(file, split, shape):
        number = pa.array(np.tile(np.arange(slices, dtype=np.int32), shape[0]))
        ids, volumes = spliced("", volume, "#", number), volume
        cut = (f"&axis={axis}" if axis else "") + (f"&zoom={options.zoom}" if options.zoom else "")
        uri = spliced("", uri, f"{cut}&slice=", number)
    constant = {"dataset": file.dataset, "split": split}
    constant |= {name: getattr(file.known, name) if file.known else None for name in ("modality", "region")}
    columns = {name: pa.repeat(pa.scalar(value, pa.string()), len(row)) for name, value in constant.items()}
    columns |= {"image_id": ids, "uri": uri, "labels": present.take(row), "unknown_labels": unknown.take(row)}
    return pa.table(columns | {"volume_id": volumes, "slice": number})


def _are_volumes(file: NpzFile, split: str, shape: tuple[int, ...]) -> bool:
    """Whether an array's rows are volumes; where the set is not known, a last axis of 3 or 1 is color or grey."""
    volumes = file.known.volumes if file.known else len(shape) == 5 or (len(shape) == 4 and shape[3] not in (1, 3))
    fits = (len(shape) == 4 or shape[4:] == (1,)) if volumes else (len(shape) == 3 or shape[3:] in ((1,), (3,)))
    if not fits or min(shape[1:]) < 1:
        expected = "(n, d, h, w)" if volumes else "(n, h, w), (n, h, w, 3) or (n, d, h, w)"
        raise UserError(f"{file.stem}: {split}_images is {shape}; expected {expected}")
    return volumes


def _compare(file: NpzFile, shapes: dict[str, tuple[int, ...]], remarks: Remarks) -> None:
    """Remarks on what differs from the published files: numbers of images, and their size in the file's name."""
    if file.known is None:
        return
    found = tuple(shapes.get(split, (0,))[0] for split in SPLITS)
    if found not in file.known.counts:
        texts = [
            ", ".join(f"{n:,} {split}" for n, split in zip(c, SPLITS, strict=True)) for c in (found, *file.known.counts)
        ]
        remarks.add("not_as_published", f"{texts[0]}; published: {' or '.join(texts[1:])}", file=file.address)
    size = published_size(file.stem)
    sizes = {shape[1:3] for shape in shapes.values()}
    if size and sizes != {(size, size)}:
        pixels = ", ".join(" x ".join(map(str, s)) for s in sorted(sizes))
        remarks.add("not_as_published", f"images of {pixels} pixels; the name says {size}", file=file.address)
