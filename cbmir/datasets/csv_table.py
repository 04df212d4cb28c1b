"""csv: tables with one row an image (.csv, .tsv, .parquet).

Columns (names in any case; others are mapped with --column NAME=THEIRS): image_id (or none), path | filepath | uri
(relative to the table, or to --image-root), dataset | source, split, patient_id, study_id, modality, region | body_part |
anatomic_region, labels | label | finding (`a|b|c`, another --separator, or a list), or one column a label with --one-hot.
Every further column is kept.
"""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, table_files
from cbmir.datasets.addresses import expanded, image_addresses
from cbmir.datasets.one_hot import OneHot, label_lists
from cbmir.datasets.remarks import FILE, ROW, Remarks
from cbmir.errors import UserError, nearest

SYNONYMS: dict[str, tuple[str, ...]] = {
    "image_id": ("image_id",),
    "path": ("path", "filepath", "uri"),
    "dataset": ("dataset", "source"),
    "split": ("split",),
    "patient_id": ("patient_id",),
    "study_id": ("study_id",),
    "modality": ("modality",),
    "region": ("region", "body_part", "anatomic_region"),
    "labels": ("labels", "label", "finding"),
    "unknown_labels": ("unknown_labels",),
    "volume_id": ("volume_id",),
    "slice": ("slice",),
}
_RESERVED = ("image_key", "uri")  # manifest columns that are computed
_TEXTS = ("dataset", "split", "patient_id", "study_id", "modality", "region", "volume_id")


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """One or several tables -> rows of the manifest, further columns kept; tables may differ in those."""
    unknown = [name for name in options.columns if name not in SYNONYMS]
    if unknown:
        hint = nearest(unknown[0], list(SYNONYMS)) or f"expected one of: {', '.join(SYNONYMS)}"
        raise UserError(f"--column {unknown[0]}=...: not a column of the manifest; {hint}")
    files = expanded(roots, remarks)
    return joined([read_one(file, options, remarks) for file in files], files)


def joined(tables: list[pa.Table], files: list[str]) -> pa.Table:
    """Rows of several tables as one; a column that a table lacks is null there."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise UserError(
            f"the tables {', '.join(files)} cannot be one ({table_files.line_of(error)}); expected the same kind of values in "
            "columns of the same name; correct a table, or rename its column"
        ) from None


def read_one(root: str, options: Options, remarks: Remarks) -> pa.Table:
    """One table -> its rows, with the file and line of each."""
    found = table_files.header(root)
    names = _names([name.strip() for name in found], root, options)
    hot = _one_hot_columns(found, names, root, options)
    raw, lines = _parse(root, found, hot, options, remarks)
    found_labels = label_columns(root, hot, lines, remarks) if hot else None
    labels, unknown = (found_labels.present, found_labels.unknown) if hot else (None, None)
    blank = pc.is_null(raw[names["path"]])
    if pc.any(blank).as_py():
        at = lines[blank.to_numpy()]
        remarks.add_rows("unreadable_row", ["the path is blank"] * len(at), files=[root] * len(at), rows=at)
        kept = pc.invert(blank)
        raw, lines = raw.filter(kept), lines[kept.to_numpy()]
        labels, unknown = (None if column is None else column.filter(kept) for column in (labels, unknown))
    columns = _columns(raw, names, root, options)
    if hot:
        columns["labels"] = _merged(columns.get("labels"), labels)
        columns["unknown_labels"] = _merged(columns.get("unknown_labels"), unknown)
    used = set(names.values())
    for name in raw.column_names:
        if name not in used:  # kept, beside a column that was mapped to the same name
            columns[f"their_{name}" if name in columns or name in SYNONYMS else name] = raw[name]
    return located(pa.table(columns), root, lines)


def located(table: pa.Table, root: str, lines: np.ndarray) -> pa.Table:
    """The table with the file and line of each row, for remarks."""
    where = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(lines), np.int32)), pa.array([root]))
    return table.append_column(FILE, where).append_column(ROW, pa.array(lines, pa.int64()))


def _parse(
    root: str, found: list[str], hot: list[str], options: Options, remarks: Remarks
) -> tuple[pa.Table, np.ndarray]:
    """All but the one-hot columns, with pyarrow's guess of each one's type, ids and the manifest's own columns always as text."""
    texts = {n for names in SYNONYMS.values() for n in names if n != "slice"} | set(options.columns.values())
    keep = [name for name in found if name not in hot]
    types = {
        name: pa.string()
        for name in keep
        if name.strip() in texts or name.strip().lower() in texts or name.strip().lower().endswith("id")
    }
    table, lines = table_files.read(root, columns=keep, types=types, remarks=remarks)
    return table.rename_columns([name.strip() for name in table.column_names]), lines


