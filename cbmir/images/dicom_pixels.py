"""Stored values of one frame of a DICOM file, through pydicom's decoders.

A decoder in C that meets a broken file must not end the worker. Most answer with an error, as thousands of mutated files showed; GDCM's
calls abort(). It is the only free decoder of lossless JPEG, so it stays, in a process of its own, and the others come first.
"""

from __future__ import annotations

import numpy as np

from cbmir.images import gdcm_process
from cbmir.images.errors import ImageError

_OTHERS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")  # in the order in which they are tried


def stored_values(dataset, data: bytes, frame: int) -> np.ndarray:
    """(H, W) or (H, W, 3) of one frame; an error names the compression and what to install."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_transfer_syntax and not syntax.is_encapsulated:
        try:
            return pixel_array(dataset, index=frame)
        except Exception as error:  # its text may quote the header: only its kind is told
            raise ImageError(f"DICOM pixels cannot be read ({type(error).__name__})", stage="decode") from None
    name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
    try:
        plugins = get_decoder(syntax).available_plugins
    except NotImplementedError:
        raise ImageError(f"DICOM pixels in {name}, which nothing here decodes", stage="decode") from None
    if not plugins:
        raise ImageError(f"DICOM pixels in {name}: no decoder is installed; pip install 'cbmir[dicom]'", stage="decode")
    reason = ""
    for plugin in [p for p in _OTHERS if p in plugins]:
        try:
            return pixel_array(dataset, index=frame, decoding_plugin=plugin)
        except Exception as error:
            reason = type(error).__name__
    if "gdcm" in plugins:
        values = gdcm_process.decode(data, frame)
        if values is not None:
            return values
        reason = reason or "GDCM gave none"
    raise ImageError(f"DICOM pixels cannot be decoded ({name}, {reason})", stage="decode")
