"""PNG, JPEG, TIFF and what else Pillow reads -> (H, W, 3) uint8."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from cbmir.images.errors import ImageError

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def decode(data: bytes) -> np.ndarray:
    """Bytes of an image file -> (H, W, 3) uint8.

    Deep grey images (16-bit PNG, 32-bit TIFF) are scaled from their own minimum and maximum to 0..255, because
    Pillow's own conversion clips them; transparency is dropped; of several frames the first is taken.
    """
    if not data:
        raise ImageError("the file is empty", stage="decode")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. palette transparency: not worth a line an image
        try:
            image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:  # Pillow's own message holds a memory address, different each time
            raise ImageError("the file is of no image format that is known", stage="decode") from None
        if image.mode in _DEEP:
            return np.repeat(stretch(np.asarray(image))[:, :, None], 3, axis=2)
        return np.asarray(image.convert("RGB"))


def stretch(values: np.ndarray) -> np.ndarray:
    """(H, W) of any number type -> (H, W) uint8, its minimum at 0 and its maximum at 255; constant -> 0."""
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("pixels are not finite", stage="decode")
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.round((values - low) * (255.0 / (high - low))).astype(np.uint8)
