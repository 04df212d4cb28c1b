"""How large an image may be: what a header promises is examined before memory is taken for it."""

from __future__ import annotations

from cbmir.images.errors import ImageError

MOST_PIXELS = 1 << 27  # 134 million, 400 MB as RGB; the largest radiographs have 30 million
MOST_FILE_BYTES = 1 << 32  # of a file that is read as a whole


def refuse_large(width: int, height: int) -> None:
    """ImageError for an image of more than MOST_PIXELS pixels, or of none."""
    if width < 1 or height < 1:
        raise ImageError(f"an image of {width} x {height} pixels", stage="decode")
    if width * height > MOST_PIXELS:
        raise ImageError(f"an image of {width} x {height} pixels; at most {MOST_PIXELS:,} are read", stage="decode")
