"""One row of an array inside a .npz -> (H, W, 3) uint8, without unpacking the file to disk.

Arrays in a compressed .npz can only be read from their start. Rows are asked for mostly in ascending order, so one open
stream a process is kept and moved forward; memory is one row, whatever the array's size.
"""

from __future__ import annotations

import contextlib
import zipfile
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow.fs as pafs

from cbmir.images.errors import ImageError
from cbmir.images.limits import refuse_large
from cbmir.images.raster import stretch

_MOST_ROW_BYTES = 1 << 31  # an image or a volume
_STEP = 1 << 24  # bytes read at once when skipping forward


@dataclass
class RowStream:
    """A forward reader over axis 0 of one array; `position` is the next row it will read."""

    member: BinaryIO
    shape: tuple[int, ...]
    dtype: np.dtype
    position: int = 0

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def read(self, row: int) -> np.ndarray:
        """Row `row` >= position -> (H, W) or (H, W, 3)."""
        skip = (row - self.position) * self.row_bytes
        while skip > 0:
            skip -= len(self._exactly(min(skip, _STEP)))
        values = np.frombuffer(self._exactly(self.row_bytes), self.dtype)
        self.position = row + 1
        return values.reshape(self.shape[1:])

    def close(self) -> None:
        self.member.close()

    def _exactly(self, count: int) -> bytes:
        data = self.member.read(count)
        if len(data) != count:
            raise ImageError("the array ends before its last row", stage="read")
        return data


_open_streams: dict[tuple[str, str], RowStream] = {}  # one process, one file at a time
_last_row: dict = {}  # slices of a volume come one after the other


def read_row(location: str, part: dict[str, str]) -> np.ndarray:
    """Row `part['row']` (and `part['slice']` of a volume) of array `part['array']` -> (H, W, 3) uint8."""
    if "array" not in part or "row" not in part:
        raise ImageError("an image in a .npz is FILE.npz#array=NAME&row=NUMBER", stage="read")
    try:
        values = _row(location, part["array"], int(part["row"]))
        return _as_rgb(_slice(values, int(part["slice"]), int(part.get("axis", 0))) if "slice" in part else values)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"FileNotFoundError: {error.strerror or error}", stage="read") from error
    except Exception as error:  # a broken zip raises many things; one image must not end a run
        raise ImageError(f"{type(error).__name__}: {error}", stage="read") from error


def _row(location: str, array: str, row: int) -> np.ndarray:
    if _last_row.get("at") == (location, array, row):
        return _last_row["values"]
    stream = _open_streams.pop((location, array), None)
    if stream is None or stream.position > row:
        for other in (*_open_streams.values(), *([stream] if stream else [])):
            other.close()
        _open_streams.clear()
        stream = open_array(location, array)
    try:
        if not 0 <= row < stream.shape[0]:
            raise ImageError(f"row {row} of an array with {stream.shape[0]} rows", stage="read")
        values = stream.read(row)
    except BaseException:
        stream.close()  # a failed read has moved it, nobody knows how far
        raise
    _open_streams[location, array] = stream
    _last_row.update(at=(location, array, row), values=values)
    return values


def _slice(volume: np.ndarray, index: int, axis: int) -> np.ndarray:
    """Slice `index` along `axis` of a volume (d, h, w)."""
    if axis not in (0, 1, 2) or volume.ndim < 3:
        raise ImageError(f"axis {axis} of a volume of shape {volume.shape}; expected 0, 1 or 2", stage="read")
    if not 0 <= index < volume.shape[axis]:
        raise ImageError(f"slice {index} of a volume with {volume.shape[axis]} slices", stage="read")
    return np.take(volume, index, axis=axis)


def open_array(location: str, array: str) -> RowStream:
    """A stream at row 0 of `array`; refuses object arrays, which hold pickles, and Fortran order."""
    with _open_archive(location) as archive:  # the member keeps the file open until it is closed itself
        if f"{array}.npy" not in archive.namelist():
            names = ", ".join(n.removesuffix(".npy") for n in archive.namelist())
            raise ImageError(f"no array '{array}'; the file has {names}", stage="read")
        member = archive.open(f"{array}.npy")
    try:
        shape, fortran, dtype = _header(member)
        if dtype.hasobject or fortran:
            kind = "an object array" if dtype.hasobject else "in Fortran order"
            raise ImageError(f"array '{array}' is {kind}", stage="read")
    except BaseException:
        member.close()
        raise
    stream = RowStream(member, shape, dtype)
    if not shape or stream.row_bytes > _MOST_ROW_BYTES:
        member.close()
        raise ImageError(
            f"array '{array}' of shape {shape}; expected rows of at most {_MOST_ROW_BYTES >> 20} MiB", stage="read"
        )
    return stream


def _open_archive(location: str) -> zipfile.ZipFile:
    if "://" not in location:
        return zipfile.ZipFile(location)
    fs, path = pafs.FileSystem.from_uri(location)
    return zipfile.ZipFile(fs.open_input_file(path))


def _header(member: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)  # (3, 0) differs in the text's encoding alone: names of fields


def array_names(location: str) -> dict[str, tuple[int, ...]]:
    """Arrays of a .npz and their shapes, from the headers alone."""
    with zipfile.ZipFile(location) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist()]
    shapes = {}
    for name in names:
        with contextlib.closing(open_array(location, name)) as stream:
            shapes[name] = stream.shape
    return shapes


def _as_rgb(values: np.ndarray) -> np.ndarray:
    if values.dtype != np.uint8:
        values = stretch(values)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim >= 2:
        refuse_large(values.shape[1], values.shape[0])
    if values.ndim == 2:
        return np.repeat(values[:, :, None], 3, axis=2)
    if values.ndim == 3 and values.shape[2] == 3:
        return values.copy()
    raise ImageError(f"an array row of shape {values.shape}; expected (H, W) or (H, W, 3)", stage="decode")
