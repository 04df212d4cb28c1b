"""PNG, JPEG, TIFF and what else Pillow reads -> (H, W) or (H, W, 3) uint8."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_PIXELS, refuse_large
from cbmir.images.quiet import quiet

# Pillow knows more: some that start programs (EPS), some that are found in any bytes, having no mark of their own (TGA).
Reduce = Callable[[tuple[int, int]], int]
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "JPEG2000", "PPM", "AVIF", "ICO", "PCX", "SGI")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_DEPTHS = {"1": 1, "I": 32, "F": 32} | dict.fromkeys(_DEEP[2:], 16)  # bits of a channel, where they are not 8
_ORIENTATION = 0x0112  # of EXIF 2.32, 4.6.4: which corner of what is seen the first row and column are
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_ON_ITS_SIDE = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}


def decode(data: bytes, reduce: Reduce | None = None) -> np.ndarray:
    """Bytes of an image file -> (H, W) uint8 if it is stored as grey, else (H, W, 3), upright as its EXIF orientation says.

    reduce: (width, height) upright -> how many times smaller a JPEG may be decoded; without it, and for all else, whole.

    Deep grey images (16-bit PNG with alpha or without, 16- and 32-bit TIFF) are scaled from their own minimum and maximum to 0..255,
    because Pillow's own conversion clips them; 16 bits that only hold 8-bit levels times 257 become these levels. Of 16 bits a color
    channel the upper eight count. Transparency is dropped; of several frames the first is taken.
    """
    if not data:
        raise ImageError("the file is empty", stage="decode")
    with quiet():  # e.g. palette transparency: not worth a line an image
        image = _opened(data)
        if reduce is not None and image.format == "JPEG" and image.mode in ("L", "RGB"):
            factor = reduce(_upright_size(image))
            image.draft(image.mode, tuple(-(-side // factor) for side in image.size))
        if _is_deep_with_alpha(data):
            high_and_low = np.asarray(_upright(_opened(_as_rgba(data))))
            return _levels(high_and_low[:, :, 0].astype(np.uint16) << 8 | high_and_low[:, :, 1])
        inverted = image.format == "TIFF" and image.mode in _DEEP and image.tag_v2.get(262) == 0  # WhiteIsZero
        image = _upright(image)
        if image.mode in _DEEP:
            grey = _levels(np.asarray(image))
            return 255 - grey if inverted else grey
        return np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def describe(data: bytes) -> tuple[str, int, int]:
    """(format, channels, bits of a channel as stored) of an image file, from its header."""
    with quiet():
        image = _opened(data)
        depth = data[24] if image.format == "PNG" else _DEPTHS.get(image.mode, 8)  # Pillow hides 16 bits of a color PNG
        return str(image.format), len(image.getbands()), depth


def _opened(data: bytes) -> Image.Image:
    """The image, its header read and its pixels not."""
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:  # Pillow's own message holds a memory address, different each time
        raise ImageError("the file is of no image format that is known", stage="decode") from None
    except Image.DecompressionBombError:
        raise ImageError(f"the file's header promises more than {MOST_PIXELS:,} pixels", stage="decode") from None
    refuse_large(*image.size)
    return image


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # a TIFF is turned by Pillow as it is loaded, and then says that it needs no turn
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of a JPEG as it is seen."""
    return image.size[::-1] if _turn(image) in _ON_ITS_SIDE else image.size


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # EXIF that cannot be read says nothing; the pixels are well
        return None


def _is_deep_with_alpha(data: bytes) -> bool:
    """A PNG of 16 bits of grey and 16 of alpha, of which Pillow gives the upper eight."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and data[24:26] == bytes([16, 4])


def _as_rgba(data: bytes) -> bytes:
    """The same PNG under a header of 8-bit RGBA: four bytes a pixel too, so red and green are the grey's two bytes."""
    head = data[12:24] + bytes([8, 6]) + data[26:29]
    return data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]


def _levels(values: np.ndarray) -> np.ndarray:
    """Grey levels of more than 8 bits, (H, W) -> (H, W) uint8."""
    if values.dtype.kind in "iu" and values.size and values.min() >= 0 and values.max() <= 0xFFFF:
        high = values >> 8
        if values.max() > 0xFF and np.array_equal(high, values & 0xFF):  # v * 257: eight bits, written as sixteen
            return high.astype(np.uint8)
    return stretch(values)


def stretch(values: np.ndarray) -> np.ndarray:
    """Numbers of any real type -> uint8 of the same shape, the minimum at 0 and the maximum at 255; constant -> 0."""
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high, (high - low) * 255.0]).all():
        raise ImageError("pixels are not finite", stage="decode")
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.round((values - low) * 255.0 / (high - low)).astype(np.uint8)
