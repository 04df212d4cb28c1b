"""What one image file is, beside its pixels: format, depth, size in bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cbmir.images import dicom, nifti, npz, raster
from cbmir.images.errors import ImageError
from cbmir.images.hashes import perceptual_hash, pixels_hash
from cbmir.images.read import kept_bytes, read_image, split_uri


@dataclass(frozen=True)
class Facts:
    """One image; stage and error are None if it decodes, and everything else is None if it does not.

    bit_depth: of one channel as stored. file_bytes: of the file that holds it, with all its other images; None on an object store for arrays and volumes.
    """

    stage: str | None = None
    error: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    file_bytes: int | None = None
    pixels_hash: str | None = None
    perceptual_hash: int | None = None


def facts(uri: str) -> Facts:
    """Look at the image at `uri`; never raises for what is wrong with it."""
    try:
        pixels = read_image(uri)  # first: it is who says what is wrong
        kind, channels, depth, size = _file(uri)
    except ImageError as error:
        return Facts(stage=error.stage, error=str(error)[:500])
    except Exception as error:  # one image must not end a run
        return Facts(stage="decode", error=f"{type(error).__name__}: {error}"[:500])
    height, width = pixels.shape[:2]
    return Facts(None, None, kind, width, height, channels, depth, size, pixels_hash(pixels), perceptual_hash(pixels))


def _file(uri: str) -> tuple[str, int, int, int | None]:
    """(format, channels, bits of a channel as stored, bytes of the file)."""
    location, part = split_uri(uri)
    name = location.partition("?")[0].lower()
    size = os.path.getsize(location) if "://" not in location and os.path.exists(location) else None
    if name.endswith(".npz"):
        stream = npz.open_array(location, part.get("array", ""))
        stream.close()
        volume = "slice" in part
        return "NPZ", 3 if stream.shape[-1] == 3 and not volume else 1, stream.dtype.itemsize * 8, size
    if name.endswith(nifti.SUFFIXES):
        dtype = nifti.stored_type(location)
        return "NIfTI", 3 if dtype.names else 1, dtype.itemsize * 8 // (len(dtype.names) if dtype.names else 1), size
    data = kept_bytes(location)
    if dicom.is_dicom(data):
        return ("DICOM", *dicom.describe(data), len(data))
    if nifti.is_nifti(data):
        return "NIfTI", 1, nifti.stored_type(data).itemsize * 8, len(data)
    return (*raster.describe(data), len(data))


def as_columns(rows: list[Facts]) -> dict[str, list]:
    """Facts -> a list a field."""
    return {name: [getattr(row, name) for row in rows] for name in Facts.__dataclass_fields__}
