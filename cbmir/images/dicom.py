"""DICOM -> (H, W, 3) uint8, displayed as the standard says (PS3.3 C.7.6.3, C.7.6.16, C.11.1, C.11.2).

What pydicom says of a broken file may quote its header, so of its errors only the kind goes into a message.
"""

from __future__ import annotations

import io
import zlib

import numpy as np

from cbmir.images.dicom_pixels import stored_values
from cbmir.images.dicom_window import grey
from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_PIXELS, refuse_large
from cbmir.images.quiet import quiet

PIXEL_TAG = b"\xe0\x7f\x10\x00"  # (7FE0,0010), little endian
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MOST_BYTES = 8 * MOST_PIXELS  # of a deflated data set


def is_dicom(data: bytes) -> bool:
    """Whether bytes are DICOM: 'DICM' behind a preamble of 128 bytes, or a bare data set (ACR-NEMA style) with pixels."""
    return data[128:132] == b"DICM" or (begins_bare(data) and PIXEL_TAG in data)


def begins_bare(data: bytes) -> bool:
    """Whether bytes begin with an element of group 0002 or 0008 whose value representation or length is plausible."""
    if len(data) < 8 or data[0] not in (2, 8) or data[1] or data[3]:
        return False
    explicit = data[4:6] in (b"UL", b"UI", b"CS", b"OB", b"SH", b"LO", b"DA", b"TM", b"DT", b"SQ", b"PN", b"ST")
    return explicit or 0 < int.from_bytes(data[4:8], "little") <= 1024


def decode(data: bytes, *, frame: int = 0) -> np.ndarray:
    """One frame of a DICOM file -> (H, W, 3) uint8; header fields go nowhere else.

    Grey: modality LUT, then the first VOI LUT or window, then MONOCHROME1 inverted, then the window's output range to 0..255.
    Without a window, unsigned 8-bit levels stay as they are, and others are scaled from the frame's own range. Color: palette and YBR become RGB.
    """
    try:
        return _decode(data, frame)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the DICOM's pixels do not fit into memory", stage="decode") from None
    except Exception as error:  # its text may quote the header: only its kind is told
        raise ImageError(f"the DICOM cannot be read ({type(error).__name__})", stage="decode") from None


def _decode(data: bytes, frame: int) -> np.ndarray:
    import pydicom

    _refuse_bomb(data)
    with quiet():  # pydicom warns of every odd header; the pixels decide
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "PixelData" not in dataset:
            raise ImageError("DICOM without pixel data", stage="decode")
        refuse_large(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))
        frames = int(dataset.get("NumberOfFrames") or 1)
        if not 0 <= frame < frames:
            raise ImageError(f"frame {frame} of a DICOM with {frames}", stage="decode")
        _name_syntax(dataset)
        values = stored_values(dataset, data, frame)
        kind = dataset.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            return _color(_palette(values, dataset), dataset)
        if values.ndim == 3:
            return _color(values, dataset)
        levels = grey(values, dataset, frame=frame, inverted=kind == "MONOCHROME1")
        return np.repeat(levels[:, :, None], 3, axis=2)


def _refuse_bomb(data: bytes) -> None:
    """A deflated data set is unpacked as a whole by pydicom: refuse one that would fill the memory."""
    if data[128:132] != b"DICM" or _DEFLATED not in data[:4096]:
        return
    start = 144 + int.from_bytes(data[140:144], "little")  # behind the group length of the file's meta information
    stream, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[start:]
    while rest and not stream.eof:
        size += len(stream.decompress(rest, 1 << 24))
        rest = stream.unconsumed_tail
        if size > _MOST_BYTES:
            raise ImageError(f"a deflated DICOM of more than {_MOST_BYTES >> 20} MiB", stage="decode")


def _name_syntax(dataset) -> None:
    """A bare data set does not say its transfer syntax: it is the one by which pydicom could read it."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _palette(values: np.ndarray, dataset) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    return apply_color_lut(values, dataset)


def _color(values: np.ndarray, dataset) -> np.ndarray:
    """(H, W, 3) of 8 or 16 bits -> uint8; `pixel_array` has made RGB of YBR already."""
    if values.dtype == np.uint8:
        return values[:, :, :3]
    palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    deepest = 2 ** (dataset.RedPaletteColorLookupTableDescriptor[2] if palette else dataset.BitsStored) - 1
    return np.clip(np.round(values[:, :, :3].astype(np.float64) * (255.0 / deepest)), 0, 255).astype(np.uint8)
