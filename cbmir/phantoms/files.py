"""Pixels -> file bytes: PNG, 16-bit PNG, JPEG and DICOM as scanners and exports leave them; and the broken ones."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cbmir.phantoms.plan import Row
from cbmir.phantoms.render import draw_row

# (center, width) in Hounsfield units: the window a reader would open with, and the one for the second look.
WINDOWS = {
    "abdomen": ((50, 400), (400, 1800)),
    "head": ((40, 80), (600, 2800)),
    "chest": ((-450, 1400), (40, 350)),
}
TWO_WINDOWS, MONOCHROME1, COLOR_JPEG = 0.35, 0.35, 0.3
# DICOM PS3.3 C.8: "XR" is no DICOM modality, a digitized radiograph is CR. Values: Modality, SOP class, body part.
SOP_CLASSES = {
    "XR": ("CR", "1.2.840.10008.5.1.4.1.1.1"),
    "CT": ("CT", "1.2.840.10008.5.1.4.1.1.2"),
    "MR": ("MR", "1.2.840.10008.5.1.4.1.1.4"),
}


def write_row(root: Path, row: Row, *, index: int, seed: int) -> None:
    """Draw row number `index` and write its file below root; a row that is to be missing writes nothing."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    path = root / row.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if row.broken == "missing":
        return
    path.write_bytes(_broken_bytes(row, seed, rng) if row.broken else _image_bytes(row, seed, rng))


def _image_bytes(row: Row, seed: int, rng: np.random.Generator) -> bytes:
    pixels = draw_row(row, seed=seed, rng=rng)
    if row.format == "dicom":
        return _dicom_bytes(_dataset(row, pixels, seed, rng))
    if row.format == "png16":
        return _saved(Image.fromarray(_wide_pixels(row, pixels, rng)), "PNG")
    image = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
    if row.format == "png":
        return _saved(image, "PNG")
    if row.modality == "US" and rng.random() < COLOR_JPEG:
        image = Image.merge("RGB", [image.point(lambda v, k=k: v * k) for k in (1.0, 0.94, 0.82)])
    return _saved(image, "JPEG", quality=90)


def _broken_bytes(row: Row, seed: int, rng: np.random.Generator) -> bytes:
    if row.broken == "empty":
        return b""
    if row.broken == "text":
        return b"<html><body>503 Service Unavailable: the archive did not deliver this image.</body></html>\n"
    if row.broken == "garbage":
        header = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
        # No 0xff in the noise: without a marker no decoder can find an image in it, whatever the seed.
        return header + rng.integers(0, 255, 4096, dtype=np.uint8).tobytes()
    if row.broken == "no_pixels":
        dataset = _dataset(row, draw_row(row, seed=seed, rng=rng), seed, rng)
        del dataset.PixelData
        return _dicom_bytes(dataset)
    whole = _image_bytes(row, seed, rng)
    return whole[: len(whole) // 2]


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _wide_pixels(row: Row, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(h, w) uint16 of a PNG export. CT is clipped to its window: a PNG has no window, readers stretch min..max."""
    if row.modality == "CT":
        center, width = WINDOWS[row.region][0]
        lowest = max(center - width / 2, -1024)
        return np.round(np.clip(pixels, lowest, center + width / 2) + 1024).astype(np.uint16)
    return np.round(np.clip(pixels, 0, 1.05) * rng.uniform(700, 1500)).astype(np.uint16)


def _uid(*parts: object) -> str:
    """A UID below 2.25 (ITU-T X.667), from a hash instead of a clock, so that a redrawn file is the same file."""
    digest = hashlib.sha256("/".join(map(str, ("cbmir-phantoms", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _dataset(row: Row, pixels: np.ndarray, seed: int, rng: np.random.Generator) -> Dataset:
    modality, sop_class = SOP_CLASSES[row.modality]
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = _uid(seed, "image", row.image_id)
    dataset.StudyInstanceUID = _uid(seed, "study", row.study_id)
    dataset.SeriesInstanceUID = _uid(seed, "series", row.study_id)
    dataset.FrameOfReferenceUID = _uid(seed, "frame", row.study_id)
    dataset.ImageType = ["DERIVED", "SECONDARY"] + ([row.view.upper()] if row.modality == "CT" else [])
    dataset.Modality = modality
    dataset.Manufacturer = "cbmir phantoms"
    dataset.PatientName = f"Phantom^{row.patient_id}"
    dataset.PatientID = row.patient_id
    dataset.PatientSex = row.sex
    dataset.PatientAge = f"{row.age:03d}Y"
    dataset.PatientBirthDate = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = row.study_id
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = int(row.image_id.rsplit("_", 1)[1]) + 1
    dataset.BodyPartExamined = row.region.upper()
    dataset.ViewPosition = row.view if row.modality == "XR" else ""
    dataset.ImageComments = "Drawn by a program. No patient, not for clinical use."
    _put_pixels(dataset, row, pixels, rng)
    return dataset


def _put_pixels(dataset: Dataset, row: Row, pixels: np.ndarray, rng: np.random.Generator) -> None:
    """Stored values, and what a viewer needs to show them; each modality in its own convention."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    if row.modality == "CT":
        stored = np.round(np.clip(pixels, -1024, 3071) + 1024).astype("<i2")
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        (c0, w0), (c1, w1) = WINDOWS[row.region]
        two = rng.random() < TWO_WINDOWS
        dataset.WindowCenter, dataset.WindowWidth = ([c0, c1], [w0, w1]) if two else (c0, w0)
    elif row.modality == "MR":
        gain = rng.uniform(700, 1500)
        stored = np.round(np.clip(pixels, 0, 1.5) * gain).astype("<u2")
        dataset.WindowCenter, dataset.WindowWidth = round(gain * 0.5), round(gain)
    else:
        stored = np.round(pixels * 4095).astype("<u2")
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
        if rng.random() < MONOCHROME1:
            stored, dataset.PhotometricInterpretation = (4095 - stored).astype("<u2"), "MONOCHROME1"
    dataset.PixelData = stored.tobytes()


def _dicom_bytes(dataset: Dataset) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