def label_columns(
    root: str,
    hot: list[str],
    lines: np.ndarray,
    remarks: Remarks,
    *,
    names: list[str] | None = None,
    blank_is_absent: bool = False,
) -> OneHot:
    """Labels of one-hot columns, read block by block; values that mean nothing are named."""
    for kind in (pa.float32(), pa.string()):  # words such as 'yes' only where numbers do not fit: they are slow
        labels = OneHot(hot, names=names, blank_is_absent=blank_is_absent)
        try:
            for block in table_files.stream(root, columns=hot, types=dict.fromkeys(hot, kind)):
                labels.add(block)
            break
        except UserError:
            if kind == pa.string():
                raise
    for row, column, value in labels.odd:
        what = "a word" if not np.isfinite(value) else f"{value:g}"
        remarks.add(
            "odd_value",
            f"{column.strip()} is {what}; expected 1, 0, -1 or blank; taken as unknown",
            file=root,
            row=int(lines[row]),
        )
    return labels


def _columns(
    raw: pa.Table, names: dict[str, str], root: str, options: Options
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The manifest's columns that the table has, labels split."""
    columns = {name: raw[names[name]].cast(pa.string()) for name in _TEXTS if name in names}
    dataset = options.constants.get("dataset") or posixpath.basename(root.partition("?")[0]).split(".")[0]
    columns.setdefault("dataset", pa.array([dataset] * raw.num_rows, pa.string()))
    columns["uri"] = image_addresses(raw[names["path"]], columns["dataset"], root, options.image_root)
    for name in ("labels", "unknown_labels"):
        if name in names:
            columns[name] = label_lists(raw[names[name]], separator=options.separator)
    if "slice" in names:
        columns["slice"] = _slices(raw[names["slice"]], root)
    columns["image_id"] = _image_ids(raw, names, columns["dataset"])
    return columns


def _merged(left: pa.Array | None, right: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Labels of a text column and of one-hot columns, each once."""
    if left is None:
        return right
    rows = [list(dict.fromkeys((a or []) + b)) for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True)]
    return pa.array(rows, right.type)


def _names(found: list[str], root: str, options: Options) -> dict[str, str]:
    """Manifest column -> column of this table, by --column first, then by synonym."""
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise UserError(f"{root} has {found.count(twice[0])} columns '{twice[0]}'; expected each name once; rename one")
    lower = {name.lower(): name for name in reversed(found)}
    names: dict[str, str] = {}
    for name, synonyms in SYNONYMS.items():
        asked = options.columns.get(name)
        if asked and asked not in found:
            raise UserError(
                f"--column {name}={asked}: {root} has no column '{asked}'; {nearest(asked, found) or 'columns: ' + ', '.join(found)}"
            )
        match = asked or next((lower[s] for s in synonyms if s in lower), None)
        if match:
            names[name] = match
    if "path" not in names:
        raise UserError(
            f"{root} has no column path, filepath or uri; found: {', '.join(found)}; map one with --column path=NAME"
        )
    reserved = [name for name in found if name.lower() in _RESERVED and name not in names.values()]
    if reserved:
        raise UserError(f"{root} has a column '{reserved[0]}', which the manifest computes itself; rename it")
    return names


def _one_hot_columns(found: list[str], names: dict[str, str], root: str, options: Options) -> list[str]:
    """Columns that --one-hot names, in the table's order; those that hold a path or an id are never meant by a pattern."""
    taken = set(names.values())
    hot: list[str] = []
    for pattern in options.one_hot:
        match = [name for name in found if fnmatchcase(name.strip(), pattern) and name.strip() not in taken]
        if not match:
            hint = nearest(pattern, found) or f"columns: {', '.join(found)}"
            raise UserError(f"--one-hot {pattern}: {root} has no such column; {hint}")
        hot += match
    return [name for name in found if name in hot]


def _slices(column: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.int32())
    except pa.ArrowInvalid as error:
        line = table_files.line_of(error)
        raise UserError(f"{root}: a slice is no whole number ({line}); expected 0, 1, 2 ... or blank") from None


def _image_ids(raw: pa.Table, names: dict[str, str], datasets: pa.Array | pa.ChunkedArray) -> pa.Array:
    if "image_id" not in names:
        return pc.binary_join_element_wise(pc.fill_null(datasets, ""), raw[names["path"]], "/")
    ids = raw[names["image_id"]].cast(pa.string())
    if ids.null_count == 0:
        return ids
    raise UserError(
        f"column {names['image_id']} is blank in {ids.null_count:,} rows; expected an id in each, or no such column"
    )
