"""One slice of a NIfTI volume -> (H, W, 3) uint8.

`vol.nii.gz#axis=2&slice=30&window=40,400`, and `&time=1` of a 4-D file. Axes are the patient's, and a slice is shown as radiologists look
at it: `planes.py`.
"""

from __future__ import annotations

import atexit
import math
import threading
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cbmir.images.errors import ImageError
from cbmir.images.files import stamp
from cbmir.images.nifti_header import Layout, exactly, is_nifti, read_layout, stored_type, unpacked, volume_shape
from cbmir.images.parts import number
from cbmir.images.planes import plane, refuse_absent

__all__ = ["PARTS", "SUFFIXES", "is_nifti", "read_slice", "stored_type", "volume_shape"]

SUFFIXES = (".nii", ".nii.gz")
PARTS = {"axis", "slice", "time", "window"}  # what may stand behind '#'


@dataclass(frozen=True)
class Volume:
    """One 3-D volume in canonical orientation, numbers as stored, and the values shown as black and white."""

    values: np.ndarray  # (x, y, z), or (x, y, z, 3) of a color volume
    slope: float
    inter: float
    low: float
    high: float


@dataclass
class _Stream:
    """An open file, its header read; `time` is the volume that it stands before."""

    file: BinaryIO
    most: int  # bytes that it can have
    layout: Layout
    time: int = 0


_lock = threading.Lock()  # around what follows
_last: dict = {}  # slices come one after the other: the last volume of a process, or what was wrong with it
_streams: dict[tuple, _Stream] = {}  # and volumes in time, too: the last file, open


@atexit.register
def _close_streams() -> None:
    for stream in _streams.values():
        stream.file.close()
    _streams.clear()


def read_slice(location: str, part: dict[str, str], data: bytes | None = None) -> np.ndarray:
    """The slice that `part` names (axis, slice, time, window) -> (H, W) uint8, or (H, W, 3) of a color volume; `data`: the file's bytes, if they have been read.

    window: center,width in the volume's own units (behind scl_slope and scl_inter). Without one the header's cal_min to cal_max,
    else bytes as they are, else the volume's own range, so that all its slices have one scale. Voxels that are not finite are black.
    """
    axis, index, time = number(part, "axis", 2), number(part, "slice", 0), number(part, "time", 0)
    window = _window(part["window"]) if "window" in part else None
    with _lock:
        volume = _volume(location, data, axis, index, time)
    values = plane(volume.values, axis, index)
    if values.ndim == 3:
        return np.ascontiguousarray(values)
    low, high = window or (volume.low, volume.high)
    shown = _scaled(values, volume)
    shown = np.where(np.isfinite(shown), shown, low)
    grey = np.clip((np.clip(shown, low, high) - low) * 255.0 / (high - low), 0, 255)
    return np.round(grey).astype(np.uint8)


def _window(text: str) -> tuple[float, float]:
    try:
        center, width = (float(end) for end in text.split(","))
    except ValueError:
        raise ImageError(f"window {text!r}; expected CENTER,WIDTH", stage="read") from None
    if not (np.isfinite([center, width * 255]).all() and width > 0 and center + width > center):
        raise ImageError(f"window {text!r}; expected a width above 0", stage="read")
    return center - width / 2, center + width / 2


def _volume(location: str, data: bytes | None, axis: int, index: int, time: int) -> Volume:
    """The volume that was read last, or another in its place; ImageError where there is no such slice."""
    key = stamp(location)
    if _last.get("at") == (key, time):
        _refuse_absent(_last["layout"], axis, index, time)
    else:
        stream, more = _stream(key, location if data is None else data, time), False
        try:
            _refuse_absent(stream.layout, axis, index, time)
            _last.clear()  # before the next one takes its memory
            found = _found(stream, time)
            _last.update(at=(key, time), layout=stream.layout, found=found)
            more = isinstance(found, Volume) and stream.time < stream.layout.times
        finally:
            if more:
                _streams[key] = stream
            else:
                stream.file.close()
    found = _last["found"]
    if isinstance(found, ImageError):
        raise ImageError(str(found), stage=found.stage)
    return found


def _refuse_absent(layout: Layout, axis: int, index: int, time: int) -> None:
    refuse_absent(layout.canonical_shape, axis, index)
    if not 0 <= time < layout.times:
        raise ImageError(f"time {time} of a file with {layout.times} volumes", stage="read")


def _stream(key: tuple, source: str | bytes, time: int) -> _Stream:
    """The open file, if it has not gone past `time`, or opened anew."""
    stream = _streams.pop(key, None)
    if stream is not None and stream.time <= time:
        return stream
    if stream is not None:
        stream.file.close()
    _close_streams()
    file, most = unpacked(source)
    try:
        return _Stream(file, most, read_layout(file))
    except BaseException:
        file.close()
        raise


def _found(stream: _Stream, time: int) -> Volume | ImageError:
    """The volume, or what is wrong with it: its other slices need not be tried."""
    try:
        return _load(stream, time)
    except ImageError as error:
        return error


def _load(stream: _Stream, time: int) -> Volume:
    import nibabel

    layout = stream.layout
    begin = layout.offset + time * layout.volume_bytes
    if begin + layout.volume_bytes > stream.most:
        raise ImageError("the file ends within its voxels", stage="decode")
    _skip(stream.file, begin - stream.file.tell())
    data = exactly(stream.file, layout.volume_bytes, "its voxels")
    stream.time = time + 1
    values = np.frombuffer(data, layout.dtype).reshape(layout.shape, order="F")
    if values.dtype.names:  # RGB or RGBA, a structure of bytes
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1).astype(np.uint8)
    low, high = _range(values, layout)
    return Volume(nibabel.apply_orientation(values, layout.orientation), layout.slope, layout.inter, low, high)


def _skip(file: BinaryIO, count: int) -> None:
    while count > 0:
        step = min(count, 1 << 24)
        exactly(file, step, "the bytes before its voxels")
        count -= step


def _scaled(values: np.ndarray, volume: Volume) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is not finite is looked for afterwards
        return values.astype(np.float64) * volume.slope + volume.inter


def _range(values: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Values shown as black and white: the header's own (cal_min, cal_max), bytes as they are, else the volume's finite range."""
    if layout.shown:
        return layout.shown
    if values.ndim == 4 or (values.dtype == np.uint8 and (layout.slope, layout.inter) == (1.0, 0.0)):
        return 0.0, 255.0
    with np.errstate(all="ignore"):
        low, high = sorted(end * layout.slope + layout.inter for end in _finite_ends(values))
    if not math.isfinite((high - low) * 255):
        raise ImageError("voxels are not finite", stage="decode")
    return (low, high) if high > low else (low, low + max(1.0, abs(low)))


def _finite_ends(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite number of (x, y, z), without a copy of all of them."""
    if values.dtype.kind != "f":
        return float(values.min()), float(values.max())
    low, high = math.inf, -math.inf
    for z in range(values.shape[2]):
        plane = values[:, :, z]
        plane = plane[np.isfinite(plane)]
        if plane.size:
            low, high = min(low, float(plane.min())), max(high, float(plane.max()))
    if low > high:
        raise ImageError("no voxel of the volume is finite", stage="decode")
    return low, high
