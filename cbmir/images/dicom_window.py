"""Stored grey levels of a DICOM frame -> what a display shows (PS3.3 C.11.1 modality LUT, C.11.2 VOI LUT)."""

from __future__ import annotations

import math

import numpy as np

from cbmir.images.raster import stretch

_RESCALE = ("RescaleIntercept", "RescaleSlope", "RescaleType")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")


def grey(values: np.ndarray, dataset, *, frame: int, inverted: bool) -> np.ndarray:
    """(H, W) stored values -> (H, W) uint8: modality LUT, first VOI LUT or window, inversion."""
    from pydicom.pixels import apply_modality_lut

    _take_frames_own(dataset, frame)
    shown = apply_modality_lut(values, dataset)
    windowed = _windowed(shown, dataset)
    if windowed is not None:
        levels = np.round(windowed).astype(np.uint8)
    elif _is_eight_bit(values, dataset):
        levels = values
    else:
        levels = _own_range(shown, values, dataset)
    return 255 - levels if inverted else levels


def _take_frames_own(dataset, frame: int) -> None:
    """Rescale and window of an enhanced multi-frame file stand in functional groups, shared or one a frame; bring them where others have them."""
    for sequence, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        groups = dataset.get(sequence)
        if not groups or index >= len(groups):
            continue
        for inner, names in (("PixelValueTransformationSequence", _RESCALE), ("FrameVOILUTSequence", _WINDOW)):
            found = groups[index].get(inner)
            for name in names if found else ():
                if name in found[0]:
                    setattr(dataset, name, found[0].get(name))


def _is_eight_bit(values: np.ndarray, dataset) -> bool:
    """Whether stored levels are already what a display shows: 8 unsigned bits, all used, without a rescale."""
    plain = not dataset.get("ModalityLUTSequence") and (
        (float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)) == (1.0, 0.0)
    )
    return values.dtype == np.uint8 and plain and dataset.get("BitsStored") == 8


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
    elif not _has_window(dataset):
        return None
    else:
        dark, bright = apply_voi_lut(np.array([-1e9, 1e9]), dataset, index=0)
    if dark == bright:
        return None
    shown = apply_voi_lut(values, dataset, index=0).astype(np.float64)
    return np.clip((shown - dark) * 255.0 / (bright - dark), 0, 255)


def _has_window(dataset) -> bool:
    """Whether the first window means anything: two finite numbers, and a width of at least 1 (above 0 unless LINEAR)."""
    try:
        center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    except (TypeError, ValueError, IndexError):
        return False
    linear = (dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR"
    return math.isfinite(center) and math.isfinite(width) and (width >= 1 if linear else width > 0)


def _first(value) -> float:
    return float(value if isinstance(value, (int, float, str)) else value[0])


def _own_range(shown: np.ndarray, stored: np.ndarray, dataset) -> np.ndarray:
    """Scaled from the frame's minimum and maximum; pixels that only pad the image do not count, and are dark."""
    padding = _padding(stored, dataset)
    if padding is None or padding.all() or not padding.any():
        return stretch(shown)
    levels = np.zeros(shown.shape, np.uint8)
    levels[~padding] = stretch(shown[~padding])
    return levels


def _padding(stored: np.ndarray, dataset) -> np.ndarray | None:
    """Pixels between PixelPaddingValue and its range limit (PS3.3 C.7.5.1.1.2), None where there is none."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    return (stored >= low) & (stored <= high)
