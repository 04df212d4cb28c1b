"""DICOM files of a directory -> the volume that they are."""

from __future__ import annotations

import posixpath

from cbmir.datasets.dicom_series import Image, Volume, along, as_acquired, volumes_of
from cbmir.datasets.listing import Found
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.images.dicom_header import Header
from cbmir.querying.ranges import joined

Files = list[tuple[Found, Header]]


def only_volume(directory: str, found: Files, axis: int | None, remarks: Remarks) -> tuple[list[str], int]:
    """Files with pixels -> (uris of the slices of the one volume that they are, in order; how many files are no part of it).

    A volume is a series of slices at several positions, as a manifest has it, as acquired or along an axis of the patient; or the frames of one file.
    UserError for several volumes, and for several files that are none. remarks: takes what is odd in a series.
    """
    images = [Image(file, header) for file, header in found]
    apart = (lambda image: "") if axis is None else (lambda image: posixpath.dirname(image.file.address))
    series = volumes_of(images, remarks, apart=apart, kept="all are taken" if axis is None else "of each the first is")
    cines = [image for image in images if image.header.frames > 1]
    if len(series) + len(cines) > 1:
        raise UserError(
            f"{directory} holds {len(series) + len(cines)} series of DICOM slices; expected one; give a directory or a pattern of the files of one of them"
        )
    if series:
        return _slices(images, series, axis), len(found) - len(series[0].members)
    if axis is not None or (len(found) > 1 and not cines):
        raise UserError(
            f"{directory} holds {len(found):,} DICOM files and no series of slices at several positions; expected one; name a single file to ask with that"
        )
    frames = [joined(c.file.address, {"frame": str(n)}) for c in cines for n in c.header.frames_in_order]
    return frames or [found[0][0].uri], len(found) - 1


def _slices(images: list[Image], volumes: list[Volume], axis: int | None) -> list[str]:
    """Uris of the slices of one volume, in order."""
    of_files = as_acquired(volumes) if axis is None else along(volumes, axis)
    ordered = sorted((one.number, one.part, images[i].file) for i, slices in of_files.items() for one in slices)
    return [file.uri if part is None else f"{file.address}#{part}" for _, part, file in ordered]
