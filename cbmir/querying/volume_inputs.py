"""What people ask with where volumes are looked for: slices, ranges of them, whole volumes, volumes of the study -> slices in order."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from cbmir.datasets.dicom_files import Problem, examine_all
from cbmir.datasets.folder import IMAGE_SUFFIXES
from cbmir.datasets.listing import Found, listed, suffix_counts
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.nifti import SUFFIXES as VOLUME_SUFFIXES
from cbmir.querying.inputs import Query, absent, of_array
from cbmir.querying.ranges import SliceRange, parse_range, parted
from cbmir.querying.series import Files, only_volume
from cbmir.querying.slicing import Slice, slices_in

_PICTURES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".dcm", ".dicom"))
_KNOWN = (*_PICTURES, *VOLUME_SUFFIXES, ".npz")
_BROKEN = "unreadable_file"  # a kind of Problem
_EXPECTED = "a volume, a slice, or a directory of DICOM files"

Say = Callable[[str], None]


@dataclass(frozen=True)
class VolumeQuery:
    """Slices that are asked with together, or `stored`: the id of a volume of the study, whose vectors are there; or `error`: why there are none."""

    name: str  # as it was given, or found
    images: list[Query] = field(default_factory=list)  # in order
    numbers: list[int | None] = field(
        default_factory=list
    )  # of each of them; None for an image that is no part of a volume
    stored: str | None = None
    wanted: SliceRange | None = None  # of a stored volume; None: all of its slices
    error: str | None = None


def volumes_from_arguments(arguments: list[str], *, say: Say) -> list[VolumeQuery]:
    """Files, parts and ranges as given; of a directory or pattern the volume that its DICOM files are, and each NIfTI file and picture by itself.

    UserError for what is not there, for a range that is none, and for files of several volumes. `say` takes what was passed over in directories.
    """
    return [query for argument in arguments for query in _of(argument, say)]


def stored_volumes(ids: Iterable[str], slices: str | None) -> list[VolumeQuery]:
    """Volumes of the study, all of their slices or those that `slices` names ('20-40')."""
    wanted = parse_range(slices, "--slices ") if slices is not None else None
    return [VolumeQuery(f"{i} slices {wanted}" if wanted else i, stored=i, wanted=wanted) for i in ids]


def _of(argument: str, say: Say) -> list[VolumeQuery]:
    if "://" in argument:
        return _listed(argument, say)
    if os.path.isdir(argument):
        return _below(argument, argument, {}, say)
    if os.path.exists(argument):
        return [_named(argument, argument, {})]
    location, part = parted(argument)
    if part and os.path.isfile(location):
        return [_named(argument, location, part)]
    if part and os.path.isdir(location):
        return _below(argument, location, part, say)
    if any(sign in argument for sign in "*?["):
        return _below(argument, argument, {}, say)
    raise absent(argument, _EXPECTED)


def _listed(address: str, say: Say) -> list[VolumeQuery]:
    """An address: of a file, a part of one, a directory or a pattern."""
    location, part = parted(address)
    found = listed([location], Remarks(), expected=_EXPECTED)
    if len(found) == 1 and found[0].relative == posixpath.basename(unquote(urlsplit(location).path)):
        return [_named(address, found[0].address, part)]
    return _below(address, location, part, say)


def _named(name: str, location: str, part: dict[str, str]) -> VolumeQuery:
    try:
        return _volume(name, slices_in(location, part))
    except ImageError as error:
        return VolumeQuery(name, error=f"{error.stage}: {error}")


def _volume(name: str, slices: list[Slice]) -> VolumeQuery:
    return VolumeQuery(name, [Query(name, uri) for _, uri in slices], [number for number, _ in slices])


def _below(name: str, directory: str, part: dict[str, str], say: Say) -> list[VolumeQuery]:
    """The volumes of a directory or pattern. part: of each of them, such as a range of slices."""
    remarks = Remarks()
    files = listed([directory], remarks, expected=_EXPECTED)
    others = [file for file in files if not file.relative.lower().endswith(_KNOWN)]
    examined = list(zip(others, examine_all([file.address for file in others]), strict=True)) if others else []
    headers = [(file, found) for file, found in examined if not isinstance(found, Problem)]
    broken = [(file, found) for file, found in examined if isinstance(found, Problem) and found.kind == _BROKEN]
    queries = [_found(directory, file, part) for file in files if file.relative.lower().endswith(_KNOWN)]
    lost = [Query(file.address, error=f"read: {found.detail}") for file, found in broken]
    if headers:
        queries.insert(0, _series(name, directory, headers, part, lost, remarks, say))
    else:
        queries += [VolumeQuery(one.name, error=one.error) for one in lost]
    if not queries:
        raise UserError(f"no volume below {directory}; expected DICOM files of one series, or files such as .nii.gz")
    _say_passed_over(directory, examined, remarks, say)
    return queries


def _found(directory: str, file: Found, part: dict[str, str]) -> VolumeQuery:
    name = os.path.join(directory, file.relative) if os.path.isdir(directory) else file.address
    try:
        return _named(name, file.address, part)
    except UserError as error:  # others of the directory are answered
        return VolumeQuery(name, error=str(error))


def _series(
    name: str, directory: str, headers: Files, part: dict[str, str], lost: list[Query], remarks: Remarks, say: Say
) -> VolumeQuery:
    """The DICOM files of a directory, or a range of their slices. lost: files that cannot be read, which may have been slices."""
    if set(part) - {"slice", "axis"}:
        raise UserError(
            f"{name}; of a directory of DICOM files slices are named: {directory}#slice=20-40, or #axis=1&slice=20-40"
        )
    wanted = parse_range(part["slice"], "slice=") if "slice" in part else None
    axis = part.get("axis")
    if axis not in (None, "0", "1", "2"):
        raise UserError(f"{name}; expected axis 0 (sagittal), 1 (coronal) or 2 (axial)")
    uris, alone = only_volume(directory, headers, None if axis is None else int(axis), remarks)
    if alone:
        say(f"{directory}: {alone:,} of {len(headers):,} DICOM files are no slices of the volume and passed over")
    try:
        numbers = wanted.of(len(uris)) if wanted else range(len(uris))
    except ImageError as error:
        return VolumeQuery(name, error=f"{error.stage}: {error}")
    found = _volume(name, [(n, uris[n]) for n in numbers])
    return replace(found, images=found.images + lost, numbers=found.numbers + [None] * len(lost))


def _say_passed_over(directory: str, examined: list[tuple[Found, Any]], remarks: Remarks, say: Say) -> None:
    passed = [file.relative for file, found in examined if isinstance(found, Problem) and found.kind != _BROKEN]
    if passed:
        say(f"{directory}: {len(passed):,} files are no images and passed over: {suffix_counts(passed)}")
    for kind in remarks.summary():
        say(f"{directory}: {kind['count']:,} x {kind['remark']}, first: {kind['first']}")


def volumes_from_python(volumes: Any, *, say: Say) -> list[VolumeQuery]:
    """A path, an array, an image of Pillow, or several of them -> queries; arrays are called volumes[i].

    An array (n, H, W) of uint8 is a volume of n slices, one (H, W) or (H, W, 3) a single slice.
    """
    lone = isinstance(volumes, (str, Path, np.ndarray, Image.Image))
    if not lone and not isinstance(volumes, Iterable):
        raise UserError(
            f"volumes is {type(volumes).__name__}; expected a path, an array, an image of Pillow, or a list"
        )
    queries = []
    for i, volume in enumerate([volumes] if lone else volumes):
        queries += _of(str(volume), say) if isinstance(volume, (str, Path)) else [_of_arrays(volume, f"volumes[{i}]")]
    return queries


def _of_arrays(volume: Any, name: str) -> VolumeQuery:
    if isinstance(volume, np.ndarray) and volume.ndim == 3 and volume.shape[2] != 3 and len(volume):
        images = [Query(name, pixels=of_array(plane, f"{name}[{n}]")) for n, plane in enumerate(volume)]
        return VolumeQuery(name, images, list(range(len(images))))
    return VolumeQuery(name, [Query(name, pixels=of_array(volume, name))], [None])
