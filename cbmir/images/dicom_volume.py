"""One slice of a DICOM series along one of the patient's axes -> (H, W) uint8.

`series/first.dcm#axis=1&slice=30&files=24`: the file stands for its volume, which is all files beside it that have its series, orientation
and size. `files`, where it is given, is how many they were when the address was made. Axes and the way a slice is shown are those of NIfTI
volumes (`planes.py`); voxels are used as they are, whatever their spacing. Of several files at one place the first by instance number counts.
"""

from __future__ import annotations

import io
import posixpath
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from cbmir.images import files
from cbmir.images.dicom import guarded
from cbmir.images.dicom_file import read_data_set
from cbmir.images.dicom_header import Header, read_header
from cbmir.images.dicom_pixels import stored_values
from cbmir.images.dicom_series import Stack, is_slice, stacks, toward_patient
from cbmir.images.dicom_window import grey_volume
from cbmir.images.errors import ImageError
from cbmir.images.limits import refuse_large
from cbmir.images.parts import number
from cbmir.images.planes import plane, refuse_absent

PARTS = {"axis", "slice", "files"}  # what may stand behind '#'
_MOST_BYTES = 1 << 31  # of one volume in memory
_THREADS = 16  # that wait for an object store
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Directory:
    """The DICOM files of a directory."""

    addresses: list[str]
    headers: list[Header]


_lock = threading.Lock()  # around what follows
_last: dict = {}  # slices come one after the other: the last volume of a process, or what was wrong with it
_beside: dict = {}  # and volumes of one directory, too


def read_slice(location: str, part: dict[str, str]) -> np.ndarray:
    """The slice that `part` names (axis, slice, files) of the volume of the file at `location` -> (H, W) uint8.

    All slices have one grey scale: `dicom_window.grey_volume`. ImageError where there is no such slice, or where any file of the volume
    has no pixels.
    """
    axis, index, count = number(part, "axis"), number(part, "slice"), number(part, "files", 0)
    with _lock:
        values = _volume(location, count)
    refuse_absent(values.shape, axis, index)
    return np.ascontiguousarray(plane(values, axis, index))


def _volume(location: str, count: int) -> np.ndarray:
    """(x, y, z) uint8 of the volume that was read last, or of another in its place."""
    key = (files.stamp(location), files.stamp(_directory_of(location)), count)
    if _last.get("at") != key:
        _last.clear()  # before the next one takes its memory
        _last.update(at=key, found=_found(location, count))
    found = _last["found"]
    if isinstance(found, ImageError):
        raise ImageError(str(found), stage=found.stage)
    return found


def _found(location: str, count: int) -> np.ndarray | ImageError:
    """The volume, or what is wrong with it: its other slices need not be tried."""
    try:
        return _load(location, count)
    except ImageError as error:
        return error


def _load(location: str, count: int) -> np.ndarray:
    import nibabel

    directory = _directory(location)
    own, stack = _stack_of(location, directory)
    without = sum(not directory.headers[own[i]].has_pixels for i in stack.members)
    if without:
        raise ImageError(f"{without} of the {len(stack.members)} files of the volume have no pixels", stage="read")
    if count and len(stack.members) != count:
        raise ImageError(
            f"{len(stack.members)} files of the volume lie in the directory, {count} when it was listed; make the manifest anew",
            stage="read",
        )
    rows, columns, depth = stack.rows, stack.columns, len(stack.positions)
    refuse_large(columns, rows)
    if rows * columns * depth * 2 > _MOST_BYTES:
        raise ImageError(
            f"a volume of {columns} x {rows} x {depth} is larger than {_MOST_BYTES >> 20} MiB", stage="decode"
        )
    levels = _levels([directory.addresses[own[i]] for i in stack.firsts], (rows, columns))
    return nibabel.apply_orientation(levels.transpose(2, 1, 0), toward_patient(stack.orientation))


def _stack_of(location: str, directory: _Directory) -> tuple[list[int], Stack]:
    """(slices of the file's series in its directory, the one of its stacks that holds the file)."""
    here = [posixpath.basename(_path(address)) for address in directory.addresses]
    name = posixpath.basename(_path(location))
    file = here.index(name) if name in here else None
    if file is None or not is_slice(directory.headers[file]):
        raise ImageError("the file is no slice of a series: it has no position, or several frames", stage="read")
    uid = directory.headers[file].series_uid
    own = [i for i, header in enumerate(directory.headers) if header.series_uid == uid and is_slice(header)]
    found = stacks([directory.headers[i] for i in own], [directory.addresses[i] for i in own])
    return own, next(stack for stack in found if own.index(file) in stack.members)


def _directory(location: str) -> _Directory:
    beside = files.beside(location)
    key = [files.stamp(address) for address in beside]
    if _beside.get("at") != key:
        _beside.clear()
        _beside.update(at=key, found=_examined(beside))
    return _beside["found"]


def _examined(beside: list[str]) -> _Directory:
    with _each(_header, beside) as headers:
        found = [(address, header) for address, header in zip(beside, headers, strict=True) if header is not None]
    return _Directory([address for address, _ in found], [header for _, header in found])


def _directory_of(location: str) -> str:
    return posixpath.dirname(_path(location)) or "."


def _path(location: str) -> str:
    """A local path as it is; of an address the part that names the file, decoded."""
    return unquote(urlsplit(location).path) if "://" in location else location


def _header(address: str) -> Header | None:
    """None for a file that cannot be read as DICOM, which no manifest has a row of."""
    try:
        # an object is asked for at once: pydicom would ask for eight bytes at a time
        return read_header(files.read_bytes(address) if "://" in address else address)
    except ImageError:
        return None


@contextmanager
def _each(function: Callable[[str], Result], addresses: list[str]) -> Iterator[Iterator[Result]]:
    """function(address) of every address, in order; by threads where an object store is waited for."""
    if not any("://" in address for address in addresses):
        yield map(function, addresses)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        yield pool.map(function, addresses)


def _levels(addresses: list[str], shape: tuple[int, int]) -> np.ndarray:
    """(n, H, W) uint8 of files in the order of their places."""
    stored, datasets = [], []
    with _each(files.read_bytes, addresses) as found, guarded():
        for data in found:
            dataset, _ = read_data_set(io.BytesIO(data))
            if str(dataset.PhotometricInterpretation) not in ("MONOCHROME1", "MONOCHROME2"):
                raise ImageError("slices in color; only grey ones are cut along the patient's axes", stage="decode")
            values = stored_values(dataset, 0, 1)
            if values.shape != shape:
                raise ImageError(f"a slice of {values.shape} pixels in a volume of {shape}", stage="decode")
            for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
                if name in dataset:
                    del dataset[name]  # the values are there: not the same twice in memory
            stored.append(values)
            datasets.append(dataset)
        return grey_volume(stored, datasets)
