"""mimic-cxr: MIMIC-CXR-JPG 2.0.0 (Johnson et al. 2019), 377,110 chest radiographs of 65,379 patients.

`mimic-cxr-2.0.0-split.csv`, `-chexpert.csv` and `-metadata.csv`, packed or not, and files/p10/p10000032/s50414267/DICOM_ID.jpg.
"""

from __future__ import annotations

import posixpath
import re

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, Protocol, table_files
from cbmir.datasets.chexpert_labels import COUNTED, LABELS, label_lists, read_labels
from cbmir.datasets.collection import Collection, by_key, column, open_collection, text_table, where
from cbmir.datasets.csv_table import joined
from cbmir.datasets.remarks import Remarks

_TABLE = "mimic-cxr-2.0.0-{}.csv"
_LISTS = pa.list_(pa.string())

PROTOCOLS = {"denner2024": Protocol("len(labels) = 1", COUNTED)}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """One row an image of the split file; labels are those of its study."""
    return joined([_read_one(open_collection(root, remarks), options, remarks) for root in roots], roots)


def _read_one(collection: Collection, options: Options, remarks: Remarks) -> pa.Table:
    address = collection.required(_TABLE.format("split"))
    table, lines = text_table(address, remarks)
    image, study, subject = (column(table, address, name) for name in ("dicom_id", "study_id", "subject_id"))
    complete = pc.and_(pc.and_(pc.is_valid(image), pc.is_valid(study)), pc.is_valid(subject))
    for row in lines[pc.invert(complete).to_numpy(zero_copy_only=False)]:
        remarks.add("unreadable_row", "dicom_id, study_id or subject_id is blank", file=address, row=int(row))
    lines = lines[complete.to_numpy(zero_copy_only=False)]
    split = column(table, address, "split").filter(complete)
    image, study, subject = (ids.filter(complete) for ids in (image, study, subject))
    folder = pc.binary_join_element_wise(
        "files/p", pc.utf8_slice_codeunits(subject, 0, 2), "/p", subject, "/s", study, "/", ""
    )
    inside = pc.binary_join_element_wise(folder, image, ".jpg", "")
    files = by_key(collection, lambda path: posixpath.basename(path).rpartition(".")[0])
    collection.name_unlisted(image, files, remarks)
    dataset = options.constants.get("dataset", "mimic-cxr")
    columns = {
        "image_id": pc.binary_join_element_wise(dataset, inside, "/"),
        "uri": collection.addresses(inside, image, files),
        "dataset": pa.array([dataset] * len(image), pa.string()),
        "split": split,
        "patient_id": subject,
        "study_id": study,
        "modality": pa.array(["XR"] * len(image), pa.string()),
        "region": pa.array(["chest"] * len(image), pa.string()),
        **_study_labels(collection, subject, study, inside, address, lines, remarks),
        **_metadata(collection, image, remarks),
        **where(address, lines),
    }
    return pa.table(columns)


def _study_labels(
    collection: Collection,
    subject: pa.Array,
    study: pa.Array,
    inside: pa.Array,
    split_file: str,
    lines,
    remarks: Remarks,
) -> dict[str, pa.Array]:
    """Labels of each image's study; an image whose study the label file lacks has none, all 14 being unknown, and is named."""
    address = collection.required(_TABLE.format("chexpert"))
    table, rows = text_table(address, remarks)
    theirs = pc.binary_join_element_wise(column(table, address, "subject_id"), column(table, address, "study_id"), "/")
    at = pc.index_in(pc.binary_join_element_wise(subject, study, "/"), theirs)
    lost = pc.is_null(at)
    detail = pc.binary_join_element_wise(inside.filter(lost), "no row of labels for its study", ": ")
    remarks.add_rows(
        "unlabeled_image", detail, files=[split_file] * len(detail), rows=lines[lost.to_numpy(zero_copy_only=False)]
    )
    empty = {"labels": [], "unknown_labels": list(LABELS), "uncertain_labels": []}
    found = {}
    for name, lists in label_lists(read_labels(address, rows, remarks)).items():
        whole = pa.concat_arrays([lists, pa.array([empty[name]], _LISTS)])
        found[name] = whole.take(pc.fill_null(at, len(lists)))
    return found


def _metadata(collection: Collection, image: pa.Array, remarks: Remarks) -> dict[str, pa.Array]:
    """Every column of the metadata file, in snake_case; nothing where the file is not there."""
    address = collection.table(_TABLE.format("metadata"))
    if address is None:
        remarks.add("missing_label_file", f"{_TABLE.format('metadata')}, below {collection.root}: no view, no dates")
        return {}
    names = [name for name in table_files.header(address) if name.strip()]
    ids = {name: pa.string() for name in names if name.lower().endswith("_id")}
    table, _ = table_files.read(address, columns=names, types=ids, remarks=remarks)
    at = pc.index_in(image, column(table, address, "dicom_id"))
    return {
        _snake(name): table[name].combine_chunks().take(at)
        for name in names
        if name.lower() not in ("dicom_id", "subject_id", "study_id")
    }


def _snake(name: str) -> str:
    """'ViewCodeSequence_CodeMeaning' -> 'view_code_sequence_code_meaning'."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower()
