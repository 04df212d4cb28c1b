"""What a manifest takes from a DICOM header, and nothing else; pixels are not read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cbmir.images.dicom import PIXEL_TAG, begins_bare
from cbmir.images.errors import ImageError
from cbmir.images.quiet import quiet

_TAGS = (
    "Modality", "BodyPartExamined", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber",
    "NumberOfFrames", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient",
)  # fmt: skip
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: DICOMDIR


class NoDicom(ImageError):
    """Bytes that are no DICOM at all, or a DICOMDIR."""


@dataclass(frozen=True)
class Header:
    """One DICOM file; None where the header does not say, or says nonsense.

    position: of the slice along the normal of its plane, mm. frames: 1 or more.
    """

    modality: str | None
    body_part: str | None
    patient_id: str | None
    study_uid: str | None
    series_uid: str | None
    instance_uid: str | None
    instance_number: int | None
    frames: int
    rows: int | None
    columns: int | None
    position: float | None
    has_pixels: bool


def read_header(source: str | bytes | BinaryIO) -> Header:
    """Local path, bytes or an open file -> its header; NoDicom for what is none or a DICOMDIR, ImageError where it is cut short."""
    if isinstance(source, str):
        try:
            with open(source, "rb") as file:
                return _read(file)
        except OSError as error:
            raise ImageError(f"{type(error).__name__}: {error.strerror or 'cannot be read'}", stage="read") from error
    return _read(io.BytesIO(source) if isinstance(source, bytes) else source)


def _read(file: BinaryIO) -> Header:
    import pydicom
    from pydicom.datadict import tag_for_keyword

    start = file.read(132)
    bare = start[128:132] != b"DICM"
    if bare and not begins_bare(start):
        raise NoDicom("the file is no DICOM", stage="decode")
    file.seek(0)
    with quiet():
        try:
            tags = [tag_for_keyword(name) for name in _TAGS]
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags, force=bare)
            if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
                raise NoDicom("a directory of DICOM files, not an image", stage="decode")
            return _header(dataset, pixels=_pixels_follow(file, dataset))
        except ImageError:
            raise
        except Exception as error:  # its text may quote the header: only its kind is told
            raise ImageError(f"the DICOM header cannot be read ({type(error).__name__})", stage="decode") from None


def _pixels_follow(file: BinaryIO, dataset) -> bool:
    """pydicom stops in front of the pixels, if there are any; a deflated data set it has unpacked elsewhere."""
    tag = file.read(4)
    return tag in (PIXEL_TAG, PIXEL_TAG[1::-1] + PIXEL_TAG[:1:-1]) or (
        not tag and dataset.get("Rows") is not None and _is_deflated(dataset)
    )


def _is_deflated(dataset) -> bool:
    return str(dataset.file_meta.get("TransferSyntaxUID", "")) == "1.2.840.10008.1.2.1.99"


def _header(dataset, *, pixels: bool) -> Header:
    return Header(
        modality=_text(dataset, "Modality"),
        body_part=_text(dataset, "BodyPartExamined"),
        patient_id=_text(dataset, "PatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        instance_number=_number(dataset, "InstanceNumber"),
        frames=max(1, _number(dataset, "NumberOfFrames") or 1),
        rows=_number(dataset, "Rows"),
        columns=_number(dataset, "Columns"),
        position=_position(dataset),
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
    except Exception:  # blank, several values, or no number
        return None


def _position(dataset) -> float | None:
    """The slice's distance from the origin along the normal of its plane (PS3.3 C.7.6.2.1.1)."""
    try:
        place = np.array([float(v) for v in dataset.ImagePositionPatient])  # (3,)
        row, column = np.array([float(v) for v in dataset.ImageOrientationPatient]).reshape(2, 3)
    except Exception:  # absent, of another length, or no numbers
        return None
    distance = float(np.dot(np.cross(row, column), place)) if place.shape == (3,) else float("nan")
    return distance if np.isfinite(distance) else None
