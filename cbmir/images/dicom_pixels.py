"""Stored values of one frame of a DICOM file, through pydicom's decoders.

A decoder in C that meets a broken file must not end the worker. Most answer with an error, as thousands of mutated files showed; GDCM's
calls abort(). It is the only free decoder of lossless JPEG, so it stays, in a process of its own, and the others come first.
"""

from __future__ import annotations

import io

import numpy as np

from cbmir.images import gdcm_process
from cbmir.images.codestream import refuse_other_size
from cbmir.images.errors import ImageError

_OTHERS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")  # in the order in which they are tried
_MODULE = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


def stored_values(dataset, frame: int, frames: int) -> np.ndarray:
    """(H, W) or (H, W, 3) of one frame; an error names the compression and what to install."""
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_transfer_syntax and not syntax.is_encapsulated:
        try:
            return pixel_array(dataset, index=frame)
        except Exception as error:  # its text may quote the header: only its kind is told
            raise ImageError(f"DICOM pixels cannot be read ({type(error).__name__})", stage="decode") from None
    return _decompressed(dataset, syntax, frame, frames)


def _decompressed(dataset, syntax, frame: int, frames: int) -> np.ndarray:
    from pydicom.pixels import get_decoder, pixel_array

    name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
    try:
        plugins = get_decoder(syntax).available_plugins
    except NotImplementedError:
        raise ImageError(f"DICOM pixels in {name}, which nothing here decodes", stage="decode") from None
    if not plugins:
        raise ImageError(f"DICOM pixels in {name}: no decoder is installed; pip install 'cbmir[dicom]'", stage="decode")
    alone = _alone(dataset, frame, frames)
    reason = ""
    for plugin in [p for p in _OTHERS if p in plugins]:
        try:
            return pixel_array(alone, index=0, decoding_plugin=plugin)
        except Exception as error:
            reason = type(error).__name__
    if "gdcm" in plugins:
        values = gdcm_process.decode(_as_file(alone))
        if values is not None:
            return values
        reason = reason or "GDCM gave none"
    raise ImageError(f"DICOM pixels cannot be decoded ({name}, {reason})", stage="decode")


def _alone(dataset, frame: int, frames: int):
    """One compressed frame as a data set of its own, which holds nothing but how its pixels are stored."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate, get_frame

    offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    stream = get_frame(
        dataset.PixelData, frame, number_of_frames=frames, extended_offsets=offsets if all(offsets) else None
    )
    refuse_other_size(stream, int(dataset.Columns), int(dataset.Rows))
    alone = Dataset()
    for name in _MODULE:
        if dataset.get(name) is not None:
            setattr(alone, name, dataset.get(name))
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.PixelData = encapsulate([stream])
    alone["PixelData"].VR = "OB"
    alone["PixelData"].is_undefined_length = True
    return alone


def _as_file(alone) -> bytes:
    buffer = io.BytesIO()
    alone.save_as(buffer, implicit_vr=False, little_endian=True)
    return buffer.getvalue()
