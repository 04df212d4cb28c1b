"""csv: a table with one row an image.

Columns (names in any case; others are mapped with --column NAME=THEIRS): image_id (or none), path | filepath | uri
(relative to the table), dataset | source, split, patient_id, study_id, modality, region | body_part |
anatomic_region, labels | label | finding (`|` between several). Every further column is kept.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cbmir.datasets import Options
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError, nearest
from cbmir.store import open_filesystem

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


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """One or several tables -> rows of the manifest, further columns kept; tables may differ in those."""
    unknown = [name for name in options.columns if name not in SYNONYMS]
    if unknown:
        hint = nearest(unknown[0], list(SYNONYMS)) or f"expected one of: {', '.join(SYNONYMS)}"
        raise UserError(f"--column {unknown[0]}=...: not a column of the manifest; {hint}")
    tables = [_read_one(root, options) for root in roots]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise UserError(
            f"the tables {', '.join(roots)} cannot be one ({_line(error)}); expected the same kind of values in columns "
            "of the same name; correct a table, or rename its column"
        ) from None


def _read_one(root: str, options: Options) -> pa.Table:
    raw = _parse(root, options)
    names = _names(raw.column_names, root, options)
    dataset = options.constants.get("dataset") or posixpath.basename(root).split(".")[0]
    columns = {"uri": _uris(raw[names["path"]], root)}
    for name in ("dataset", "split", "patient_id", "study_id", "modality", "region", "volume_id"):
        if name in names:
            columns[name] = raw[names[name]].cast(pa.string())
    if "dataset" not in columns:
        columns["dataset"] = pa.array([dataset] * raw.num_rows, pa.string())
    for name in ("labels", "unknown_labels"):
        if name in names:
            columns[name] = _split_labels(raw[names[name]])
    if "slice" in names:
        columns["slice"] = _slices(raw[names["slice"]], root)
    columns["image_id"] = _image_ids(raw, names, columns["dataset"])
    used = set(names.values())
    for name in raw.column_names:
        if name not in used:  # kept, beside a column that was mapped to the same name
            columns[f"their_{name}" if name in columns or name in SYNONYMS else name] = raw[name]
    return pa.table(columns)


def _parse(root: str, options: Options) -> pa.Table:
    """The table with pyarrow's guess of each column's type, ids and the manifest's own columns always as text."""
    fs, path = open_filesystem(root)
    parse = pacsv.ParseOptions(newlines_in_values=True)
    text_names = {n for names in SYNONYMS.values() for n in names if n != "slice"} | set(options.columns.values())
    try:
        with (
            fs.open_input_stream(path, compression="detect") as stream,
            pacsv.open_csv(stream, parse_options=parse) as t,
        ):
            header = t.schema.names
        text = {name: pa.string() for name in header if name.strip() in text_names or name.strip().lower() in text_names
                or name.strip().lower().endswith("id")}  # fmt: skip
        convert = pacsv.ConvertOptions(
            column_types=text, strings_can_be_null=True, null_values=["", "NA", "NaN", "nan"]
        )
        with fs.open_input_stream(path, compression="detect") as stream:
            table = pacsv.read_csv(stream, convert_options=convert, parse_options=parse)
            return table.rename_columns([name.strip() for name in table.column_names])
    except FileNotFoundError:
        raise UserError(
            f"no table at {root}; expected a CSV file with a header and one row an image; check ROOT"
        ) from None
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"{root} is not a CSV that can be read ({_line(error)}); expected a header and one row an image"
        ) from None


def _line(error: Exception) -> str:
    """The parser's complaint without the row's content, which may be a patient's."""
    return re.sub(r"(got \d+):.*", r"\1", " ".join(str(error).split()))[:200]


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


def _uris(paths: pa.ChunkedArray, root: str) -> pa.Array:
    """Paths of a table at `root` -> addresses: absolute ones as they are, relative ones from the table's directory."""
    if paths.null_count:
        row = pc.index(pc.is_null(paths), True).as_py() + 2
        raise UserError(f"{root} line {row}: the path is blank; expected a path to an image in every row")
    if "://" in root:
        table = urlsplit(root)
        above = table.path.rpartition("/")[0]
        whole = [p if "://" in p else urlunsplit(table._replace(path=f"{above}/{quote(p)}")) for p in paths.to_pylist()]
    else:
        above = posixpath.dirname(open_filesystem(root)[1])
        whole = [
            p if p.startswith("/") or "://" in p else posixpath.normpath(f"{above}/{p}") for p in paths.to_pylist()
        ]
    return pa.array(whole, pa.string())


def _split_labels(column: pa.ChunkedArray) -> pa.Array:
    """'Effusion|Nodule' -> ['Effusion', 'Nodule']; blank -> []; a label stands once."""
    rows = []
    for text in column.cast(pa.string()).to_pylist():
        rows.append(list(dict.fromkeys(part.strip() for part in (text or "").split("|") if part.strip())))
    return pa.array(rows, pa.list_(pa.string()))


def _slices(column: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.int32())
    except pa.ArrowInvalid as error:
        raise UserError(f"{root}: a slice is no whole number ({_line(error)}); expected 0, 1, 2 ... or blank") from None


def _image_ids(raw: pa.Table, names: dict[str, str], datasets: pa.Array | pa.ChunkedArray) -> pa.Array:
    if "image_id" in names:
        ids = raw[names["image_id"]].cast(pa.string())
        if ids.null_count == 0:
            return ids
        raise UserError(
            f"column {names['image_id']} is blank in {ids.null_count:,} rows; expected an id in each, or no such column"
        )
    paths = raw[names["path"]].to_pylist()
    return pa.array(
        [f"{d}/{p}" for d, p in zip(pc.fill_null(datasets, "").to_pylist(), paths, strict=True)], pa.string()
    )
