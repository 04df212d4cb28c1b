"""DICOM series of small slices, for tests of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from tests.image_files import dicom, dicom_bytes
from tests.sources import manifest

FLAT = np.arange(16, dtype=np.uint8).reshape(4, 4)
# where columns and rows grow to, in left, posterior, superior: as scanners have it
AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


def put(path: Path, values: np.ndarray = FLAT, *, series: str = "1.2.3", **header) -> Path:
    """One file of a series with a header as asked."""
    ids = {"PatientID": "p", "StudyInstanceUID": "1.2", "SeriesInstanceUID": series, "Modality": "CT"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom_bytes(dicom(values, **(ids | {"SOPInstanceUID": generate_uid()} | header))))
    return path


def put_at(path: Path, place: float | Sequence[float], orientation=AXIAL, values: np.ndarray = FLAT, **more) -> Path:
    """A slice at a place in the patient, mm to the left, to posterior, to superior; a single number is a height."""
    place = [0, 0, place] if isinstance(place, int | float) else list(place)
    return put(path, values, ImagePositionPatient=place, ImageOrientationPatient=list(orientation), **more)


def put_stack(
    root: Path, volume: np.ndarray, orientation=AXIAL, *, names: Sequence[str], spacing: float = 2.5, **more
) -> None:
    """(slices, rows, columns), slice n at n times `spacing` along the normal, under the nth of `names`."""
    normal = np.cross(orientation[:3], orientation[3:])
    for n, (values, name) in enumerate(zip(volume, names, strict=True)):
        put_at(root / name, [round(float(v), 6) for v in normal * n * spacing], orientation, values, **more)


def plain(*roots, **options):
    """Manifest of DICOM files with ids as they are, and what was remarked."""
    return manifest("dicom", *roots, deidentify=False, **options)
