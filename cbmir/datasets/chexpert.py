"""chexpert: CheXpert v1.0 and v1.0-small (Irvin et al. 2019), 224,316 chest radiographs of 65,240 patients.

`train.csv` and `valid.csv`, and JPEG files below train/ and valid/ (or below the numbered batches of the full-size distribution):
a file is found by its patient, study and name.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, Protocol
from cbmir.datasets.chexpert_labels import COUNTED, FINDINGS, label_lists, read_labels
from cbmir.datasets.collection import Collection, by_key, column, numbers, open_collection, text_table, where
from cbmir.datasets.csv_table import joined
from cbmir.datasets.nih14 import VALIDATION
from cbmir.datasets.remarks import Remarks
from cbmir.datasets.splits import draw
from cbmir.errors import UserError

_PARTS = r"(?P<patient>patient[0-9]+)/(?P<study>study[0-9]+)/(?P<file>[^/]+)$"
_FURTHER = {"Sex": "sex", "Frontal/Lateral": "view", "AP/PA": "ap_pa"}

# their rows of training data are those with one 1 and no -1; validation data, their test set, is filtered on the 1s alone
PROTOCOLS = {
    "denner2024": Protocol(
        "len(labels) = 1 AND (split = 'test' OR len(list_filter(uncertain_labels, lambda x: x <> 'XR/chest/Support Devices')) = 0)",
        COUNTED,
    )
}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """One row an image of train.csv (split into train and val by patient) and of valid.csv (test)."""
    return joined([_read_one(open_collection(root, remarks), options, remarks) for root in roots], roots)


def _read_one(collection: Collection, options: Options, remarks: Remarks) -> pa.Table:
    files = by_key(collection, _key)
    found = {name: collection.table(f"{name}.csv") for name in ("train", "valid")}
    if not any(found.values()):
        collection.required("train.csv")
    parts = []
    for name, address in found.items():
        if address is None:
            remarks.add("missing_label_file", f"{name}.csv, below {collection.root}")
        else:
            parts.append(_rows(collection, name, address, files, options, remarks))
    table = joined(parts, [collection.root])
    collection.name_unlisted(table["_key"].combine_chunks(), files, remarks)
    return table.drop_columns("_key")


def _key(path: str) -> str | None:
    found = re.search(_PARTS, path)
    return found.group(0) if found else None


def _rows(
    collection: Collection, name: str, address: str, files: dict[str, str], options: Options, remarks: Remarks
) -> pa.Table:
    table, lines = text_table(address, remarks)
    labels = label_lists(read_labels(address, lines, remarks))
    parts = pc.extract_regex(pc.fill_null(column(table, address, "Path"), ""), _PARTS)
    good = pc.is_valid(parts)
    for row in lines[pc.invert(good).to_numpy(zero_copy_only=False)]:
        remarks.add("unreadable_row", "the path is not .../patientN/studyN/FILE", file=address, row=int(row))
    patient, study, file = (pc.struct_field(parts, part).filter(good) for part in ("patient", "study", "file"))
    if len(patient) == 0:
        raise UserError(
            f"{address} holds no path such as {name}/patient00001/study1/view1_frontal.jpg; expected the file as distributed"
        )
    study_id = pc.binary_join_element_wise(patient, study, "/")
    key = pc.binary_join_element_wise(study_id, file, "/")
    dataset = options.constants.get("dataset", "chexpert")
    inside = pc.binary_join_element_wise(name, key, "/")
    columns = {
        "image_id": pc.binary_join_element_wise(dataset, inside, "/"),
        "uri": collection.addresses(inside, key, files),
        "dataset": pa.array([dataset] * len(key), pa.string()),
        "split": draw(patient, options.seed, shares=VALIDATION) if name == "train" else pa.array(["test"] * len(key)),
        "patient_id": patient,
        "study_id": study_id,
        "modality": pa.array(["XR"] * len(key), pa.string()),
        "region": pa.array(["chest"] * len(key), pa.string()),
        "_key": key,
        **{label: lists.filter(good) for label, lists in labels.items()},
        **_further(table.filter(good)),
        **where(address, lines[good.to_numpy(zero_copy_only=False)]),
    }
    return pa.table(columns)


def _further(table: pa.Table) -> dict[str, pa.Array]:
    """Sex, age, view (Frontal, Lateral), projection (AP, PA), and whatever else a later release has."""
    found: dict[str, pa.Array] = {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        if name == "Age":
            found["age"] = numbers(values, pa.int32())
        elif name in _FURTHER:
            found[_FURTHER[name]] = values
        elif name != "Path" and name not in FINDINGS:
            found[re.sub(r"\W+", "_", name).lower()] = values
    return found
