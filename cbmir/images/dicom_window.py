"""Stored grey levels of a DICOM frame -> what a display shows (PS3.3 C.11.1 modality LUT, C.11.2 VOI LUT)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cbmir.images.errors import ImageError
from cbmir.images.raster import stretch


def grey(values: np.ndarray, dataset, *, frame: int, inverted: bool) -> np.ndarray:
    """(H, W) stored values -> (H, W) uint8: modality LUT, first VOI LUT or window, inversion."""
    sources = [*_groups(dataset, frame), dataset]
    depth = _whole(dataset.get("BitsStored")) or values.dtype.itemsize * 8
    modality, plain = _modality(sources)
    window = _voi(sources, modality(_reach(values, depth)))
    padding = None
    if window is not None:
        levels = _levels(window(modality(values)))
    elif plain and depth == 1:
        levels = (values != 0) * np.uint8(255)
    elif plain and depth == 8 and values.dtype.kind == "u" and values.max() <= 255:
        levels = values.astype(np.uint8)
    else:
        padding = _padding(values, dataset)
        levels = _own_range(modality(values), padding)
    levels = 255 - levels if inverted else levels
    if padding is not None:
        levels[padding] = 0
    return levels


def grey_volume(stored: list[np.ndarray], datasets: list) -> np.ndarray:
    """(H, W) stored values of each slice of a volume -> (n, H, W) uint8 on one scale.

    Each slice has its own modality LUT and is inverted if it is MONOCHROME1; the VOI LUT or window is that of the middle slice. Without one,
    unsigned 8-bit levels stay as they are, and others are scaled from the volume's lowest to its highest value, in which padding does not count.
    """
    sources = [[*_groups(dataset, 0), dataset] for dataset in datasets]
    meanings = [_modality(of_slice) for of_slice in sources]
    middle = len(stored) // 2
    depths = [_whole(d.get("BitsStored")) or v.dtype.itemsize * 8 for v, d in zip(stored, datasets, strict=True)]
    window = _voi(sources[middle], meanings[middle][0](_reach(stored[middle], depths[middle])))
    paddings: list[np.ndarray | None] = [None] * len(stored)
    if window is None and all(
        plain and depth == 8 and values.dtype.kind == "u" and values.max() <= 255
        for values, depth, (_, plain) in zip(stored, depths, meanings, strict=True)
    ):
        window = _as_they_are
    elif window is None:
        paddings = [_padding(values, dataset) for values, dataset in zip(stored, datasets, strict=True)]
        window = _range_of(stored, meanings, paddings)
    levels = np.empty((len(stored), *stored[0].shape), np.uint8)
    for i, (values, dataset, padding) in enumerate(zip(stored, datasets, paddings, strict=True)):
        levels[i] = _levels(window(meanings[i][0](values)))
        if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
            levels[i] = 255 - levels[i]
        if padding is not None:
            levels[i][padding] = 0
    return levels


def _as_they_are(values: np.ndarray) -> np.ndarray:
    return values


def _range_of(stored: list[np.ndarray], meanings: list, paddings: list) -> Callable[[np.ndarray], np.ndarray]:
    """From black at the lowest value of all slices to white at the highest; padding counts where there is nothing else."""
    everything = all(padding is None or padding.all() for padding in paddings)
    low, high = math.inf, -math.inf
    for values, (modality, _), padding in zip(stored, meanings, paddings, strict=True):
        shown = modality(values if padding is None or everything else values[~padding])
        if shown.size:
            low, high = min(low, float(shown.min())), max(high, float(shown.max()))
    if not math.isfinite((high - low) * 255.0):
        raise ImageError("pixels are not finite", stage="decode")
    return lambda values: (values.astype(np.float64) - low) * 255.0 / (high - low or 1.0)


def _groups(dataset, frame: int) -> list:
    """Functional groups of an enhanced multi-frame file: the frame's own, then those that all frames share."""
    found = []
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        groups = dataset.get(sequence)
        if not groups or index >= len(groups):
            continue
        for inner in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            found += list(groups[index].get(inner) or [])[:1]
    return found


def _modality(sources: list) -> tuple[Callable[[np.ndarray], np.ndarray], bool]:
    """(stored values -> values that mean something, whether they are the same)."""
    table = _look_up(sources, "ModalityLUTSequence", scaled=False)
    if table is not None:
        return table, False
    names = ("RescaleSlope", "RescaleIntercept")
    source = next((s for s in sources if any(s.get(name) is not None for name in names)), None)
    slope, intercept = (1.0, 0.0) if source is None else map(_first, map(source.get, names), (1.0, 0.0))
    sound = math.isfinite(slope) and math.isfinite(intercept) and slope != 0  # one that is not leaves one value
    if not sound or (slope, intercept) == (1.0, 0.0):
        return lambda values: values, True
    return lambda values: values.astype(np.float64) * slope + intercept, False


