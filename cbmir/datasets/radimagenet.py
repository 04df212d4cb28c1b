"""radimagenet: RadImageNet (Mei et al. 2022), 1.35 million CT, MR and ultrasound images of 131,872 patients.

`RadiologyAI_train.csv`, `RadiologyAI_val.csv`, `RadiologyAI_test.csv` (column `filename`), and CT/lung/Nodule/lung012345.png: the label is the path between the
root and the file name. `ignore_list.txt`, if there is one, names images to leave out.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, Protocol
from cbmir.datasets.collection import Collection, by_key, column, open_collection, text_lines, text_table, where
from cbmir.datasets.csv_table import joined
from cbmir.datasets.remarks import FILE, ROW, Remarks

SPLITS = ("train", "val", "test")
_BELOW_ROOT = r"(?:^|/)(?P<path>(?:CT|MR|US)/.+)$"
_ULTRASOUND = {
    "thyroid_nodule": ("thyroid", "nodule")
}  # the one folder of ultrasound that holds a finding; the others are organs

PROTOCOLS = {"denner2024": Protocol("len(labels) = 1 AND n_listed_labels = 1")}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """One row an image of the three lists."""
    return joined([_read_one(open_collection(root, remarks), options, remarks) for root in roots], roots)


def _read_one(collection: Collection, options: Options, remarks: Remarks) -> pa.Table:
    found = {split: collection.table(f"RadiologyAI_{split}.csv") for split in SPLITS}
    if not any(found.values()):
        collection.required("RadiologyAI_train.csv")
    parts = []
    for split, address in found.items():
        if address is None:
            remarks.add("missing_label_file", f"RadiologyAI_{split}.csv, below {collection.root}")
        else:
            parts.append(_rows(split, address, remarks))
    table = joined(parts, [collection.root])
    table = _without_ignored(collection, table, remarks)
    path = table["_path"].combine_chunks()
    files = by_key(collection, _below_root)
    collection.name_unlisted(path, files, remarks)
    dataset = options.constants.get("dataset", "radimagenet")
    table = table.append_column("image_id", pc.binary_join_element_wise(dataset, path, "/"))
    table = table.append_column("uri", collection.addresses(path, path, files))
    table = table.append_column("dataset", pa.array([dataset] * len(table), pa.string()))
    return _counted(table, remarks).drop_columns(["_path", "_label"])


def _below_root(path: str) -> str | None:
    found = re.search(_BELOW_ROOT, path)
    return found.group("path") if found else None


def _rows(split: str, address: str, remarks: Remarks) -> pa.Table:
    """One list -> path below the root, modality, region, labels; further columns kept."""
    table, lines = text_table(address, remarks)
    paths = pc.struct_field(pc.extract_regex(pc.fill_null(column(table, address, "filename"), ""), _BELOW_ROOT), "path")
    good = pc.is_valid(paths)
    for row in lines[pc.invert(good).to_numpy(zero_copy_only=False)]:
        remarks.add("unreadable_row", "filename is not .../CT|MR|US/REGION/FINDING/FILE", file=address, row=int(row))
    table, lines, paths = table.filter(good), lines[good.to_numpy(zero_copy_only=False)], paths.filter(good)
    directory = pc.dictionary_encode(pc.replace_substring_regex(paths, r"/[^/]*$", ""))
    known = [meaning(text) for text in directory.dictionary.to_pylist()]
    modality, region, label = (pa.array(values, pa.string()).take(directory.indices) for values in zip(*known, strict=True)) if known else [pa.array([], pa.string())] * 3  # fmt: skip
    bare = pc.is_null(label)
    for row in lines[bare.to_numpy(zero_copy_only=False)]:
        remarks.add("odd_value", "no finding in the path, so no label", file=address, row=int(row))
    lists = pa.array([[]] + [[text] for _, _, text in known if text], pa.list_(pa.string()))
    at = pc.index_in(label, pa.array([text for _, _, text in known if text], pa.string()))
    columns = {
        "_path": paths,
        "_label": label,
        "split": pa.array([split] * len(paths), pa.string()),
        "modality": modality,
        "region": region,
        "labels": lists.take(pc.add(pc.fill_null(at, -1), 1)),
        **_further(table),
        **where(address, lines),
    }
    return pa.table(columns)


def meaning(directory: str) -> tuple[str, str | None, str | None]:
    """'CT/lung/Nodule' -> (CT, lung, CT/lung/Nodule); 'US/gb' -> (US, gb, US/gb/normal); a directory without a finding has no label."""
    modality, *rest = directory.split("/")
    if modality == "US" and len(rest) == 1:
        region, finding = _ULTRASOUND.get(rest[0], (rest[0], "normal"))
        return modality, region, f"US/{region}/{finding}"
    if len(rest) < 2:
        return modality, rest[0] if rest else None, None
    return modality, rest[0], directory


def _further(table: pa.Table) -> dict[str, pa.Array]:
    """Patient, where a list has one, and every other column under its own name (`label` as `their_label`)."""
    found = {}
    for name in table.column_names:
        plain = re.sub(r"\W+", "_", name).lower()
        if plain in ("patient_id", "patient", "patientid"):
            found["patient_id"] = table[name].combine_chunks()
        elif plain != "filename":
            found[f"their_{plain}" if plain in ("label", "labels", "split", "modality", "region", "uri") else plain] = (
                table[name].combine_chunks()
            )
    return found


def _without_ignored(collection: Collection, table: pa.Table, remarks: Remarks) -> pa.Table:
    address = collection.table("ignore_list.txt")
    if address is None:
        return table
    ignored = {path for path in (_below_root(line) for line in text_lines(address)) if path}
    out = pc.is_in(table["_path"], pa.array(ignored, pa.string()))
    rows = table.filter(out)
    remarks.add_rows(
        "left_out",
        pc.binary_join_element_wise(rows["_path"], "in ignore_list.txt", ": "),
        files=rows[FILE],
        rows=rows[ROW],
    )
    return table.filter(pc.invert(out))


def _counted(table: pa.Table, remarks: Remarks) -> pa.Table:
    """With n_listed_labels: how many labels the image is listed with. An image is a file name within a modality and region; its labels come from
    the paths under which it is listed, or from a column `label` where one path is listed twice."""
    names = pc.replace_substring_regex(table["_path"], r"^.*/", "")
    images = _codes(pc.binary_join_element_wise(table["modality"], pc.fill_null(table["region"], ""), names, "/"))
    counts = np.zeros(len(table), np.int32)
    for column_name in ("_label", "their_label"):
        if column_name in table.column_names:
            labels = _codes(pc.fill_null(table[column_name], ""))
            pairs = np.unique(np.stack([images, labels]), axis=1)[0]
            counts = np.maximum(counts, np.bincount(pairs, minlength=int(images.max(initial=-1)) + 1)[images])
    several = pa.array(counts > 1)
    rows = table.filter(several)
    remarks.add_rows("two_labels", rows["_path"], files=rows[FILE], rows=rows[ROW])
    return table.append_column("n_listed_labels", pa.array(counts, pa.int32()))


def _codes(texts: pa.ChunkedArray) -> np.ndarray:
    return pc.dictionary_encode(texts.combine_chunks()).indices.to_numpy().astype(np.int64)
