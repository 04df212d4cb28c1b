"""Grey images as one channel where that is enough, as three where color is expected."""

from __future__ import annotations

import numpy as np


def in_color(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 -> (H, W, 3); grey becomes three equal channels."""
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def in_grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of three equal channels -> (H, W); all else as it is.

    Pillow resizes the channels of RGB each alone, so a grey image resized as one channel has the levels of its three, at a third of the work.
    """
    if pixels.ndim == 2 or not _equal_channels(pixels[::16, ::16]) or not _equal_channels(pixels):
        return pixels
    return np.ascontiguousarray(pixels[:, :, 0])


def _equal_channels(pixels: np.ndarray) -> bool:
    first = pixels[:, :, 0]
    return np.array_equal(first, pixels[:, :, 1]) and np.array_equal(first, pixels[:, :, 2])