def _look_up(sources: list, name: str, *, scaled: bool) -> Callable[[np.ndarray], np.ndarray] | None:
    """The first table of a sequence; below its first value it gives its first entry, above its last one its last.

    scaled: its entries to 0..255 from its own depth.
    """
    item = next((source.get(name)[0] for source in sources if source.get(name)), None)
    if item is None:
        return None
    count, first, depth = (int(v) for v in item.LUTDescriptor)
    entries = item.LUTData
    if isinstance(entries, bytes):  # of 16 bits as the file has them, or of 8 bits, two a word
        count = (count & 0xFFFF) or 1 << 16
        order = ">" if item.original_encoding[1] is False else "<"
        entries = (
            np.frombuffer(entries[: len(entries) // 2 * 2], f"{order}u2")
            if len(entries) >= 2 * count
            else np.frombuffer(entries[:count], np.uint8)
        )
    table = np.atleast_1d(np.asarray(entries, np.float64))
    if not table.size:
        raise ImageError("the DICOM has a lookup table without entries", stage="decode")
    if scaled:
        most = 2.0 ** min(max(depth, 8), 16) - 1
        table = table * 255.0 / (most if table.max() <= most else 65535.0)
    return lambda values: table[np.clip(np.rint(values.astype(np.float64)) - first, 0, table.size - 1).astype(np.int64)]


def _voi(sources: list, reach: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """The first VOI LUT, else the first window."""
    return _look_up(sources, "VOILUTSequence", scaled=True) or _window(sources, reach)


def _reach(values: np.ndarray, depth: int) -> np.ndarray:
    """Values from the lowest to the highest that can be stored; of floating-point pixels, that are."""
    if values.dtype.kind == "f":
        return np.linspace(values.min(), values.max(), 257)
    depth = min(max(depth, 1), values.dtype.itemsize * 8)
    low = -(2.0 ** (depth - 1)) if values.dtype.kind == "i" else 0.0
    return np.linspace(low, low + 2.0**depth - 1, 257)


def _window(sources: list, reach: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """The first window, values -> 0..255; None where there is none or it would show all that can be stored as one level."""
    for source in sources:
        if source.get("WindowCenter") is None or source.get("WindowWidth") is None:
            continue
        try:
            center, width = _first(source.get("WindowCenter"), math.nan), _first(source.get("WindowWidth"), math.nan)
        except (TypeError, ValueError, IndexError):
            return None
        function = str(source.get("VOILUTFunction") or "LINEAR").upper()
        if (
            not (math.isfinite(center) and math.isfinite(width))
            or width < (1 if _is_linear(function) else 0)
            or width == 0
        ):
            return None
        window = _curve(center, width, function)
        return window if np.ptp(_levels(window(reach)).astype(int)) > 1 else None  # one for rounding
    return None


def _is_linear(function: str) -> bool:
    """LINEAR is the default, also for what is none of the three."""
    return function not in ("LINEAR_EXACT", "SIGMOID")


def _curve(center: float, width: float, function: str) -> Callable[[np.ndarray], np.ndarray]:
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, with 0 and 255 as the ends of the output."""
    if function == "SIGMOID":
        return lambda values: 255.0 / (1 + np.exp(-4.0 * (values - center) / width))
    if _is_linear(function):
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return lambda values: np.where(values > center, 255.0, 0.0)
    return lambda values: ((values - center) / width + 0.5) * 255.0


def _levels(shown: np.ndarray) -> np.ndarray:
    return np.round(np.clip(shown, 0.0, 255.0)).astype(np.uint8)


def _own_range(shown: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    """Scaled from the frame's minimum and maximum, without the pixels that only pad it."""
    if padding is None or padding.all() or not padding.any():
        return stretch(shown)
    levels = np.zeros(shown.shape, np.uint8)
    levels[~padding] = stretch(shown[~padding])
    return levels


def _padding(stored: np.ndarray, dataset) -> np.ndarray | None:
    """Pixels between PixelPaddingValue and its range limit (PS3.3 C.7.5.1.1.2), None where there is none."""
    value, limit = (_whole(dataset.get(name)) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if value is None or stored.dtype.kind == "f":
        return None
    ends = [
        end - (1 << 16) if stored.dtype.kind == "i" and end > 0x7FFF else end
        for end in (value, value if limit is None else limit)
    ]
    return (stored >= min(ends)) & (stored <= max(ends))


def _whole(value) -> int | None:
    return int(value) if isinstance(value, int) else None


def _first(value, default: float) -> float:
    """A number, or the first of several; `default` where there is none."""
    if value is None or value == "":
        return default
    return float(value if isinstance(value, (int, float, str)) else value[0])
