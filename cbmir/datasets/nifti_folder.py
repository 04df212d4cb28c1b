"""nifti: NIfTI volumes in directories -> a row a slice along an axis; what the directories mean is in `layout`.

Axes are those of the patient (0 sagittal, 1 coronal, 2 axial), whichever way a file stores its voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options
from cbmir.datasets.each import each, size_of
from cbmir.datasets.layout import columns
from cbmir.datasets.listing import Found, listed, suffix_counts
from cbmir.datasets.remarks import Remarks
from cbmir.datasets.texts import spliced
from cbmir.images.errors import ImageError
from cbmir.images.nifti import SUFFIXES, volume_shape

AXIAL = 2
_MOST_PACKED = 1_100  # gzip packs at most 1,032 bytes into one


@dataclass(frozen=True, slots=True)
class Volumes:
    """A readable file: slices of one volume along the axis that was asked for, and volumes in time."""

    file: Found
    slices: int
    times: int


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """NIfTI files -> rows in the order of their paths, times and slices; files that cannot be read are named."""
    files = listed(roots, remarks, expected="a folder of NIfTI volumes")
    volumes = [file for file in files if file.relative.lower().endswith(SUFFIXES)]
    others = [file.relative for file in files if not file.relative.lower().endswith(SUFFIXES)]
    if others:
        detail = f"{len(others):,} files that are no .nii or .nii.gz: {suffix_counts(others)}"
        remarks.add("other_file", detail, file=others[0])
    axis = AXIAL if options.axis is None else options.axis
    found = _shapes(volumes, axis, remarks)
    return _rows(found, axis, options)


def _shapes(files: list[Found], axis: int, remarks: Remarks) -> list[Volumes]:
    found = []
    results = each(_shape, [file.address for file in files], title="headers", unit="volumes")
    for file, result in zip(files, results, strict=True):
        if isinstance(result, str):
            remarks.add("unreadable_file", result, file=file.address)
        else:
            shape, times = result
            found.append(Volumes(file, shape[axis], times))
    return found


def _shape(address: str) -> tuple[tuple[int, int, int], int] | str:
    """(slices along each axis, volumes in time), or why the file has none."""
    try:
        shape, times = volume_shape(address)
        size = size_of(address)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror or 'cannot be read'}"
    if math.prod(shape) * times > size * _MOST_PACKED:
        return f"the header promises {times:,} x {' x '.join(map(str, shape))} voxels in {size:,} bytes"
    return shape, times


def _rows(found: list[Volumes], axis: int, options: Options) -> pa.Table:
    """A row a slice: columns of the files, repeated, and the slices' own."""
    meanings = columns([volumes.file for volumes in found], options.constants.get("dataset"))
    sizes = np.array([volumes.slices * volumes.times for volumes in found], np.int64)
    file = np.repeat(np.arange(len(found)), sizes)  # of each row
    within = np.arange(len(file)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # its place in its file
    slices = np.repeat(np.array([volumes.slices for volumes in found], np.int64), sizes)
    time, number = within // np.maximum(slices, 1), pa.array((within % np.maximum(slices, 1)).astype(np.int32))
    several = np.repeat(np.array([volumes.times > 1 for volumes in found], bool), sizes)
    types = {"labels": pa.list_(pa.string())}
    table = {
        name: pa.array(values, types.get(name, pa.string())).take(pa.array(file)) for name, values in meanings.items()
    }
    at = pc.if_else(pa.array(several), spliced("@", pa.array(time)), "")
    table["volume_id"] = spliced(table["image_id"], at)
    table["image_id"] = spliced(table["volume_id"], "#", number)
    addresses = pa.array([volumes.file.address for volumes in found], pa.string()).take(pa.array(file))
    part = pc.if_else(pa.array(several), spliced("&time=", pa.array(time)), "")
    window = f"&window={','.join(map(_decimal, options.window))}" if options.window else ""
    table["uri"] = spliced(addresses, f"#axis={axis}&slice=", number, part, window)
    return pa.table(table | {"slice": number})


def _decimal(number: float) -> str:
    """40.0 -> '40', 1e20 -> '1e20': a plus sign would be a space in an address."""
    return f"{number:.15g}".replace("e+", "e")
