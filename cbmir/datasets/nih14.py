"""nih14: NIH ChestX-ray14 (Wang et al. 2017), 112,120 frontal chest radiographs of 30,805 patients.

`Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`, `train_val_list.txt`, `test_list.txt`, and PNG files in images_001/images ... images_012/images, or
in any other directories: a file is found by its name.
"""

from __future__ import annotations

import posixpath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, Protocol
from cbmir.datasets.collection import (
    Collection,
    by_key,
    column,
    numbers,
    open_collection,
    text_lines,
    text_table,
    where,
)
from cbmir.datasets.csv_table import joined
from cbmir.datasets.remarks import Remarks
from cbmir.datasets.splits import draw

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia", "Infiltration", "Mass",
    "No Finding", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
_OTHERWISE = {"Effusion": "Pleural Effusion", "Pleural_Thickening": "Pleural Thickening"}  # as the other sets call them
_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
VALIDATION = {"train": 0.9, "val": 0.1}  # of the patients of a list that does not tell the two apart


def label(finding: str) -> str:
    """'Effusion' -> 'XR/chest/Pleural Effusion'."""
    return f"XR/chest/{_OTHERWISE.get(finding, finding)}"


PROTOCOLS = {"denner2024": Protocol("len(labels) = 1", tuple(label(finding) for finding in FINDINGS))}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """One row an image of the label file; all labels are kept."""
    return joined([_read_one(open_collection(root, remarks), options, remarks) for root in roots], roots)


def _read_one(collection: Collection, options: Options, remarks: Remarks) -> pa.Table:
    address = collection.required(*_TABLES)
    table, lines = text_table(address, remarks)
    names = column(table, address, "Image Index")
    patients = column(table, address, "Patient ID")
    files = by_key(collection, posixpath.basename)
    collection.name_unlisted(names, files, remarks)
    dataset = options.constants.get("dataset", "nih14")
    blank = pc.fill_null(names, "")
    columns = {
        "image_id": pc.binary_join_element_wise(dataset, blank, "/"),
        "uri": collection.addresses(pc.binary_join_element_wise("images", blank, "/"), blank, files),
        "dataset": pa.array([dataset] * len(table), pa.string()),
        "split": _splits(collection, names, patients, options.seed, address, lines, remarks),
        "patient_id": patients,
        "modality": pa.array(["XR"] * len(table), pa.string()),
        "region": pa.array(["chest"] * len(table), pa.string()),
        "labels": _labels(column(table, address, "Finding Labels"), address, lines, remarks),
        **_further(table),
        **where(address, lines),
    }
    return pa.table(columns)


def _labels(texts: pa.Array, address: str, lines: np.ndarray, remarks: Remarks) -> pa.Array:
    """'Cardiomegaly|Effusion' -> its labels; a finding that is none of the fifteen is kept and named."""
    encoded = pc.dictionary_encode(pc.fill_null(texts, ""))
    findings = [[part.strip() for part in text.split("|") if part.strip()] for text in encoded.dictionary.to_pylist()]
    odd = np.array([bool(set(found) - set(FINDINGS)) for found in findings], bool)
    codes = encoded.indices.to_numpy()
    for row in np.flatnonzero(odd[codes] if len(codes) else codes):
        unknown = sorted(set(findings[codes[row]]) - set(FINDINGS))
        remarks.add("unknown_label", f"'{unknown[0]}' is none of the 15 findings", file=address, row=int(lines[row]))
    lists = pa.array([list(dict.fromkeys(map(label, found))) for found in findings], pa.list_(pa.string()))
    return lists.take(encoded.indices)


def _splits(
    collection: Collection,
    names: pa.Array,
    patients: pa.Array,
    seed: int,
    address: str,
    lines: np.ndarray,
    remarks: Remarks,
) -> pa.Array:
    """The official test list; of the other list's patients a tenth is drawn for validation."""
    lists = {kind: collection.required(f"{kind}_list.txt") for kind in ("train_val", "test")}
    listed = {
        kind: pa.array([posixpath.basename(line) for line in text_lines(file)], pa.string())
        for kind, file in lists.items()
    }
    test, rest = (pc.is_in(names, listed[kind]) for kind in ("test", "train_val"))
    for row in np.flatnonzero(pc.and_(test, rest).to_numpy(zero_copy_only=False)):
        detail = f"{names[int(row)].as_py()} is in test_list.txt and train_val_list.txt; taken as test"
        remarks.add("odd_value", detail, file=address, row=int(lines[row]))
    for kind, file in lists.items():
        strangers = listed[kind].filter(pc.invert(pc.is_in(listed[kind], names)))
        remarks.add_rows(
            "unlisted_image",
            pc.binary_join_element_wise(strangers, "has no row of labels", " "),
            files=[file] * len(strangers),
        )
    drawn = draw(pc.fill_null(patients, ""), seed, shares=VALIDATION)
    return pc.if_else(test, "test", pc.if_else(rest, drawn, None))


def _further(table: pa.Table) -> dict[str, pa.Array]:
    """Age in years, sex, view, follow-up number, size in pixels and pixel spacing in mm, as far as the file has them."""
    found: dict[str, pa.Array] = {}
    lower = {name.lower(): table[name].combine_chunks() for name in table.column_names}
    if "patient age" in lower:
        found["age"] = _years(lower["patient age"])
    for theirs, ours in (("patient gender", "sex"), ("patient sex", "sex"), ("view position", "view")):
        if theirs in lower:
            found[ours] = lower[theirs]
    for theirs, ours, kind in (
        ("follow-up #", "follow_up", pa.int32()), ("originalimage[width", "width", pa.int32()), ("height]", "height", pa.int32()),
        ("originalimagepixelspacing[x", "spacing_x", pa.float64()), ("y]", "spacing_y", pa.float64()),
    ):  # fmt: skip
        if theirs in lower:
            found[ours] = numbers(lower[theirs], kind)
    return found


def _years(texts: pa.Array) -> pa.Array:
    """'58', '058Y' -> 58; '013M' -> 1; '020D' -> 0."""
    count = numbers(pc.replace_substring_regex(texts, r"[YyMmDdWw]$", ""), pa.int32())
    months, days = (pc.match_substring_regex(texts, pattern) for pattern in (r"[Mm]$", r"[DdWw]$"))
    return pc.if_else(
        pc.fill_null(days, False), 0, pc.if_else(pc.fill_null(months, False), pc.divide(count, 12), count)
    )
