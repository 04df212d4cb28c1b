"""The header of a NIfTI file: what it promises, examined before memory is taken for it."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cbmir.images import files
from cbmir.images.errors import ImageError

MOST_BYTES = 1 << 31  # of one volume in memory
_MOST_OFFSET = 1 << 28  # bytes of extensions between header and voxels
_MOST_PACKED = 1_100  # bytes that one byte of gzip can hold: 1,032, and a little for small files
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
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        shape = [0, 0, 0]
        for stored, axis in enumerate(self.orientation[:, 0]):
            shape[int(axis)] = self.shape[stored]
        return tuple(shape)


def is_nifti(data: bytes) -> bool:
    """Whether bytes, packed or not, begin with a NIfTI header."""
    if data[:2] == b"\x1f\x8b":
        try:
            data = zlib.decompressobj(31).decompress(data[:4096], 540)
        except zlib.error:
            return False
    return _size_of(data) in _SIZES and (data[344:346] in (b"n+", b"ni") or data[4:6] in (b"n+", b"ni"))


def volume_shape(location: str) -> tuple[tuple[int, int, int], int]:
    """Slices along each canonical axis and the number of volumes in time, from the header alone."""
    layout = _header_of(location)
    return layout.canonical_shape, layout.times


def stored_type(location: str | bytes) -> np.dtype:
    """The numbers that a volume is stored as, from the header alone."""
    return _header_of(location).dtype


def _header_of(location: str | bytes) -> Layout:
    file, _ = unpacked(location)
    with closing(file):
        return read_layout(file)


def unpacked(location: str | bytes) -> tuple[BinaryIO, int]:
    """(the file's bytes, unpacked where they are gzip; how many there can be at most)."""
    raw = io.BytesIO(location) if isinstance(location, bytes) else files.opened(location)
    try:
        packed = raw.read(2) == b"\x1f\x8b"
        size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
    except OSError as error:
        raw.close()
        raise ImageError(f"{type(error).__name__}: {error.strerror or error}", stage="read") from error
    return (_Unpacked(raw), size * _MOST_PACKED) if packed else (raw, size)


class _Unpacked(gzip.GzipFile):
    """A gzip stream that closes the file below it."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self.raw_file = raw

    def close(self) -> None:
        super().close()
        self.raw_file.close()


def exactly(file: BinaryIO, count: int, what: str) -> bytearray:
    """`count` bytes; memory grows with what there is, and a packed stream that would give more is never asked for it."""
    found = bytearray()
    try:
        while len(found) < count and (more := file.read(min(count - len(found), 1 << 24))):
            found += more
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(f"the file is broken within {what} ({type(error).__name__})", stage="decode") from error
    if len(found) < count:
        raise ImageError(f"the file ends within {what}", stage="decode")
    return found


def _size_of(data: bytes) -> int:
    return next((n for n in (int.from_bytes(data[:4], order) for order in ("little", "big")) if n in _SIZES), 0)


def read_layout(file: BinaryIO) -> Layout:
    """Read and examine the header; ImageError for one that promises what cannot be."""
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    data = exactly(file, 348, "its header")
    kind = _size_of(data)
    if not kind:
        raise ImageError("the file is no NIfTI volume", stage="decode")
    data += exactly(file, kind - 348, "its header")
    try:
        with LoggingOutputSuppressor():  # it writes a line to standard error for every oddity
            header = getattr(nibabel, _SIZES[kind])(bytes(data), check=True)
        if header["magic"].item()[:3] in (b"ni1", b"ni2"):
            raise ImageError(
                "a NIfTI header whose voxels lie in another file (.hdr and .img); convert it to .nii", stage="decode"
            )
        return _examined(header, kind)
    except ImageError:
        raise
    except Exception as error:  # nibabel raises many kinds for a broken header
        raise ImageError(f"the NIfTI header is broken ({type(error).__name__})", stage="decode") from error


def _examined(header, size: int) -> Layout:
    shape = tuple(int(n) for n in header.get_data_shape())
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    slope, inter = header.get_slope_inter()
    shown = (float(header["cal_min"]), float(header["cal_max"]))
    if not 2 <= len(shape) <= 7 or min(shape) < 1 or max(shape[4:], default=1) > 1:
        raise ImageError(f"a NIfTI file of shape {shape}; expected a volume, or volumes in time", stage="decode")
    if offset > _MOST_OFFSET:
        raise ImageError(f"a NIfTI file whose voxels begin at byte {offset:.4g}", stage="decode")
    shape = (*shape, 1, 1)
    layout = Layout(
        shape[:3], shape[3], dtype, max(offset, size), 1.0 if slope is None else float(slope), float(inter or 0.0),
        shown if np.isfinite(shown).all() and shown[1] > shown[0] else None, _orientation(header.get_best_affine()),
    )  # fmt: skip
    if layout.volume_bytes > MOST_BYTES or dtype.itemsize == 0:
        raise ImageError(f"a volume of {shape[:3]} is larger than {MOST_BYTES >> 20} MiB", stage="decode")
    if not (dtype.names or (dtype.kind in "iuf" and dtype.itemsize <= 8)):
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
