"""Images as they are packed: shrunk to a short side, and written without loss."""

from __future__ import annotations

import io
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cbmir.images.channels import in_grey
from cbmir.images.geometry import FILTERS, Geometry, reduction, resized
from cbmir.images.read import read_pixels

VERSION = 1  # of what this module makes of an image: a change that makes other pixels raises it


@dataclass(frozen=True)
class Shrink:
    """How images are packed; all of it decides their pixels.

    short_side     what is larger is brought to it, the long side in proportion; what is not stays as it is
    whole          JPEG decoded at its full size, even where far fewer pixels are kept
    interpolation  Pillow's filter, with antialias
    version        of this module
    """

    short_side: int = 512
    whole: bool = False
    interpolation: str = "bicubic"
    version: int = VERSION

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.short_side, interpolation=self.interpolation)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def decoded(uri: str, how: Shrink, *, data: bytes | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """The image at `uri` -> ((H, W) uint8 where it is grey, else (H, W, 3); its (width, height)).

    A JPEG may come out smaller than it is, by the rule that embedding has too (`geometry.reduction`).
    """
    told: list[tuple[int, int]] = []

    def reduce(size: tuple[int, int]) -> int:
        told.append(size)
        return 1 if how.whole else reduction(size, [how.geometry])

    pixels = in_grey(read_pixels(uri, reduce, data=data))
    return pixels, told[0] if told else (pixels.shape[1], pixels.shape[0])


def shrunk(pixels: np.ndarray, how: Shrink) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 -> the same with a short side of at most `how.short_side`."""
    if min(pixels.shape[:2]) <= how.short_side:
        return pixels
    size = resized((pixels.shape[1], pixels.shape[0]), how.geometry)
    return np.asarray(Image.fromarray(pixels).resize(size, FILTERS[how.interpolation]))


def as_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 -> a PNG of one or three channels that holds exactly these.

    Run lengths: on radiographs as small as zlib's default, in a quarter of the time.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def unpacked(png: bytes) -> np.ndarray:
    """The inverse of `as_png`; ImageError where the bytes are none."""
    return read_pixels("", data=png)
