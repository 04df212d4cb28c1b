"""uri -> (H, W, 3) uint8, whatever the format.

The format is found from the bytes, not from the suffix. A part of a file is addressed behind '#':
`scan.dcm#frame=3`, `breastmnist.npz#array=train_images&row=12`, `brain.nii.gz#axis=2&slice=40`.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import numpy as np
import pyarrow.fs as pafs

from cbmir.images import dicom, nifti, npz, raster
from cbmir.images.errors import ImageError

_PARTS = {"array", "row", "slice", "frame", "axis", "time", "window"}  # what may stand behind '#'


def read_image(uri: str) -> np.ndarray:
    """The image at `uri` -> (H, W, 3) uint8 RGB; grey images have three equal channels. ImageError where there is none."""
    location, part = split_uri(uri)
    name = (location.partition("?")[0] if "://" in location else location).lower()  # options of an address end no name
    if name.endswith(".npz"):
        return npz.read_row(location, part)
    try:
        if name.endswith(nifti.SUFFIXES):
            return nifti.read_slice(location, part)
        data = read_bytes(location)
        if nifti.is_nifti(data):
            return nifti.read_slice(location, part, data)
        if dicom.is_dicom(data):
            return dicom.decode(data, frame=int(part.get("frame", 0)))
        return raster.decode(data)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever a broken file provokes; one image must not end a run
        raise ImageError(f"{type(error).__name__}: {error}", stage="decode") from error


def split_uri(uri: str) -> tuple[str, dict[str, str]]:
    """'a.npz#array=train_images&row=3' -> ('a.npz', {'array': 'train_images', 'row': '3'}); '#' in a name is kept."""
    location, _, fragment = uri.rpartition("#")
    part = dict(parse_qsl(fragment, keep_blank_values=True)) if location and "/" not in fragment else {}
    return (location, part) if part and _PARTS.issuperset(part) else (uri, {})


def read_bytes(location: str) -> bytes:
    """Content of a local path or object-store address."""
    try:
        if "://" in location:
            fs, path = pafs.FileSystem.from_uri(location)
            with fs.open_input_stream(path) as stream:
                return stream.read()
        with open(location, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: an address that is none, such as ftp://...
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{type(error).__name__}: {reason}", stage="read") from error
