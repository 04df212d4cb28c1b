"""Slices of one DICOM series -> stacks: those of one orientation and one size, in order along their normal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cbmir.images.dicom_header import Header

_CLOSE = 1e-3  # mm: slices that are a micrometer apart lie at one place
_ALIKE = 1e-3  # of a direction cosine: a twentieth of a degree


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices of one orientation and size.

    orientation: six direction cosines, as in Header. rows, columns: 0 where the headers do not say. members: indexes of the slices, in the order of position, instance number and name.
    places: which place each of them has, from 0. positions: of each place along the normal, mm, ascending.
    """

    orientation: tuple[float, ...]
    rows: int
    columns: int
    members: tuple[int, ...]
    places: tuple[int, ...]
    positions: tuple[float, ...]

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first member at each place: one volume, also where a series visits its places several times."""
        return tuple(i for n, i in enumerate(self.members) if n == 0 or self.places[n] != self.places[n - 1])

    @property
    def patient_shape(self) -> tuple[int, int, int]:
        """Slices along the patient's axes: sagittal, coronal, axial ones."""
        stored = (
            self.columns or 1,
            self.rows or 1,
            len(self.positions),
        )  # unknown sizes: a row that says what is wrong
        shape = dict(zip(toward_patient(self.orientation)[:, 0].astype(int).tolist(), stored, strict=True))
        return shape[0], shape[1], shape[2]


def is_slice(header: Header) -> bool:
    """Whether a file can be a slice of the volume that its series is: one frame whose position is known."""
    return header.frames == 1 and header.series_uid is not None and header.position is not None


def stacks(headers: Sequence[Header], names: Sequence[str]) -> list[Stack]:
    """Slices (`is_slice`) of one series and their names -> its stacks, the same whatever the order in which they come."""
    alike = _alike(header.orientation for header in headers)
    found: dict[tuple, list[int]] = {}
    for i, header in enumerate(headers):
        found.setdefault((alike[header.orientation], header.rows or 0, header.columns or 0), []).append(i)
    return [_stack(key, found[key], headers, names) for key in sorted(found)]


def _alike(orientations: Iterable[tuple[float, ...]]) -> dict[tuple[float, ...], tuple[float, ...]]:
    """Each orientation -> one that stands for all that are like it."""
    standing: list[tuple[float, ...]] = []
    alike = {}
    for orientation in sorted(set(orientations)):
        for other in reversed(standing):
            if orientation[0] - other[0] > _ALIKE:  # they are sorted: those before are further away
                standing.append(orientation)
                break
            if all(abs(a - b) <= _ALIKE for a, b in zip(orientation, other, strict=True)):
                alike[orientation] = other
                break
        else:
            standing.append(orientation)
        alike.setdefault(orientation, orientation)
    return alike


def _stack(key: tuple, members: list[int], headers: Sequence[Header], names: Sequence[str]) -> Stack:
    positions: list[float] = []
    place: dict[int, int] = {}
    before = -math.inf
    for i in sorted(members, key=lambda i: headers[i].position):
        at = headers[i].position
        if at - before > _CLOSE:
            positions.append(at)
        place[i], before = len(positions) - 1, at
    ordered = sorted(members, key=lambda i: (place[i], headers[i].instance_number or 0, names[i]))
    orientation, rows, columns = key
    return Stack(orientation, rows, columns, tuple(ordered), tuple(place[i] for i in ordered), tuple(positions))


def toward_patient(orientation: tuple[float, ...]) -> np.ndarray:
    """nibabel's orientation (3, 2) of voxels (column, row, slice) towards RAS+; axes as stored where the cosines say nothing.

    The axes are the nearest ones: nothing is interpolated.
    """
    import nibabel

    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across, down, np.cross(across, down)], axis=1)
    affine[:2] *= -1  # DICOM counts to the left and to posterior, RAS to the right and to anterior
    found = nibabel.io_orientation(affine)
    return np.array([[0, 1], [1, 1], [2, 1]], float) if np.isnan(found).any() else found
