"""PNG, JPEG, TIFF and what else Pillow reads -> (H, W, 3) uint8."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_PIXELS, refuse_large

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def decode(data: bytes) -> np.ndarray:
    """Bytes of an image file -> (H, W, 3) uint8, upright as its EXIF orientation says.

    Deep grey images (16-bit PNG, 32-bit TIFF) are scaled from their own minimum and maximum to 0..255, because Pillow's own
    conversion clips them; 16 bits that only hold 8-bit levels times 257 become these levels. Transparency is dropped; of several
    frames the first is taken.
    """
    if not data:
        raise ImageError("the file is empty", stage="decode")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. palette transparency: not worth a line an image
        try:
            image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:  # Pillow's own message holds a memory address, different each time
            raise ImageError("the file is of no image format that is known", stage="decode") from None
        except Image.DecompressionBombError:
            raise ImageError(f"the file's header promises more than {MOST_PIXELS:,} pixels", stage="decode") from None
        refuse_large(*image.size)
        image = ImageOps.exif_transpose(image)
        if image.mode in _DEEP:
            return np.repeat(_deep(np.asarray(image))[:, :, None], 3, axis=2)
        return np.asarray(image.convert("RGB"))


def _deep(values: np.ndarray) -> np.ndarray:
    """Grey levels of more than 8 bits -> (H, W) uint8."""
    if values.dtype.kind in "iu" and values.size and values.min() >= 0 and values.max() <= 0xFFFF:
        high = values >> 8
        if values.max() > 0xFF and np.array_equal(high, values & 0xFF):  # v * 257: eight bits, written as sixteen
            return high.astype(np.uint8)
    return stretch(values)


def stretch(values: np.ndarray) -> np.ndarray:
    """(H, W) of any number type -> (H, W) uint8, its minimum at 0 and its maximum at 255; constant -> 0."""
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("pixels are not finite", stage="decode")
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.round((values - low) * 255.0 / (high - low)).astype(np.uint8)
