"""What a compressed frame says of its own size, before a decoder takes memory for it.

A JPEG 2000 stream of a few hundred bytes can promise 65,535 x 65,535 pixels inside a DICOM that promises 64 x 64.
"""

from __future__ import annotations

from cbmir.images.errors import ImageError

_JP2 = b"\0\0\0\x0cjP  "
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG or JPEG-LS frame header
_MOST_COMPONENTS = 4


def refuse_other_size(stream: bytes, width: int, height: int) -> None:
    """ImageError where a JPEG, JPEG-LS or JPEG 2000 stream is of another size than the header says, or of more than four components."""
    found = _size(stream)
    if found is None:
        return
    if found[:2] != (width, height):
        raise ImageError(
            f"compressed pixels of {found[0]} x {found[1]}, but the header says {width} x {height}", stage="decode"
        )
    if not 1 <= found[2] <= _MOST_COMPONENTS:
        raise ImageError(f"compressed pixels of {found[2]} components; at most 4 are read", stage="decode")


def _size(stream: bytes) -> tuple[int, int, int] | None:
    """(width, height, components), None in a stream of another kind or one that does not say."""
    if stream[:8] == _JP2:
        at = stream.find(b"\xff\x4f\xff\x51")
        return _jpeg_2000(stream[at:]) if at >= 0 else None
    if stream[:4] == b"\xff\x4f\xff\x51":
        return _jpeg_2000(stream)
    return _jpeg(stream) if stream[:2] == b"\xff\xd8" else None


def _jpeg_2000(stream: bytes) -> tuple[int, int, int] | None:
    """ITU-T T.800 A.5.1: SIZ stands first; the picture lies between its offset and its end on the reference grid."""
    if len(stream) < 42:
        return None
    right, bottom, left, top = (int.from_bytes(stream[i : i + 4], "big") for i in (8, 12, 16, 20))
    return right - left, bottom - top, int.from_bytes(stream[40:42], "big")


def _jpeg(stream: bytes) -> tuple[int, int, int] | None:
    """ITU-T T.81 B.2.2: segments up to the frame header."""
    at = 2
    while at + 9 < len(stream):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker in _FRAMES:
            height, width = (int.from_bytes(stream[i : i + 2], "big") for i in (at + 5, at + 7))
            return width, height, stream[at + 9]
        # fill bytes and markers without a segment are passed over
        at += (
            1
            if marker == 0xFF
            else 2
            if marker in (0x01, *range(0xD0, 0xD9))
            else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        )
    return None
