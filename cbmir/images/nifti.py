"""One slice of a NIfTI volume -> (H, W, 3) uint8.

`vol.nii.gz#axis=2&slice=30&window=40,400`, and `&time=1` of a 4-D file. Axes are counted in canonical orientation (RAS+, as nibabel
has it): 0 sagittal from the patient's left to right, 1 coronal from posterior to anterior, 2 axial from inferior to superior. A
slice is shown as radiologists look at it: anterior (axial) or superior (coronal, sagittal) at the top; the patient's right on the viewer's
left (axial, coronal), anterior on the viewer's left (sagittal).
"""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow.fs as pafs

from cbmir.images.errors import ImageError
from cbmir.images.limits import refuse_large

SUFFIXES = (".nii", ".nii.gz")
MOST_BYTES = 1 << 31  # of one volume in memory
_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}  # sizeof_hdr, by which the two versions are told apart


@dataclass(frozen=True)
class Layout:
    """What a header says: where one 3-D volume lies in the file and what its numbers mean."""

    shape: tuple[int, int, int]  # as stored, first axis fastest
    times: int
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    shown: tuple[float, float] | None  # cal_min, cal_max
    orientation: np.ndarray  # nibabel's, towards RAS+

    @property
    def volume_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        shape = [0, 0, 0]
        for stored, axis in enumerate(self.orientation[:, 0]):
            shape[int(axis)] = self.shape[stored]
        return tuple(shape)


@dataclass(frozen=True)
class Volume:
    """One 3-D volume in canonical orientation, numbers as stored, and the values shown as black and white."""

    values: np.ndarray  # (x, y, z), or (x, y, z, 3) of a color volume
    slope: float
    inter: float
    low: float
    high: float


_last: dict[tuple[str, int], Volume] = {}  # slices of a volume come one after the other; one volume a process


def is_nifti(data: bytes) -> bool:
    """Whether bytes, packed or not, begin with a NIfTI header."""
    if data[:2] == b"\x1f\x8b":
        try:
            data = zlib.decompressobj(31).decompress(data[:4096], 540)
        except zlib.error:
            return False
    return _size_of(data) in _SIZES and (
        data[344:346] == b"n+" or data[344:346] == b"ni" or data[4:6] in (b"n+", b"ni")
    )


def read_slice(location: str, part: dict[str, str], data: bytes | None = None) -> np.ndarray:
    """The slice that `part` names (axis, slice, time, window) -> (H, W, 3) uint8; `data`: the file's bytes, if they have been read."""
    axis, index, time = (int(part.get(name, default)) for name, default in (("axis", 2), ("slice", 0), ("time", 0)))
    if axis not in (0, 1, 2):
        raise ImageError(f"axis {axis} of a volume; expected 0, 1 or 2", stage="read")
    volume = _last.get((location, time))
    if volume is None:
        _last.clear()
        volume = _last[location, time] = _load(location if data is None else data, time)
    if not 0 <= index < volume.values.shape[axis]:
        raise ImageError(f"slice {index} of a volume with {volume.values.shape[axis]} slices", stage="read")
    values = np.take(volume.values, index, axis=axis)[::-1, ::-1].swapaxes(0, 1)
    refuse_large(values.shape[1], values.shape[0])
    if values.ndim == 3:
        return np.ascontiguousarray(values)
    low, high = _window(part["window"]) if "window" in part else (volume.low, volume.high)
    shown = _scaled(values, volume)
    grey = np.clip((np.nan_to_num(shown, nan=low, posinf=high, neginf=low) - low) * 255.0 / (high - low), 0, 255)
    return np.repeat(np.round(grey).astype(np.uint8)[:, :, None], 3, axis=2)


def volume_shape(location: str) -> tuple[tuple[int, int, int], int]:
    """Slices along each canonical axis and the number of volumes in time, from the header alone."""
    with closing(_open(location)) as file:
        layout = _layout(file)
    return layout.canonical_shape, layout.times


def stored_type(location: str | bytes) -> np.dtype:
    """The numbers that a volume is stored as, from the header alone."""
    with closing(_open(location)) as file:
        return _layout(file).dtype


def _window(text: str) -> tuple[float, float]:
    try:
        center, width = (float(number) for number in text.split(","))
    except ValueError:
        raise ImageError(f"window {text!r}; expected CENTER,WIDTH", stage="read") from None
    if not (np.isfinite([center, width]).all() and width > 0):
        raise ImageError(f"window {text!r}; expected a width above 0", stage="read")
    return center - width / 2, center + width / 2


def _open(location: str | bytes) -> BinaryIO:
    """The file's bytes, unpacked where they are gzip."""
    try:
        if isinstance(location, bytes):
            raw = io.BytesIO(location)
        elif "://" in location:
            fs, path = pafs.FileSystem.from_uri(location)
            raw = fs.open_input_file(path)
        else:
            raw = open(location, "rb")  # noqa: SIM115 -- closed by the caller
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{type(error).__name__}: {reason}", stage="read") from error
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return _Unpacked(raw) if packed else raw


