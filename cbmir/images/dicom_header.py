"""What a manifest takes from a DICOM header, and nothing else; pixels are not read."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from cbmir.images.dicom_file import NoDicom, read_data_set
from cbmir.images.errors import ImageError
from cbmir.images.files import opened
from cbmir.images.quiet import quiet

_TAGS = (
    "Modality", "BodyPartExamined", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber",
    "NumberOfFrames", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_ALIKE = 1e-3  # of a direction cosine: a twentieth of a degree
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: DICOMDIR


@dataclass(frozen=True)
class Header:
    """One DICOM file; None where the header does not say, or says nonsense.

    position: of the slice along the normal of its plane, mm. orientation: where its columns and its rows grow to, the direction cosines
    of the patient's axes (left, posterior, superior), six of them, to a millionth. frames: 1 or more. places: of each frame among them,
    along the normal of their planes; None where they are stored in their order, or have none.
    """

    modality: str | None
    body_part: str | None
    patient_id: str | None
    study_uid: str | None
    series_uid: str | None
    instance_uid: str | None
    instance_number: int | None
    frames: int
    places: tuple[int, ...] | None
    rows: int | None
    columns: int | None
    position: float | None
    orientation: tuple[float, ...] | None
    has_pixels: bool

    @property
    def frames_in_order(self) -> list[int]:
        """The frames as they follow one another in the patient."""
        return sorted(range(self.frames), key=self.places.__getitem__) if self.places else list(range(self.frames))


def read_header(source: str | bytes | BinaryIO) -> Header:
    """Local path, bytes or an open file -> its header; NoDicom for what is none or a DICOMDIR, ImageError where it is cut short."""
    if isinstance(source, str):
        with opened(source) as file:
            return _read(file)
    return _read(io.BytesIO(source) if isinstance(source, bytes) else source)


def _read(file: BinaryIO) -> Header:
    with quiet():
        try:
            dataset, pixels = read_data_set(file, header=_tags())
            if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
                raise NoDicom("a directory of DICOM files (DICOMDIR), not an image", stage="decode")
            return _header(dataset, pixels=pixels)
        except ImageError:
            raise
        except Exception as error:  # its text may quote the header: only its kind is told
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not pydicom's
                raise ImageError(f"{type(error).__name__}: {error.strerror}", stage="read") from None
            raise ImageError(f"the DICOM header cannot be read ({type(error).__name__})", stage="decode") from None


@cache
def _tags() -> list[int]:
    from pydicom.datadict import tag_for_keyword

    return [tag_for_keyword(name) for name in _TAGS]


def _header(dataset, *, pixels: bool) -> Header:
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    frames = max(1, _number(dataset, "NumberOfFrames") or 1)
    return Header(
        modality=_text(dataset, "Modality"),
        body_part=_text(dataset, "BodyPartExamined"),
        patient_id=_text(dataset, "PatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        instance_number=_number(dataset, "InstanceNumber"),
        frames=frames,
        places=_places(dataset, frames) if frames > 1 else None,
        rows=_number(dataset, "Rows"),
        columns=_number(dataset, "Columns"),
        position=_position(_numbers(dataset, "ImagePositionPatient", 3), orientation),
        orientation=orientation and tuple(round(cosine, 6) + 0.0 for cosine in orientation),  # -0.0 becomes 0.0
        has_pixels=pixels,
    )


def _text(dataset, name: str) -> str | None:
    try:
        value = dataset.get(name)
    except Exception:  # a value that cannot be parsed is none
        return None
    text = "" if value is None else str(value).replace("\0", "").strip()
    return text or None


def _number(dataset, name: str) -> int | None:
    try:
        return int(str(dataset.get(name)))
    except Exception:  # blank, several values, no number, or bytes at which pydicom raises what it likes
        return None


def _numbers(dataset, name: str, count: int) -> list[float] | None:
    """So many finite numbers, or None."""
    try:
        values = [float(value) for value in dataset.get(name)]
    except Exception:  # absent, a single value, no numbers, or such bytes
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _position(place: list[float] | None, orientation: list[float] | None) -> float | None:
    """The slice's distance from the origin along the normal of its plane (PS3.3 C.7.6.2.1.1)."""
    if place is None or orientation is None:
        return None
    (x, y, z), (a, b, c, d, e, f) = place, orientation
    distance = (b * f - c * e) * x + (c * d - a * f) * y + (a * e - b * d) * z  # (row x column) . place
    return distance if math.isfinite(distance) else None


def _places(dataset, frames: int) -> tuple[int, ...] | None:
    """Of an enhanced CT or MR (functional groups, PS3.3 C.7.6.16) whose frames have one orientation; frames at one position as they are stored."""
    try:
        shared, groups = dataset.get("SharedFunctionalGroupsSequence"), dataset.get("PerFrameFunctionalGroupsSequence")
        common = _plane(shared[0]) if shared else None
        planes = [_plane(group) or common for group in groups]
        positions = [
            _position(_numbers(group.PlanePositionSequence[0], "ImagePositionPatient", 3), plane)
            for group, plane in zip(groups, planes, strict=True)
        ]
    except Exception:  # no such groups, or not all of them, or bytes at which pydicom raises what it likes
        return None
    if len(positions) != frames or None in positions:
        return None
    if any(abs(a - b) > _ALIKE for plane in planes for a, b in zip(plane, planes[0], strict=True)):
        return None
    order = sorted(range(frames), key=lambda n: (round(positions[n], 3), n))
    places = tuple(place for _, place in sorted(zip(order, range(frames), strict=True)))
    return None if places == tuple(range(frames)) else places


def _plane(group) -> list[float] | None:
    """The orientation that a functional group gives."""
    planes = group.get("PlaneOrientationSequence")
    return _numbers(planes[0], "ImageOrientationPatient", 6) if planes else None
