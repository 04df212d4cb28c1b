"""DICOM -> (H, W) or (H, W, 3) uint8, displayed as the standard says (PS3.3 C.7.6.3, C.7.6.16, C.11.1, C.11.2).

What pydicom says of a broken file may quote its header, so of its errors only the kind goes into a message.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cbmir.images.dicom_file import is_dicom, read_data_set
from cbmir.images.dicom_pixels import stored_values
from cbmir.images.dicom_window import grey
from cbmir.images.errors import ImageError
from cbmir.images.limits import refuse_large
from cbmir.images.quiet import quiet
from cbmir.patience import StorageError

__all__ = ["decode", "describe", "guarded", "is_dicom"]

_last: tuple | None = None  # bytes and data set of the last file with several frames: they come one after the other


def decode(data: bytes, *, frame: int = 0) -> np.ndarray:
    """One frame of a DICOM file -> (H, W) uint8 of grey or (H, W, 3) of color; header fields go nowhere else.

    Grey: modality LUT or rescale, then the first VOI LUT or window, then MONOCHROME1 inverted; the frame's own where it has its own.
    Without a window, unsigned 8-bit levels stay as they are, and others are scaled from the frame's own range, in which pixels that
    only pad the image do not count. Color: palette and YBR become RGB. Overlays are not shown.
    """
    with guarded():
        return _decode(_data_set(data), frame)


@contextmanager
def guarded() -> Iterator[None]:
    """Around all that pydicom does with a file's pixels: whatever it raises becomes an ImageError that quotes nothing of the file."""
    with quiet():
        try:
            yield
        except (ImageError, StorageError):
            raise
        except MemoryError:
            raise ImageError("the DICOM's pixels do not fit into memory", stage="decode") from None
        except Exception as error:  # its text may quote the header: only its kind is told
            raise ImageError(f"the DICOM cannot be read ({type(error).__name__})", stage="decode") from None


def describe(data: bytes) -> tuple[int, int]:
    """(channels, bits stored of each) as the header says, 0 where it does not."""
    with quiet():
        try:
            dataset, _ = read_data_set(io.BytesIO(data), header=[0x00280002, 0x00280101])
            return int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("BitsStored") or 0)
        except ImageError:
            raise
        except Exception as error:  # as above
            raise ImageError(f"the DICOM cannot be read ({type(error).__name__})", stage="decode") from None


def _data_set(data: bytes):
    """The data set of a file with pixels; parsed once for all frames of the same bytes."""
    global _last
    last = _last
    if last is not None and last[0] is data:
        return last[1]
    _last = None
    dataset, pixels = read_data_set(io.BytesIO(data))
    if not pixels:
        raise ImageError("DICOM without pixel data", stage="decode")
    if _frames(dataset) > 1:
        _last = (data, dataset)
    return dataset


def _frames(dataset) -> int:
    return max(1, int(dataset.get("NumberOfFrames") or 1))


def _decode(dataset, frame: int) -> np.ndarray:
    refuse_large(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))
    frames = _frames(dataset)
    if not 0 <= frame < frames:
        raise ImageError(f"frame {frame} of a DICOM with {frames}", stage="decode")
    values = stored_values(dataset, frame, frames)
    kind = str(dataset.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        return _color(_palette(values, dataset), dataset)
    if values.ndim == 3:
        return _color(values, dataset)
    return grey(values, dataset, frame=frame, inverted=kind == "MONOCHROME1")


def _palette(values: np.ndarray, dataset) -> np.ndarray:
    """(H, W) indices -> (H, W, 3 or 4) entries of the palette."""
    from pydicom.pixels import apply_color_lut

    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        _refuse_indirect(dataset)
    return apply_color_lut(values, dataset)


def _refuse_indirect(dataset) -> None:
    """A segmented palette may repeat its segments by reference, and such references to each other unpack without end."""
    wide = int(dataset.RedPaletteColorLookupTableDescriptor[2]) > 8
    for name in ("Red", "Green", "Blue"):
        segments = np.frombuffer(
            dataset.get(f"Segmented{name}PaletteColorLookupTableData"), np.uint16 if wide else np.uint8
        )
        at = 0
        while at + 1 < len(segments):
            kind, length = int(segments[at]), int(segments[at + 1])
            if kind > 1:
                raise ImageError("a palette of indirect segments, which are not read", stage="decode")
            at += 2 + (length if kind == 0 else 1)


def _color(values: np.ndarray, dataset) -> np.ndarray:
    """(H, W, 3) of 8 or 16 bits -> uint8; YBR has become RGB already."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values[:, :, :3])
    palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    deepest = 2 ** int(dataset.RedPaletteColorLookupTableDescriptor[2] if palette else dataset.BitsStored) - 1
    return np.clip(np.round(values[:, :, :3].astype(np.float64) * (255.0 / deepest)), 0, 255).astype(np.uint8)
