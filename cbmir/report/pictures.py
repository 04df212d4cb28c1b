"""Images as small pictures in a page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable

SIDE = 128  # pixels, long side of a thumbnail: a little more than it is shown at
QUALITY = 80
Pictures = dict[str | None, str | None]  # address of an image -> data: address of its picture


def thumbnails(uris: Iterable[str | None]) -> Pictures:
    """`thumbnail` of each, read once, and in the order in which files hold them: rows of an array are streamed, from the first on."""
    return {None: None} | {uri: thumbnail(uri) for uri in sorted(set(filter(None, uris)), key=_in_numbers)}


def _in_numbers(uri: str) -> list[str | int]:
    """'row=12' behind 'row=9'."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", uri)]


def thumbnail(uri: str | None, *, side: int = SIDE) -> str | None:
    """The image at `uri` as a data: address of a JPEG whose long side is at most `side`; None where it cannot be read."""
    from PIL import Image

    from cbmir.images.errors import ImageError
    from cbmir.images.read import read_image

    if not uri:
        return None
    try:
        pixels = read_image(uri, lambda size: _reduction(max(size), side))
    except ImageError:
        return None
    image = Image.fromarray(pixels)
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _reduction(longest: int, side: int) -> int:
    """How many times smaller a JPEG may be decoded, so that a thumbnail still averages over four pixels or more for each of its own."""
    return next((factor for factor in (8, 4, 2) if longest // factor >= 2 * side), 1)
