"""A DICOM file -> pydicom's data set, within bounds.

pydicom's own `dcmread` unpacks a deflated data set however large it becomes, and gives what it has of one that is cut short. So the steps
are taken here: the file's meta information, the transfer syntax, the data set by `read_dataset`, and whether it was whole.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_PIXELS

MOST_UNPACKED = 8 * MOST_PIXELS  # bytes of a deflated data set
_MOST_HEADER = 1 << 26  # of them, where only the header is asked for
_PIXELS = frozenset(
    (0x7FE00008, 0x7FE00009, 0x7FE00010)
)  # float, double, integers; a set asks pydicom's slow == only once
_NOTHING = frozenset((0,))  # zeros, where something was meant to be written
_ITEM = b"\xfe\xff\x00\xe0"  # of a sequence; each becomes a data set, which costs a thousand times its bytes
_MOST_ITEMS, _MOST_ELEMENTS = 1 << 17, 100_000
_ROWS, _COLUMNS = 0x00280010, 0x00280011
_DEFLATED = "1.2.840.10008.1.2.1.99"
_VRS = (b"UL", b"UI", b"CS", b"OB", b"SH", b"LO", b"DA", b"TM", b"DT", b"SQ", b"PN", b"ST")
_CUT = "the file ends within its header"


class NoDicom(ImageError):
    """Bytes that are no DICOM at all, or a DICOMDIR."""


def is_dicom(data: bytes) -> bool:
    """Whether bytes are DICOM: with its prefix, or a bare data set (as ACR-NEMA had it) with pixels."""
    start = _start(data[:140])
    return start is not None and (start > 0 or b"\xe0\x7f\x10\x00" in data or b"\x7f\xe0\x00\x10" in data)


def _start(head: bytes) -> int | None:
    """Where the first element stands: behind 'DICM', with its 128 bytes of preamble or without; 0 in a bare data set; None in no DICOM."""
    if head[128:132] == b"DICM":
        return 132
    if head[:4] == b"DICM" and head[4:6] == b"\2\0":
        return 4
    if len(head) < 8:
        return None
    explicit = head[4:6] in _VRS
    if head[:2] in (b"\0\2", b"\0\x08"):  # big endian, which is always explicit
        return 0 if explicit and head[2] == 0 else None
    little = head[:2] in (b"\2\0", b"\x08\0") and head[3] == 0
    return 0 if little and (explicit or 0 < int.from_bytes(head[4:8], "little") <= 1024) else None


def read_data_set(file: BinaryIO, *, header: list[int] | None = None):
    """An open file -> (data set with `file_meta`, whether there are pixels).

    header: only these tags, and nothing from the pixels on. NoDicom where the file is none; ImageError where it ends within an element;
    what else is wrong raises what pydicom raises, whose text may quote the file.
    """
    file.seek(0)
    start = _start(file.read(140))
    if start is None:
        raise NoDicom("the file is no DICOM", stage="decode")
    try:
        dataset, pixels = _read(file, start, header)
    except (EOFError, struct.error):
        raise _cut(start) from None
    except ImageError as error:
        raise (error if start else _cut(start)) from None
    if start == 0 and not (pixels and _ROWS in dataset and _COLUMNS in dataset):
        raise _cut(start)
    return dataset, pixels


def _cut(start: int) -> ImageError:
    """What to say of bytes that end too soon: without a prefix nothing says that they are DICOM at all."""
    if start == 0:
        return NoDicom("the file is of no image format that is known", stage="decode")
    return ImageError(_CUT, stage="decode")


def _read(file: BinaryIO, start: int, header: list[int] | None):
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    file.seek(start)
    watch = _Watch(file)
    meta = FileMetaDataset(read_dataset(file, False, True, stop_when=watch.leaves_meta))
    syntax = UID(str(meta.get("TransferSyntaxUID") or ""))
    if syntax == _DEFLATED:
        file = io.BytesIO(_unpacked(file, MOST_UNPACKED if header is None else _MOST_HEADER, whole=header is None))
    if isinstance(file, io.BytesIO) and file.getvalue().count(_ITEM) > _MOST_ITEMS:
        raise ImageError(f"a DICOM of more than {_MOST_ITEMS:,} items", stage="decode")
    implicit, little = _encoding(syntax, file)
    watch = _Watch(file)
    stop = watch.ends if header is None else watch.meets_pixels
    dataset = read_dataset(file, implicit, little, stop_when=stop, specific_tags=header)
    if not watch.pixels:
        _refuse_cut(file, watch.last)
    if not syntax or syntax == _DEFLATED:  # whoever decodes the pixels must know how they are stored
        meta.TransferSyntaxUID = _named(*dataset.original_encoding)
    dataset.file_meta = meta
    return dataset, watch.pixels


class _Watch:
    """Follows pydicom from element to element of one data set (not into sequences); its methods say whether to stop."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.elements = 0
        self.pixels = False
        self.last: tuple[int, int] | None = None  # where the value of the last element begins, and its length

    def leaves_meta(self, tag, vr, length) -> bool:
        return self.ends(tag, vr, length) or tag >> 16 != 2

    def meets_pixels(self, tag, vr, length) -> bool:
        return self.ends(tag, vr, length) or self.pixels

    def ends(self, tag, vr, length) -> bool:
        self.last = (self.file.tell(), length)
        self.pixels = self.pixels or tag in _PIXELS
        self.elements += 1
        if self.elements > _MOST_ELEMENTS:
            raise ImageError(f"a DICOM of more than {_MOST_ELEMENTS:,} elements", stage="decode")
        return tag in _NOTHING


