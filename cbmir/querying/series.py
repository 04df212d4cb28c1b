"""DICOM files of a directory -> the volume that they are."""

from __future__ import annotations

from cbmir.datasets.dicom_tree import Image, slices_of_series
from cbmir.datasets.listing import Found
from cbmir.errors import UserError
from cbmir.images.dicom_header import Header
from cbmir.querying.ranges import joined

Files = list[tuple[Found, Header]]


def only_volume(directory: str, found: Files) -> tuple[list[str], int]:
    """Files with pixels -> (uris of the slices of the one volume that they are, in order; how many files are no part of it).

    A volume is a series of slices at several positions, ordered as a manifest orders them, or the frames of one file. UserError for several volumes, and
    for several files that are none.
    """
    volumes = _volumes(found)
    if len(volumes) > 1:
        raise UserError(
            f"{directory} holds {len(volumes)} series of DICOM slices; expected one; give a directory or a pattern of the files of one of them"
        )
    if not volumes and len(found) > 1:
        raise UserError(
            f"{directory} holds {len(found):,} DICOM files and no series of slices at several positions; expected one; name a single file to ask with that"
        )
    uris, files = volumes[0] if volumes else ([found[0][0].uri], 1)
    return uris, len(found) - files


def _volumes(found: Files) -> list[tuple[list[str], int]]:
    """Of each volume the uris of its slices, in order, and the number of its files."""
    series: dict[str, list[tuple[int, str]]] = {}
    places = slices_of_series([Image(file, header) for file, header in found])
    for i, place in places.items():
        series.setdefault(found[i][1].series_uid, []).append((place, found[i][0].uri))
    cines = [
        ([joined(file.address, {"frame": str(n)}) for n in range(header.frames)], 1)
        for file, header in found
        if header.frames > 1
    ]
    return [([uri for _, uri in sorted(slices)], len(slices)) for slices in series.values()] + cines
