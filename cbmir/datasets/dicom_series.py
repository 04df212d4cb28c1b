"""Which single-frame DICOM files are slices of which volume; what is odd in a series is named.

A volume is one series, or one stack of a series whose slices differ in orientation or size, as those of a localizer do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cbmir.datasets.listing import Found
from cbmir.datasets.remarks import Remarks
from cbmir.images.dicom_header import Header
from cbmir.images.dicom_series import Stack, is_slice, stacks

_GAP = 1.5  # times the usual spacing


@dataclass(frozen=True, slots=True)
class Image:
    """A file with pixels and its header."""

    file: Found
    header: Header


@dataclass(frozen=True, slots=True)
class Volume:
    """Slices at two places or more.

    name: the series' UID, followed by the stack's number where the series has several. members: indexes of images, in the order of
    position, instance number and path. stack: the same by indexes within its part of the series.
    """

    name: str
    members: list[int]
    stack: Stack


@dataclass(frozen=True, slots=True)
class Slice:
    """What an image's file gives a manifest: the file itself (`part` is None), or a slice of the volume that it stands for."""

    volume: str
    number: int
    part: str | None = None


def volumes_of(
    images: list[Image], remarks: Remarks, *, apart: Callable[[Image], str] = lambda image: "", kept: str
) -> list[Volume]:
    """The volumes, in the order of their first files' places in `images`.

    apart: what slices of a volume must have in common, beside series, orientation and size. kept: what becomes of several slices at one
    place, in words.
    """
    series: dict[str, dict[str, list[int]]] = {}
    for i, image in enumerate(images):
        if is_slice(image.header):
            series.setdefault(image.header.series_uid, {}).setdefault(apart(image), []).append(i)
    found = []
    for uid, parts in series.items():
        groups = list(_groups(parts, images))
        several = len(groups) > 1
        volumes = [
            Volume(f"{uid}/{n}" if several else uid, members, stack)
            for n, (members, stack) in enumerate(groups)
            if len(stack.positions) > 1
        ]
        if several:
            first = min(i for members in parts.values() for i in members)
            remarks.add("mixed_series", _mixture(parts, groups, volumes), file=images[first].file.address)
        for volume in volumes:
            _name_gaps(volume, images, remarks)
            _name_doubles(volume, images, remarks, kept)
        found += volumes
    return found


def _groups(parts: dict[str, list[int]], images: list[Image]) -> Iterator[tuple[list[int], Stack]]:
    """(indexes of images in order, their stack) of each stack of a series, in an order that the files' does not change."""
    for part in sorted(parts):
        indexes = parts[part]
        names = [images[i].file.address for i in indexes]
        for stack in stacks([images[i].header for i in indexes], names):
            yield [indexes[i] for i in stack.members], stack


def _mixture(parts: dict, groups: list[tuple[list[int], Stack]], volumes: list[Volume]) -> str:
    """'3 orientations: 3 volumes', '2 orientations and 2 sizes: 1 volume, 2 images on their own'."""
    counts = {
        "directories": len(parts),
        "orientations": len({stack.orientation for _, stack in groups}),
        "sizes": len({(stack.rows, stack.columns) for _, stack in groups}),
    }
    alone = sum(len(members) for members, _ in groups) - sum(len(volume.members) for volume in volumes)
    said = [_counted(len(volumes), "volume")] if volumes else []
    said += [f"{alone:,} image on its own" if alone == 1 else f"{alone:,} images on their own"] if alone else []
    return f"{' and '.join(f'{n:,} {what}' for what, n in counts.items() if n > 1)}: {', '.join(said)}"


def _name_gaps(volume: Volume, images: list[Image], remarks: Remarks) -> None:
    """One remark where neighbors lie further apart than is usual in the volume."""
    spacings = np.diff(volume.stack.positions)
    usual = float(np.median(spacings))
    gaps = np.flatnonzero(spacings > _GAP * usual)
    if not len(gaps):
        return
    missing = int(np.round(spacings[gaps] / usual - 1).sum())
    at = int(gaps[0])
    after = volume.stack.places.index(at + 1)
    where = f"{spacings[at]:.4g} mm between slices {after - 1} and {after} where {usual:.4g} mm are usual"
    detail = (
        f"{_counted(len(volume.members), 'slice')}, {_counted(len(gaps), 'gap')}: {'first ' if len(gaps) > 1 else ''}{where}; "
        f"{_counted(missing, 'slice')} {'seems' if missing == 1 else 'seem'} to be missing"
    )
    remarks.add("gap_in_series", detail, file=images[volume.members[after]].file.address)


def _name_doubles(volume: Volume, images: list[Image], remarks: Remarks, kept: str) -> None:
    """One remark where slices of the volume lie at one place."""
    places = volume.stack.places
    again = [n for n in range(1, len(places)) if places[n] == places[n - 1]]
    if again:
        detail = f"{_counted(len(places), 'slice')} at {_counted(len(volume.stack.positions), 'position')}; {kept}"
        remarks.add("same_position", detail, file=images[volume.members[again[0]]].file.address)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def as_acquired(volumes: list[Volume]) -> dict[int, list[Slice]]:
    """Index of an image that is a slice -> the slice that it is."""
    return {i: [Slice(volume.name, n)] for volume in volumes for n, i in enumerate(volume.members)}


def along(volumes: list[Volume], axis: int) -> dict[int, list[Slice]]:
    """Index of an image that is a slice -> slices along an axis of the patient: of the volume's first file all, of the others none."""
    slices: dict[int, list[Slice]] = {}
    for volume in volumes:
        first, *others = volume.members
        slices |= {i: [] for i in others}
        part = f"axis={axis}&slice={{}}&files={len(volume.members)}"
        count = volume.stack.patient_shape[axis]
        slices[first] = [Slice(volume.name, n, part.format(n)) for n in range(count)]
    return slices