class _Unpacked(gzip.GzipFile):
    """A gzip stream that closes the file below it."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self.raw_file = raw

    def close(self) -> None:
        super().close()
        self.raw_file.close()


def _exactly(file: BinaryIO, count: int, what: str) -> bytes:
    """`count` bytes; a packed stream that would give more is never asked for them."""
    parts, left = [], count
    try:
        while left and (data := file.read(min(left, 1 << 24))):
            parts.append(data)
            left -= len(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(f"the file is broken within {what} ({type(error).__name__})", stage="decode") from error
    if left:
        raise ImageError(f"the file ends within {what}", stage="decode")
    return b"".join(parts)


def _size_of(data: bytes) -> int:
    return next((n for n in (int.from_bytes(data[:4], order) for order in ("little", "big")) if n in _SIZES), 0)


def _layout(file: BinaryIO) -> Layout:
    """Read and examine the header; ImageError for one that promises what cannot be."""
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    data = _exactly(file, 348, "its header")
    kind = _size_of(data)
    if not kind:
        raise ImageError("the file is no NIfTI volume", stage="decode")
    data += _exactly(file, kind - 348, "its header")
    try:
        with LoggingOutputSuppressor():  # it writes a line to standard error for every oddity
            header = getattr(nibabel, _SIZES[kind])(data, check=True)
        shape = tuple(int(n) for n in header.get_data_shape())
        affine, dtype = header.get_best_affine(), header.get_data_dtype()
        slope, inter = header.get_slope_inter()
        shown = (float(header["cal_min"]), float(header["cal_max"]))
        offset = int(header.get_data_offset())
    except Exception as error:  # nibabel raises many kinds for a broken header
        raise ImageError(f"the NIfTI header is broken ({type(error).__name__})", stage="decode") from error
    if header["magic"].item()[:3] in (b"ni1", b"ni2"):
        raise ImageError(
            "a NIfTI header whose voxels lie in another file (.hdr and .img); convert it to .nii", stage="decode"
        )
    if not 2 <= len(shape) <= 7 or min(shape) < 1 or max(shape[4:], default=1) > 1:
        raise ImageError(f"a NIfTI file of shape {shape}; expected a volume, or volumes in time", stage="decode")
    shape = (*shape, 1, 1)
    layout = Layout(
        shape[:3], shape[3], dtype, max(offset, kind), 1.0 if slope is None else float(slope), float(inter or 0.0),
        shown if np.isfinite(shown).all() and shown[1] > shown[0] else None, _orientation(affine),
    )  # fmt: skip
    if layout.volume_bytes > MOST_BYTES or dtype.itemsize == 0:
        raise ImageError(f"a volume of {shape[:3]} is larger than {MOST_BYTES >> 20} MiB", stage="decode")
    if dtype.kind not in "biufV":
        raise ImageError(f"a volume of {dtype} numbers; expected integers, floats or RGB", stage="decode")
    return layout


def _orientation(affine: np.ndarray) -> np.ndarray:
    """nibabel's orientation towards RAS+; axes as stored where the affine says nothing."""
    import nibabel

    if not np.isfinite(affine).all():
        raise ImageError("the NIfTI header's affine is not finite", stage="decode")
    orientation = nibabel.io_orientation(affine)
    plain = np.array([[0, 1], [1, 1], [2, 1]], float)
    return plain if np.isnan(orientation).any() else orientation


def _load(location: str | bytes, time: int) -> Volume:
    import nibabel

    with closing(_open(location)) as file:
        layout = _layout(file)
        if not 0 <= time < layout.times:
            raise ImageError(f"time {time} of a file with {layout.times} volumes", stage="read")
        _skip(file, layout.offset + time * layout.volume_bytes - file.tell())
        data = _exactly(file, layout.volume_bytes, "its voxels")
    values = np.frombuffer(data, layout.dtype).reshape(layout.shape, order="F")
    if values.dtype.names:  # RGB or RGBA, a structure of bytes
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1).astype(np.uint8)
    elif values.dtype.kind == "V" or values.dtype.itemsize > 8:
        raise ImageError(f"a volume of {values.dtype} numbers; expected integers, floats or RGB", stage="decode")
    values = nibabel.apply_orientation(values, layout.orientation)
    low, high = _range(values, layout)
    return Volume(values, layout.slope, layout.inter, low, high)


def _skip(file: BinaryIO, count: int) -> None:
    while count > 0:
        step = min(count, 1 << 24)
        _exactly(file, step, "the bytes before its voxels")
        count -= step


def _scaled(values: np.ndarray, volume: Volume) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is not finite is shown black or white
        return values.astype(np.float64) * volume.slope + volume.inter


def _range(values: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Values shown as black and white: the header's own (cal_min, cal_max), bytes as they are, else the volume's finite range."""
    if layout.shown:
        return layout.shown
    if values.ndim == 4 or (values.dtype == np.uint8 and (layout.slope, layout.inter) == (1.0, 0.0)):
        return 0.0, 255.0
    finite = values if values.dtype.kind != "f" else values[np.isfinite(values)]
    if finite.size == 0:
        raise ImageError("no voxel of the volume is finite", stage="decode")
    with np.errstate(all="ignore"):
        ends = np.array([finite.min(), finite.max()], np.float64) * layout.slope + layout.inter
    low, high = float(ends.min()), float(ends.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("voxels are not finite", stage="decode")
    return (low, high) if high > low else (low, low + 1.0)
