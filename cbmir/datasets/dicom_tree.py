"""dicom: DICOM files in directories of any layout, with or without suffix; what a file is, its content says.

Taken from the headers: modality, body part, patient, study, series, instance, number, size, position and orientation of the slice. Nothing
else of a header goes anywhere.
"""

from __future__ import annotations

import posixpath
import sys

import pyarrow as pa

from cbmir.datasets import Options
from cbmir.datasets.dicom_codes import body_part, modality
from cbmir.datasets.dicom_files import Problem, examine_all
from cbmir.datasets.dicom_series import Image, Slice, along, as_acquired, volumes_of
from cbmir.datasets.listing import Found, dataset_name, id_prefixes, listed, suffix_counts
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.images.dicom_header import Header

COLUMNS = ("image_id", "uri", "dataset", "modality", "region", "patient_id", "study_id", "series_id", "volume_id", "slice",
           "labels")  # fmt: skip

_WORDS = {"modality": modality, "body part": body_part}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """DICOM files -> one row a single-frame file, one row a frame of the others, in the order of their paths.

    With an axis, series that are volumes have a row a slice along it instead, in the place of their first slice's file.
    """
    files = [f for f in listed(roots, remarks, expected="a folder of DICOM files") if not _is_directory_file(f)]
    images = _with_pixels(files, remarks)
    _name_doubles(images, remarks)
    columns = _columns(images, options, remarks)
    types = {"slice": pa.int32(), "labels": pa.list_(pa.string())}
    return pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})


def _is_directory_file(file: Found) -> bool:
    return posixpath.basename(file.relative).upper() == "DICOMDIR"


def _with_pixels(files: list[Found], remarks: Remarks) -> list[Image]:
    """The files that hold images; the others are named, those that are no DICOM counted."""
    images, others = [], []
    problems: dict[str, list[tuple[str, str]]] = {}
    for file, found in zip(files, examine_all([file.address for file in files]), strict=True):
        if isinstance(found, Header):
            images.append(Image(file, found))
        elif found.kind == "other_file":
            others.append(file)
        else:
            _add(problems, file, found)
    for kind, named in problems.items():
        remarks.add_rows(kind, [detail for _, detail in named], files=[address for address, _ in named])
    if others:
        detail = f"{len(others):,} files that are no DICOM: {suffix_counts(f.relative for f in others)}"
        remarks.add("other_file", detail, file=others[0].address)
    return images


def _add(problems: dict[str, list[tuple[str, str]]], file: Found, problem: Problem) -> None:
    problems.setdefault(problem.kind, []).append((file.address, problem.detail))


def _name_doubles(images: list[Image], remarks: Remarks) -> None:
    first: dict[str, str] = {}
    doubles = []
    for image in images:
        uid = image.header.instance_uid
        before = first.setdefault(uid, image.file.address) if uid else image.file.address
        if before != image.file.address:
            doubles.append((f"the same instance as {before}", image.file.address))
    remarks.add_rows("same_instance", [text for text, _ in doubles], files=[address for _, address in doubles])


def _columns(images: list[Image], options: Options, remarks: Remarks) -> dict[str, list]:
    dataset = options.constants.get("dataset")
    any_text = options.deidentify is False
    prefixes = id_prefixes([image.file for image in images], dataset)
    slices = _slices(images, options.axis, remarks)
    instances: set[str] = set()  # of multi-frame files
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    for i, image in enumerate(images):
        header, file = image.header, image.file
        name = dataset or dataset_name(file)
        known = {
            "dataset": name,
            "modality": _word(header.modality, "modality", file, remarks, any_text=any_text),
            "region": _word(header.body_part, "body part", file, remarks, any_text=any_text),
            "patient_id": _shared(header.patient_id),
            "study_id": _shared(header.study_uid),
            "series_id": _shared(header.series_uid),
            "labels": [],
        }
        image_id = f"{prefixes[file.top]}/{file.relative}"
        if header.frames > 1:
            parts = _frames(image, image_id, name, instances)
        elif i in slices:
            parts = [_slice(file, image_id, name, one) for one in slices[i]]
        else:
            parts = [{"image_id": image_id, "uri": file.uri, "volume_id": None, "slice": None}]
        for part in parts:
            for column, value in (part | known).items():
                columns[column].append(value)
    return columns


def _slices(images: list[Image], axis: int | None, remarks: Remarks) -> dict[int, list[Slice]]:
    """Index of an image that is a slice -> what its file gives the manifest: itself, or slices of its volume along an axis."""
    if axis is None:
        return as_acquired(volumes_of(images, remarks, kept="all are kept, by instance number"))
    volumes = volumes_of(  # whoever reads a slice finds the others of its volume beside its file
        images,
        remarks,
        apart=lambda image: f"{image.file.top}\0{posixpath.dirname(image.file.address)}",
        kept="of each the first by instance number is taken",
    )
    if images and not volumes:
        raise UserError(f"--axis {axis}: none of the series is a volume; leave it out")
    return along(volumes, axis)


def _slice(file: Found, image_id: str, dataset: str, one: Slice) -> dict:
    """The row of a slice: of a file, or of the volume that a file stands for."""
    whole = {"image_id": image_id, "uri": file.uri}
    part = {"image_id": f"{image_id}#{one.number}", "uri": f"{file.address}#{one.part}"}
    return (whole if one.part is None else part) | {"volume_id": f"{dataset}/{one.volume}", "slice": one.number}


def _frames(image: Image, image_id: str, dataset: str, instances: set[str]) -> list[dict]:
    """A row a frame; the volume is the instance, or the file where it is a copy or has no instance UID. Slices are counted along the patient."""
    uid = image.header.instance_uid
    volume = image_id if uid is None or uid in instances else f"{dataset}/{uid}"
    instances.add(uid or "")
    return [
        {"image_id": f"{image_id}#{n}", "uri": f"{image.file.address}#frame={n}", "volume_id": volume, "slice": place}
        for place, n in enumerate(image.header.frames_in_order)
    ]


def _word(text: str | None, what: str, file: Found, remarks: Remarks, *, any_text: bool) -> str | None:
    """The modality or body part as the manifest has it, None where it is blank or may not be passed on."""
    if text is None:
        return None
    word = _WORDS[what](text, any_text=any_text)
    if word is None:
        detail = f"the {what} is no word that DICOM has for one; taken as unknown, as it might name a person"
        remarks.add("odd_value", detail, file=file.address)
    return _shared(word)


def _shared(text: str | None) -> str | None:
    """The same text once in memory: thousands of slices name the same patient."""
    return None if text is None else sys.intern(text.encode("utf-8", "replace").decode())
