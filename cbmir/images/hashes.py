"""Hashes by which copies of a picture are found."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from PIL import Image

_SIDE, _KEPT = (
    32,
    8,
)  # the picture is shrunk to 32 x 32, of whose cosine transform the 8 x 8 lowest frequencies are kept


def pixels_hash(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 -> 32 hex digits of BLAKE2b over shape and pixels: equal for equal pictures, whatever files carry them."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()


def perceptual_hash(pixels: np.ndarray) -> int | None:
    """(H, W, 3) uint8 -> 64 bits as int64: whether each low frequency of the shrunk grey picture is above their median.

    As `phash` of the ImageHash package has it (after Zauner 2010, *Implementation and Benchmarking of Perceptual Image Hash Functions*). Few bits differ between a
    picture and its recompressed or resized copy. None for a picture of one color, whose bits would be noise.
    """
    if (pixels == pixels[0, 0]).all():
        return None
    small = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    waves = _cosines()
    low = waves @ np.asarray(small, np.float64) @ waves.T  # (8, 8)
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


@cache
def _cosines() -> np.ndarray:
    """The first rows of the discrete cosine transform of type II, (8, 32), not normalised."""
    k, n = np.arange(_KEPT)[:, None], np.arange(_SIDE)[None]
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))
