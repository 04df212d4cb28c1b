"""What people ask with: files, directories, parts of files, addresses, arrays -> images in order."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageOps

from cbmir.datasets.dicom_files import Problem, examine_all
from cbmir.datasets.folder import IMAGE_SUFFIXES
from cbmir.datasets.listing import Found, listed, suffix_counts
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.nifti import SUFFIXES as VOLUME_SUFFIXES
from cbmir.images.read import read_pixels, split_uri
from cbmir.querying.volumes import unsliced

_KNOWN = (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES, ".npz")
_EXPECTED = "an image or a directory of images"


@dataclass(frozen=True)
class Query:
    """One image: where it lies, or its pixels (H, W) or (H, W, 3) uint8, or `error`: why it has neither."""

    name: str  # as it was given, or found
    uri: str | None = None
    pixels: np.ndarray | None = None
    error: str | None = None


def from_arguments(arguments: list[str], *, say: Callable[[str], None]) -> list[Query]:
    """Files as given, directories and patterns as the images below them, sorted by path.

    UserError for what is not there, for a directory without an image, and for a file of many images of which none is named. `say`
    takes what was passed over in directories.
    """
    return [query for argument in arguments for query in _of(argument, say)]


def _of(argument: str, say: Callable[[str], None]) -> list[Query]:
    if "://" in argument:
        return _listed(argument, say)
    if os.path.isdir(argument):
        return _below(argument, say)
    if os.path.exists(argument):
        return [_single(argument, f"{argument}#frame=0" if split_uri(argument)[1] else argument)]
    location, part = split_uri(argument)
    if part and os.path.isfile(location):
        return [_single(argument, argument)]
    if any(sign in argument for sign in "*?["):
        return _below(argument, say)
    raise absent(argument, _EXPECTED)


def absent(argument: str, expected: str) -> UserError:
    """What is said of a file that is not there."""
    whole, _, fragment = argument.rpartition("#")
    if fragment.isdigit() and os.path.isfile(whole):
        return UserError(f"no file {argument}; {_how_named(whole, fragment)}")
    return UserError(f"no file {argument}; expected {expected}")


def _how_named(whole: str, fragment: str) -> str:
    volume = whole.lower().endswith(VOLUME_SUFFIXES)
    return f"a part of a file is named {whole}#{'axis=2&slice' if volume else 'frame'}={fragment}"


def _single(name: str, uri: str) -> Query:
    """A file that was named itself: what it lacks is said before anything is loaded."""
    try:
        many = unsliced(uri)
    except ImageError:  # it is said in its place
        many = None
    if many:
        raise UserError(f"{name} is {many}")
    return Query(name, uri)


def _listed(address: str, say: Callable[[str], None]) -> list[Query]:
    """An address: of a file, a part of one, a directory or a pattern."""
    location, part = split_uri(address)
    found = listed([location], Remarks(), expected=_EXPECTED)
    if len(found) == 1 and found[0].relative == posixpath.basename(unquote(urlsplit(location).path)):
        return [_single(address, f"{found[0].address}{address.removeprefix(location)}" if part else found[0].uri)]
    return _below(address, say)


def _below(directory: str, say: Callable[[str], None]) -> list[Query]:
    """The images of a directory or pattern: by their suffix, and DICOM files by their content."""
    remarks = Remarks()
    files = listed([directory], remarks, expected=_EXPECTED)
    others = [file for file in files if not file.relative.lower().endswith(_KNOWN)]
    examined = dict(zip(others, examine_all([file.address for file in others]), strict=True)) if others else {}
    queries, passed = [], []
    local = os.path.isdir(directory)
    for file in files:
        name = os.path.join(directory, file.relative) if local else file.address
        query = _found(name, file, examined.get(file))
        queries += [query] if query else []
        passed += [] if query else [file.relative]
    if not queries:
        expected = f"expected files such as {', '.join(IMAGE_SUFFIXES[:3])}, or DICOM files of any name"
        raise UserError(f"no image below {directory}; {expected}")
    if passed:
        say(
            f"{directory}: {len(passed):,} of {len(files):,} files are no images and passed over: {suffix_counts(passed)}"
        )
    for kind in remarks.summary():
        say(f"{directory}: {kind['count']:,} x {kind['remark']}, first: {kind['first']}")
    return queries


def _found(name: str, file: Found, examined: Any) -> Query | None:
    """A file of a directory as a query; None for what is no image."""
    if isinstance(examined, Problem):
        return Query(name, error=examined.detail) if examined.kind == "unreadable_file" else None
    return Query(name, file.uri)


def from_python(images: Any, *, say: Callable[[str], None]) -> list[Query]:
    """A path, an array (H, W) or (H, W, 3) of uint8, an image of Pillow, or several of them -> images; arrays are called images[i]."""
    lone = isinstance(images, (str, Path, np.ndarray, Image.Image))
    if not lone and not isinstance(images, Iterable):
        raise UserError(f"images is {type(images).__name__}; expected a path, an array, an image of Pillow, or a list")
    queries = []
    for i, image in enumerate([images] if lone else images):
        if isinstance(image, (str, Path)):
            queries += _of(str(image), say)
        else:
            queries.append(Query(f"images[{i}]", pixels=of_array(image, f"images[{i}]")))
    if not queries:
        raise UserError("no image was given; expected at least one")
    return queries


def of_array(image: Any, name: str) -> np.ndarray:
    """An array, or an image of Pillow -> pixels (H, W) or (H, W, 3) uint8; UserError for what is neither."""
    if isinstance(image, Image.Image):
        return _of_pillow(image)
    if not isinstance(image, np.ndarray):
        raise UserError(f"{name} is {type(image).__name__}; expected a path, an array or an image of Pillow")
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not fits or image.size == 0:
        raise UserError(
            f"{name} is an array of {image.dtype} and shape {image.shape}; expected uint8 of shape (H, W) or (H, W, 3)"
        )
    return np.ascontiguousarray(image)


def _of_pillow(image: Image.Image) -> np.ndarray:
    """The same pixels as the image's file would give: upright, and of more than 8 bits by the rule for files."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("L", "RGB"):
        return np.asarray(image)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if image.mode == "F" else "PNG")
    return read_pixels("", data=buffer.getvalue())