def _encoding(syntax, file: BinaryIO) -> tuple[bool, bool]:
    """(whether VRs are implicit, whether little endian) of the data set that the file stands before."""
    if syntax:
        try:
            return syntax.is_implicit_VR, syntax.is_little_endian
        except ValueError:  # a maker's own
            return False, True
    head = file.read(6)
    file.seek(-len(head), os.SEEK_CUR)
    little = head[:1] != b"\0"  # groups of a header are below 256, so one byte of the first is 0
    return not (head[4:6].isalpha() and head[4:6].isupper()), little


def _named(implicit: bool, little: bool):
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _unpacked(file: BinaryIO, most: int, *, whole: bool) -> bytes:
    """A deflated data set, up to `most` bytes of it; ImageError where it is to be had as a whole and is larger."""
    start = file.tell()
    if whole and sum(map(len, _inflated(file, most))) > most:  # counted before memory is taken
        raise ImageError(f"a deflated DICOM of more than {most >> 20} MiB", stage="decode")
    file.seek(start)
    return b"".join(_inflated(file, most))


def _inflated(file: BinaryIO, most: int) -> Iterator[bytes]:
    """Parts of what a deflated stream holds, until they are more than `most` bytes."""
    stream, size, packed = zlib.decompressobj(-zlib.MAX_WBITS), 0, b"..."
    while packed and size <= most and not stream.eof:
        packed = stream.unconsumed_tail or file.read(1 << 16)  # b"" at last: what is still to come of what was given
        try:
            part = stream.decompress(packed, 1 << 22)
        except zlib.error:
            raise ImageError("the deflated data set is broken", stage="decode") from None
        size += len(part)
        yield part


def _refuse_cut(file: BinaryIO, last: tuple[int, int] | None) -> None:
    """ImageError unless the file ends where its last element does. last: (where the element's value begins, its length)."""
    size = file.seek(0, os.SEEK_END)
    if last is None:
        raise ImageError(_CUT, stage="decode")
    at, length = last
    if length == 0xFFFFFFFF:  # a sequence: it ends with a delimiter
        file.seek(max(0, size - 8))
        whole = file.read(8) in (b"\xfe\xff\xdd\xe0" + bytes(4), b"\xff\xfe\xe0\xdd" + bytes(4))
    else:
        file.seek(min(at + length, size))
        rest = file.read(8)
        whole = at + length <= size and (len(rest) < 8 and not rest.strip(b"\0"))
    if not whole:
        raise ImageError(_CUT, stage="decode")
