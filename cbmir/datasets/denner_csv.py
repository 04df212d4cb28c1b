"""denner-csv: the published split files of Denner et al. 2024 (Zenodo record 11196400, `datasets/*.csv`, `experiments/.../*.csv`).

filepath, dataset, split, modality, anatomic_region, then one column a label (`XR/chest/Pleural Effusion`: 1 or 0). Files may have
different label columns; a label whose column a file lacks, or whose cell is blank, is absent there, as the authors' own
concatenation reads it (missing becomes 0). `filepath` stays a column: published embeddings are found by it. The order of the label columns stays in the
manifest's run.json: the authors' code predicts the first of several labels with equal scores.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, table_files
from cbmir.datasets.addresses import expanded, image_addresses
from cbmir.datasets.csv_table import joined, label_columns, located
from cbmir.datasets.label_order import label_order, with_label_order
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError

COLUMNS = {
    "filepath": "filepath",
    "dataset": "dataset",
    "split": "split",
    "modality": "modality",
    "anatomic_region": "region",
}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """Split files -> rows; a file of another layout is refused."""
    files = expanded(roots, remarks)
    tables = [_read_one(file, options, remarks) for file in files]
    order = dict.fromkeys(label for table in tables for label in label_order(table))
    return with_label_order(joined(tables, files), list(order))


def _read_one(root: str, options: Options, remarks: Remarks) -> pa.Table:
    found = table_files.header(root)
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise UserError(
            f"{root} has no column {missing[0]}; expected {', '.join(COLUMNS)}, then labels; found: {', '.join(found[:8])} ...; "
            "for another layout use source csv"
        )
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise UserError(f"{root} has {found.count(twice[0])} columns '{twice[0]}'; expected each name once; rename one")
    labels = [name for name in found if name.count("/") >= 2]
    if not labels:
        raise UserError(f"{root} has no label column such as XR/chest/Pneumonia; found: {', '.join(found[:8])}")
    further = [
        name
        for name in found
        if name and name not in COLUMNS and name not in labels and not name.startswith("Unnamed: ")
    ]
    raw, lines = table_files.read(
        root, columns=[*COLUMNS, *further], types=dict.fromkeys(COLUMNS, pa.string()), remarks=remarks
    )
    one_hot = label_columns(root, labels, lines, remarks, blank_is_absent=True)
    present, unknown = one_hot.present, one_hot.unknown
    blank = pc.is_null(raw["filepath"])
    if pc.any(blank).as_py():
        at = lines[blank.to_numpy()]
        remarks.add_rows("unreadable_row", ["the filepath is blank"] * len(at), files=[root] * len(at), rows=at)
        kept = pc.invert(blank)
        raw, lines, present, unknown = (
            raw.filter(kept),
            lines[kept.to_numpy()],
            present.filter(kept),
            unknown.filter(kept),
        )
    columns = {ours: raw[theirs] for theirs, ours in COLUMNS.items()}
    columns["image_id"] = pc.binary_join_element_wise(pc.fill_null(raw["dataset"], "unknown"), raw["filepath"], "/")
    columns["uri"] = image_addresses(raw["filepath"], raw["dataset"], root, options.image_root)
    columns["dataset"] = pc.fill_null(raw["dataset"], "unknown")
    columns |= {"labels": present, "unknown_labels": unknown}
    columns |= {name: raw[name] for name in further}
    return with_label_order(located(pa.table(columns), root, lines), [name.strip() for name in labels])
