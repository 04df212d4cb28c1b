"""One row of an array in a .npz, without loading the array.

A .npz is a zip of .npy members: a member is streamed, so row 80,000 costs reading what comes before it. Rows are asked for mostly in
ascending order, so one open stream a process is kept and moved forward; memory is one row, whatever the array's size.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import math
import threading
import zipfile
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cbmir.images.errors import ImageError
from cbmir.images.files import opened, stamp
from cbmir.images.limits import refuse_large
from cbmir.images.parts import number
from cbmir.images.raster import stretch

PARTS = {"array", "row", "slice", "axis", "zoom"}  # what may stand behind '#'
_MOST_ROW_BYTES = 1 << 31  # an image or a volume
_MOST_HEADER_BYTES = 1 << 16  # NumPy itself believes no header of more than 10,000
_STEP = 1 << 24  # bytes read at once when skipping forward
_MOST_VOXELS = 1 << 27  # of a volume that is zoomed, before and after: splines take eight bytes for each
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without bound, and NumPy writes none of them


@dataclass
class RowStream:
    """A forward reader over axis 0 of one array; `position` is the next row it will read."""

    member: BinaryIO
    file: BinaryIO  # that holds it
    shape: tuple[int, ...]
    dtype: np.dtype
    position: int = 0

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

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
        self.file.close()

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count and (more := self.member.read(min(count - len(data), _STEP))):
            data += more  # in steps: a header may promise more than there is
        if len(data) != count:
            raise ImageError("the array ends before its last row", stage="read")
        return bytes(data)


_lock = threading.Lock()  # around what follows
_open_streams: dict[tuple, RowStream] = {}  # one process, one file at a time
_last_row: dict = {}  # slices of a volume come one after the other
_last_zoomed: dict = {}  # the same, of volumes at another size


@atexit.register
def _close_streams() -> None:
    for stream in _open_streams.values():
        stream.close()
    _open_streams.clear()


def read_row(location: str, part: dict[str, str]) -> np.ndarray:
    """Row `part['row']` of array `part['array']` -> (H, W) or (H, W, 3) uint8; of a volume `part['slice']` along `part['axis']`.

    part['zoom']: the volume's side in voxels, to which it is resampled by cubic splines before it is cut.
    """
    if "array" not in part or "row" not in part:
        raise ImageError("an image in a .npz is FILE.npz#array=NAME&row=NUMBER", stage="read")
    row, index, axis = number(part, "row"), number(part, "slice", 0), number(part, "axis", 0)
    try:
        with _lock:
            values = _row(location, part["array"], row)
            values = _zoomed(values, number(part, "zoom")) if "zoom" in part else values
        return _as_bytes(_slice(values, index, axis) if "slice" in part else values)
    except ImageError:
        raise
    except Exception as error:  # a broken zip raises many things; one image must not end a run
        raise ImageError(f"{type(error).__name__}: {error}", stage="read") from error


def _row(location: str, array: str, row: int) -> np.ndarray:
    key = (*stamp(location), array)
    if _last_row.get("at") == (key, row):
        return _last_row["values"]
    _last_row.clear()
    stream = _open_streams.pop(key, None)
    if stream is None or stream.position > row:
        if stream is not None:
            stream.close()
        _close_streams()
        stream = open_array(location, array)
    try:
        if not 0 <= row < stream.shape[0]:
            raise ImageError(f"row {row} of an array with {stream.shape[0]} rows", stage="read")
        values = stream.read(row)
    except BaseException:
        stream.close()  # a failed read has moved it, nobody knows how far
        raise
    _open_streams[key] = stream
    _last_row.update(at=(key, row), values=values)
    return values


def _zoomed(volume: np.ndarray, side: int) -> np.ndarray:
    """A volume (d, h, w) or (d, h, w, 1) -> (side, side, side) of the same type, as scipy.ndimage.zoom with cubic splines gives it; unchanged if it has that size."""
    if _last_zoomed.get("of") is volume and _last_zoomed["side"] == side:
        return _last_zoomed["values"]
    _last_zoomed.clear()
    if volume.ndim == 4 and volume.shape[3] == 1:
        values = volume[..., 0]
    elif volume.ndim == 3:
        values = volume
    else:
        raise ImageError(f"zoom of an array row of shape {volume.shape}; expected a volume (d, h, w)", stage="read")
    if side < 1 or max(side**3, values.size) > _MOST_VOXELS:
        raise ImageError(
            f"zoom={side} of {' x '.join(map(str, values.shape))} voxels; expected 1 to {_MOST_VOXELS >> 20} Mi voxels",
            stage="read",
        )
    if values.shape != (side,) * 3:
        from scipy.ndimage import zoom

        values = zoom(values, [side / length for length in values.shape], order=3)
    _last_zoomed.update(of=volume, side=side, values=values)
    return values


def _slice(volume: np.ndarray, index: int, axis: int) -> np.ndarray:
    """Slice `index` along `axis` of a volume (d, h, w)."""
    if axis not in (0, 1, 2) or volume.ndim < 3:
        raise ImageError(f"axis {axis} of a volume of shape {volume.shape}; expected 0, 1 or 2", stage="read")
    if not 0 <= index < volume.shape[axis]:
        raise ImageError(f"slice {index} of a volume with {volume.shape[axis]} slices", stage="read")
    return volume[(slice(None),) * axis + (index,)]


def open_array(location: str, array: str) -> RowStream:
    """A stream at row 0 of `array`; refuses object arrays, which hold pickles, and Fortran order."""
    file = opened(location)
    try:
        member = _member(zipfile.ZipFile(file), array)
        shape, fortran, dtype = _header(member, array)
        if dtype.hasobject or fortran:
            kind = "an object array" if dtype.hasobject else "in Fortran order"
            raise ImageError(f"array '{array}' is {kind}", stage="read")
        stream = RowStream(member, file, shape, dtype)
        if not shape or min(shape) < 0 or stream.row_bytes > _MOST_ROW_BYTES:
            raise ImageError(
                f"array '{array}' of shape {shape}; expected rows of at most {_MOST_ROW_BYTES >> 20} MiB", stage="read"
            )
    except BaseException:
        file.close()
        raise
    return stream


def _member(archive: zipfile.ZipFile, array: str) -> BinaryIO:
    names = archive.namelist()
    if f"{array}.npy" not in names:
        have = ", ".join(name.removesuffix(".npy") for name in names[:20])
        raise ImageError(f"no array '{array}'; the file has {have}", stage="read")
    if archive.getinfo(f"{array}.npy").compress_type not in _PACKINGS:
        raise ImageError(f"array '{array}' is packed in a way that NumPy does not write", stage="read")
    return archive.open(f"{array}.npy")


def _header(member: BinaryIO, array: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, type); of the header no more is read than a header can have."""
    start = member.read(12)
    version = start[6:8]
    width = 2 if version == b"\1\0" else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    if start[:6] != b"\x93NUMPY" or version not in (b"\1\0", b"\2\0", b"\3\0") or length > _MOST_HEADER_BYTES:
        raise ImageError(f"array '{array}' has no header that NumPy writes", stage="read")
    rest = member.read(length - (4 - width))
    file = io.BytesIO(start[8:] + rest)
    # (3, 0) differs from (2, 0) in the text's encoding alone: names of fields
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        return read(file)
    except ValueError:  # NumPy's text may hold a memory address, different each time
        raise ImageError(f"array '{array}' has a broken header", stage="read") from None


def array_names(location: str) -> dict[str, tuple[int, ...]]:
    """Arrays of a .npz and their shapes, from the headers alone."""
    with opened(location) as file:
        names = [n.removesuffix(".npy") for n in zipfile.ZipFile(file).namelist()]
    shapes = {}
    for name in names:
        with contextlib.closing(open_array(location, name)) as stream:
            shapes[name] = stream.shape
    return shapes


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1) or (H, W, 3) of real numbers -> (H, W) or (H, W, 3) uint8; other numbers than bytes are scaled from their own range."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[2] == 3):
        raise ImageError(f"an array row of shape {values.shape}; expected (H, W) or (H, W, 3)", stage="decode")
    if values.dtype.kind not in "biuf":
        raise ImageError(f"an array of {values.dtype}; expected integers or floats", stage="decode")
    refuse_large(values.shape[1], values.shape[0])
    return values.copy() if values.dtype == np.uint8 else stretch(values)
