"""uri -> pixels of uint8, whatever the format.

The format is found from the bytes, not from the suffix. A part of a file is addressed behind '#':
`scan.dcm#frame=3`, `breastmnist.npz#array=train_images&row=12`, `brain.nii.gz#axis=2&slice=40`; and a slice of the series that a DICOM file is of:
`first.dcm#axis=1&slice=30`.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import numpy as np

from cbmir.images import dicom, dicom_volume, files, nifti, npz, raster
from cbmir.images.channels import in_color
from cbmir.images.errors import ImageError
from cbmir.images.parts import number, refuse_others

__all__ = ["is_whole_file", "kept_bytes", "read_bytes", "read_image", "read_pixels", "split_uri"]

read_bytes = files.read_bytes
_PARTS = {"array", "row", "slice", "frame", "axis", "time", "window", "files"}  # what may stand behind '#'
_MOST_KEPT = 1 << 30  # bytes
_last: tuple[tuple, bytes] | None = (
    None  # the last file of which a part was read: its parts are read one after the other
)


def read_image(uri: str, reduce: raster.Reduce | None = None) -> np.ndarray:
    """The image at `uri` -> (H, W, 3) uint8 RGB; grey images have three equal channels. Otherwise as `read_pixels`."""
    return in_color(read_pixels(uri, reduce))


def read_pixels(uri: str, reduce: raster.Reduce | None = None, *, data: bytes | None = None) -> np.ndarray:
    """The image at `uri` -> (H, W) uint8 where it is stored as grey, else (H, W, 3) RGB. ImageError where there is none.

    reduce: (width, height) -> how many times smaller a JPEG may be decoded (`geometry.reduction`); None: whole.
    data: the file's bytes, if they have been read ahead, which is for files that `is_whole_file` says.
    """
    location, part = split_uri(uri)
    name = location.partition("?")[0].lower()
    try:
        if name.endswith(".npz") or "row" in part:
            refuse_others(part, npz.PARTS, "an array in a .npz")
            return npz.read_row(location, part)
        if name.endswith(nifti.SUFFIXES):
            refuse_others(part, nifti.PARTS, "a NIfTI volume")
            return nifti.read_slice(location, part)
        return _decode(_bytes(location, keep=bool(part)) if data is None else data, location, part, reduce)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever a broken file provokes; one image must not end a run
        raise ImageError(f"{type(error).__name__}: {error}", stage="decode") from error


def is_whole_file(uri: str) -> bool:
    """Whether the image is decoded from all bytes of one file, which holds no other image of the collection."""
    location, part = split_uri(uri)
    return not part and not location.partition("?")[0].lower().endswith((".npz", *nifti.SUFFIXES))


def _decode(data: bytes, location: str, part: dict[str, str], reduce: raster.Reduce | None) -> np.ndarray:
    """A file whose format its bytes tell."""
    if nifti.is_nifti(data):
        refuse_others(part, nifti.PARTS, "a NIfTI volume")
        return nifti.read_slice(location, part, data)
    if dicom.is_dicom(data):
        if "axis" in part:
            refuse_others(part, dicom_volume.PARTS, "a series of DICOM files")
            return dicom_volume.read_slice(location, part)
        refuse_others(part, {"frame"}, "a DICOM file")
        return dicom.decode(data, frame=number(part, "frame", 0))
    refuse_others(part, {"frame"}, "a picture")
    if number(part, "frame", 0) != 0:
        raise ImageError(
            f"frame {part['frame']} of a picture; of several frames only the first (0) is read", stage="read"
        )
    return raster.decode(data, reduce)


def kept_bytes(location: str) -> bytes:
    """A file's bytes, which are at hand when an image of it is read next."""
    return _bytes(location, keep=True)


def _bytes(location: str, *, keep: bool) -> bytes:
    global _last
    key, last = files.stamp(location), _last
    if last is not None and last[0] == key and (keep or len(key) > 1):  # of an object nothing says that it is the same
        return last[1]
    _last = None  # before the next one takes its memory
    data = read_bytes(location)
    if keep and len(data) <= _MOST_KEPT:
        _last = (key, data)
    return data


def split_uri(uri: str) -> tuple[str, dict[str, str]]:
    """'a.npz#array=train_images&row=3' -> ('a.npz', {'array': 'train_images', 'row': '3'}); '#' in a name is kept."""
    location, _, fragment = uri.rpartition("#")
    part = dict(parse_qsl(fragment, keep_blank_values=True)) if location and "/" not in fragment else {}
    return (location, part) if part and _PARTS.issuperset(part) else (uri, {})
