"""DICOM -> (H, W, 3) uint8, displayed as the standard says (PS3.3 C.7.6.3, C.11.1, C.11.2)."""

from __future__ import annotations

import io
import warnings

import numpy as np

from cbmir.images.errors import ImageError
from cbmir.images.raster import stretch


def is_dicom(data: bytes) -> bool:
    """Whether bytes are DICOM Part 10: 'DICM' behind a preamble of 128 bytes."""
    return data[128:132] == b"DICM"


def decode(data: bytes, *, frame: int = 0) -> np.ndarray:
    """One frame of a DICOM file -> (H, W, 3) uint8; header fields go nowhere else.

    Grey: modality LUT, then the first VOI LUT or window, then MONOCHROME1 inverted, then the window's output range to
    0..255 (without a window the frame's own range). Colour: palette and YBR become RGB.
    """
    import pydicom
    from pydicom.pixels import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every odd header; the pixels decide
        dataset = pydicom.dcmread(io.BytesIO(data))
        if "PixelData" not in dataset:
            raise ImageError("DICOM without pixel data", stage="decode")
        frames = int(dataset.get("NumberOfFrames") or 1)
        if not 0 <= frame < frames:
            raise ImageError(f"frame {frame} of a DICOM with {frames}", stage="decode")
        values = pixel_array(dataset, index=frame)
        kind = dataset.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            return _colour(_palette(values, dataset), dataset)
        if values.ndim == 3:
            return _colour(values, dataset)
        return np.repeat(_grey(values, dataset, inverted=kind == "MONOCHROME1")[:, :, None], 3, axis=2)


def _palette(values: np.ndarray, dataset) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    return apply_color_lut(values, dataset)


def _colour(values: np.ndarray, dataset) -> np.ndarray:
    """(H, W, 3) of 8 or 16 bits -> uint8; `pixel_array` has made RGB of YBR already."""
    if values.dtype == np.uint8:
        return values[:, :, :3]
    palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    deepest = 2 ** (dataset.RedPaletteColorLookupTableDescriptor[2] if palette else dataset.BitsStored) - 1
    return np.round(values[:, :, :3].astype(np.float64) * (255.0 / deepest)).astype(np.uint8)


def _grey(values: np.ndarray, dataset, *, inverted: bool) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(values, dataset)
    windowed = _windowed(values, dataset)
    grey = stretch(values) if windowed is None else np.round(windowed).astype(np.uint8)
    return 255 - grey if inverted else grey


def _windowed(values: np.ndarray, dataset) -> np.ndarray | None:
    """Values through the first VOI LUT or window, its dark end at 0 and its bright end at 255; None where there is neither.

    A window shows its whole output range, also where the image fills only a part of it, so the ends are asked of the
    window itself (two values far outside it), not of the image. pydicom's output falls where the rescale slope is
    negative; the standard's does not.
    """
    from pydicom.pixels import apply_voi_lut

    if dataset.get("VOILUTSequence"):
        descriptor = dataset.VOILUTSequence[0].LUTDescriptor
        dark, bright = 0.0, 2.0 ** int(descriptor[2]) - 1
        descriptor[2] = 16  # pydicom indexes in the type of the entries: with 8 bits, entry 256 would be 0 again
    elif dataset.get("WindowWidth") is None or dataset.get("WindowCenter") is None:
        return None
    else:
        dark, bright = apply_voi_lut(np.array([-1e9, 1e9]), dataset, index=0)
    if dark == bright:
        return None
    shown = apply_voi_lut(values, dataset, index=0).astype(np.float64)
    return np.clip((shown - dark) * (255.0 / (bright - dark)), 0, 255)
