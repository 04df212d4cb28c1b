"""One row of an array inside a .npz -> (H, W, 3) uint8, without unpacking the file to disk.

Arrays in a compressed .npz can only be read from their start. Rows are asked for mostly in ascending order, so one open
stream a process is kept and moved forward; memory is one row, whatever the array's size.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow.fs as pafs

from cbmir.images.errors import ImageError
from cbmir.images.raster import stretch

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

    def _exactly(self, count: int) -> bytes:
        data = self.member.read(count)
        if len(data) != count:
            raise ImageError("the array ends before its last row", stage="read")
        return data


_open_streams: dict[tuple[str, str], RowStream] = {}  # one process, one file at a time
_last_row: dict = {}  # slices of a volume come one after the other


def read_row(location: str, part: dict[str, str]) -> np.ndarray:
    """Row `part['row']` (and `part['slice']` of a volume) of array `part['array']` -> (H, W, 3) uint8."""
    try:
        array, row = part["array"], int(part["row"])
        values = _row(location, array, row)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"FileNotFoundError: {error.strerror or error}", stage="read") from error
    except Exception as error:  # a broken zip raises many things; one image must not end a run
        raise ImageError(f"{type(error).__name__}: {error}", stage="read") from error
    if "slice" in part:
        values = values[int(part["slice"])]
    return _as_rgb(values)


def _row(location: str, array: str, row: int) -> np.ndarray:
    if _last_row.get("at") == (location, array, row):
        return _last_row["values"]
    stream = _open_streams.get((location, array))
    if stream is None or stream.position > row:
        stream = open_array(location, array)
        _open_streams.clear()
        _open_streams[location, array] = stream
    if not 0 <= row < stream.shape[0]:
        raise ImageError(f"row {row} of an array with {stream.shape[0]} rows", stage="read")
    values = stream.read(row)
    _last_row.update(at=(location, array, row), values=values)
    return values


def open_array(location: str, array: str) -> RowStream:
    """A stream at row 0 of `array`; refuses object arrays, which hold pickles, and Fortran order."""
    if "://" in location:
        fs, path = pafs.FileSystem.from_uri(location)
        archive = zipfile.ZipFile(fs.open_input_file(path))
    else:
        archive = zipfile.ZipFile(location)
    if f"{array}.npy" not in archive.namelist():
        names = ", ".join(n.removesuffix(".npy") for n in archive.namelist())
        raise ImageError(f"no array '{array}'; the file has {names}", stage="read")
    member = archive.open(f"{array}.npy")
    version = np.lib.format.read_magic(member)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = read_header(member)
    if dtype.hasobject or fortran:
        raise ImageError(
            f"array '{array}' is {'an object array' if dtype.hasobject else 'in Fortran order'}", stage="read"
        )
    return RowStream(member, shape, dtype)


def array_names(location: str) -> dict[str, tuple[int, ...]]:
    """Arrays of a .npz and their shapes, from the headers alone."""
    with zipfile.ZipFile(location) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist()]
    return {name: open_array(location, name).shape for name in names}


def _as_rgb(values: np.ndarray) -> np.ndarray:
    if values.dtype != np.uint8:
        values = stretch(values)
    if values.ndim == 2:
        return np.repeat(values[:, :, None], 3, axis=2)
    if values.ndim == 3 and values.shape[2] == 3:
        return values.copy()
    raise ImageError(f"an array row of shape {values.shape}; expected (H, W) or (H, W, 3)", stage="decode")
