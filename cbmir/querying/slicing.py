"""Files that are volumes -> their slices, as addresses of images."""

from __future__ import annotations

import posixpath
from contextlib import closing

from cbmir.errors import UserError
from cbmir.images import dicom, files, nifti, npz
from cbmir.images.dicom_header import read_header
from cbmir.images.errors import ImageError
from cbmir.images.parts import number
from cbmir.querying.ranges import SliceRange, joined, parse_range
from cbmir.querying.volumes import unsliced

_HEAD = 4_096  # bytes that tell a format

Slice = tuple[int | None, str]  # its number, None for an image that is no part of a volume; its uri


def slices_in(location: str, part: dict[str, str]) -> list[Slice]:
    """The slices that a file and the part of it that is named stand for, in order: all of a volume, a range of them, or one; a picture is one.

    part: as behind '#', where `slice` and `frame` may be ranges. UserError for a range that is none, and for a file of several volumes of which none
    is named; ImageError where a file cannot be read or has no such slices.
    """
    name = location.partition("?")[0].lower()
    wanted = {key: parse_range(part[key], f"{key}=") for key in ("slice", "frame") if key in part}
    if name.endswith(".npz") or "row" in part:
        return _of_row(location, part, wanted.get("slice"))
    if name.endswith(nifti.SUFFIXES):
        return _of_nifti(location, part, wanted.get("slice"))
    with files.opened(location) as file:
        head = file.read(_HEAD)
    if nifti.is_nifti(head):
        return _of_nifti(location, part, wanted.get("slice"))
    if dicom.is_dicom(head):
        return _of_dicom(location, part, wanted)
    return [(None, joined(location, part))]


def _of_row(location: str, part: dict[str, str], wanted: SliceRange | None) -> list[Slice]:
    """A row of a .npz: a volume (d, h, w), or an image."""
    if "array" not in part or "row" not in part:
        raise UserError(f"{joined(location, part)} is {unsliced(joined(location, part))}")
    with closing(npz.open_array(location, part["array"])) as stream:
        rows, *shape = stream.shape
    if not 0 <= number(part, "row") < rows:
        raise ImageError(f"row {part['row']} of an array with {rows} rows", stage="read")
    if wanted is None and (len(shape) < 3 or (len(shape) == 3 and shape[2] in (1, 3))):
        return [(None, joined(location, part))]
    axis = number(part, "axis", 0)
    if axis not in (0, 1, 2) or len(shape) < 3:
        raise ImageError(f"axis {axis} of a volume of shape {tuple(shape)}; expected 0, 1 or 2", stage="read")
    return _each(location, part, "slice", shape[axis], wanted)


def _of_nifti(location: str, part: dict[str, str], wanted: SliceRange | None) -> list[Slice]:
    shape, times = nifti.volume_shape(location)
    axis = number(part, "axis", 2)
    if axis not in (0, 1, 2):
        raise ImageError(f"axis {axis} of a volume; expected 0, 1 or 2", stage="read")
    if times > 1 and "time" not in part and (wanted is None or len(wanted.numbers) > 1):
        one = joined(location, {"axis": str(axis), "time": "0"})
        raise UserError(f"{location} holds {times} volumes in time; name one of them: {one} (0 to {times - 1})")
    return _each(location, {"axis": str(axis)} | part, "slice", shape[axis], wanted)


def _of_dicom(location: str, part: dict[str, str], wanted: dict[str, SliceRange]) -> list[Slice]:
    """A file of several frames, or of one; slices that are named go to its reader as they are."""
    if "slice" in wanted:
        return [(n, joined(location, part | {"slice": str(n)})) for n in wanted["slice"].numbers]
    if "axis" in part:
        beside = posixpath.dirname(location) or "."
        raise UserError(
            f"{joined(location, part)} names no slice; the whole volume is its directory's: {beside}#axis={part['axis']}"
        )
    header = read_header(location)
    if header.frames == 1 and "frame" not in wanted:
        return [(None, joined(location, part))]
    if "frame" not in wanted:
        return [(n, joined(location, part | {"frame": str(n)})) for n in header.frames_in_order]
    return _each(location, part, "frame", header.frames, wanted["frame"])


def _each(location: str, part: dict[str, str], key: str, count: int, wanted: SliceRange | None) -> list[Slice]:
    whole = "DICOM" if key == "frame" else "volume"
    if count == 0:
        raise ImageError(f"a {whole} without a {key}", stage="read")
    numbers = range(count) if wanted is None else wanted.of(count, key, whole)
    return [(n, joined(location, part | {key: str(n)})) for n in numbers]
