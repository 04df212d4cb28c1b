"""Resize and crop: an image of any size -> the square of pixels that an encoder takes.

Sizes, rounding and filters are torchvision's and Pillow's, because published encoders were trained and measured with
them; a test holds this module to torchvision's own transforms, pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


MODES = ("squash", "short_side", "long_side", "long_side_corner", "pad_square")
CENTRES = ("even", "down")
DETAIL_FILTER = Image.Resampling.BICUBIC  # with antialias: without it, what is left depends on which pixels are hit
MOST_PIXELS = 1 << 26  # of the image between resize and crop; a strip of one pixel's height would ask for gigabytes


@dataclass(frozen=True)
class Geometry:
    """How pixels are brought to `size` x `size`. All filters are Pillow's, with antialias.

    mode    'squash': to the square `resize`; 'short_side': short side to `resize`; 'long_side': long side to `resize`;
            'long_side_corner': the same, with the image in the upper left corner (Segment Anything);
            'pad_square': first framed to a square of at least `size`, then to the square `resize` (MedCLIP).
            Then the centre `size` is cut out, or padded with `fill` where the image is smaller.
    resize  defaults to `size`
    centre  how the crop's corner is rounded: 'even' (torchvision: half to even) or 'down' (transformers)
    grey    one channel of luminance (ITU-R 601-2) instead of RGB, taken before resizing
    fill    grey level or RGB of the border
    detail  the image is first brought to `detail` x `detail` pixels, whatever its sides: all that follows sees of it what an image of
            that size shows; None: the image as it is
    """

    size: int
    mode: str = "short_side"
    resize: int | None = None
    interpolation: str = "bicubic"
    centre: str = "even"
    grey: bool = False
    fill: tuple[int, int, int] | int = 0
    detail: int | None = None

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, self.channels)

    @property
    def taken(self) -> int:
        """Side in pixels to which the image itself is brought, before anything else."""
        return self.detail or self.resize or self.size

    def as_dict(self) -> dict:
        """What decides the pixels; `detail` stands in it only where it is given, as in studies that are older than it."""
        return {name: value for name, value in asdict(self).items() if name != "detail" or value is not None}


def apply(geometry: Geometry, pixels: np.ndarray) -> np.ndarray:
    """pixels: (H, W, 3) uint8, or (H, W) for grey -> (size, size, channels) uint8."""
    image = Image.fromarray(pixels)
    if geometry.grey:
        image = image.convert("L")
    if geometry.detail:
        image = image.resize((geometry.detail, geometry.detail), DETAIL_FILTER)
    if geometry.mode == "pad_square":
        image = image if isinstance(geometry.fill, int) or geometry.grey else image.convert("RGB")
        image = _framed(image, max(geometry.size, *image.size), geometry)
    new = resized(image.size, geometry)
    if new[0] * new[1] > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are too thin: they would become {new[0]} x {new[1]}")
    if new != image.size:
        image = image.resize(new, FILTERS[geometry.interpolation])
    if not geometry.grey:
        image = image.convert("RGB")  # of grey, after the resize: its levels are those of three equal channels
    return np.asarray(_centre(image, geometry)).reshape(geometry.shape)


def reduction(size: tuple[int, int], geometries: Sequence[Geometry]) -> int:
    """How much smaller, 1, 2, 4 or 8 times, an image of (width, height) may be decoded without its vectors noticing.

    JPEG can leave out the finer half of its frequencies, which is quicker. Twice the pixels that the encoder takes must remain, so that
    the resize behind it still averages over several, and the resize must come to the same size. Not for a geometry with `detail`: few
    pixels are left of an image there, and it would be noticed.
    """
    if any(g.detail for g in geometries):
        return 1
    for factor in (8, 4, 2):
        smaller = (-(-size[0] // factor), -(-size[1] // factor))
        if all(
            resized(smaller, g) == (new := resized(size, g)) and smaller[0] >= 2 * new[0] and smaller[1] >= 2 * new[1]
            for g in geometries
        ):
            return factor
    return 1


def resized(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """(width, height) before resizing -> after it, before the crop."""
    width, height = size
    side = geometry.resize or geometry.size
    if geometry.mode in ("squash", "pad_square"):
        return side, side
    if geometry.mode == "long_side_corner":  # Segment Anything rounds half up
        scale = side / max(width, height)
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    if geometry.mode == "long_side":
        scale = max(width, height) / side
        return max(1, round(width / scale)), max(1, round(height / scale))
    if geometry.mode != "short_side":
        raise ValueError(f"geometry mode {geometry.mode!r}; expected one of: {', '.join(MODES)}")
    # torchvision.transforms.Resize truncates the long side
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def _centre(image: Image.Image, geometry: Geometry) -> Image.Image:
    size = geometry.size
    if image.width < size or image.height < size:
        image = _framed(image, size, geometry)
    left, top = (_half(side - size, geometry.centre) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _half(pixels: int, centre: str) -> int:
    return pixels // 2 if centre == "down" else round(pixels / 2.0)


def _framed(image: Image.Image, size: int, geometry: Geometry) -> Image.Image:
    """The image in the middle (or the upper left corner) of a canvas that is nowhere smaller than `size`."""
    one_level = isinstance(geometry.fill, int) and image.mode == "RGB"
    fill = (geometry.fill,) * 3 if one_level else geometry.fill  # Pillow takes one number in RGB for red alone
    canvas = Image.new(image.mode, (max(size, image.width), max(size, image.height)), fill)
    corner = geometry.mode == "long_side_corner"
    place = (0, 0) if corner else (max(0, size - image.width) // 2, max(0, size - image.height) // 2)
    canvas.paste(image, place)
    return canvas
