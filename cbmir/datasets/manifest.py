"""Rows of a source -> the study's manifest."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, reader
from cbmir.errors import UserError
from cbmir.schemas import MANIFEST, check, image_key
from cbmir.store import Study, run_record

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_TRAIN, _VAL = 0.7, 0.8  # cumulative shares of a drawn split: 70 % train, 10 % val, 20 % test


def write_manifest(
    study: Study, source: str, roots: list[str], options: Options, *, overwrite: bool = False
) -> tuple[dict, bool]:
    """Read `source` at `roots` and publish the study's manifest -> (its run.json, whether it was written now).

    A study that already has the same manifest is left alone; one that has another is refused unless `overwrite`.
    """
    table, notes = build(reader(source)(roots, options), options)
    parameters = {"source": source, "columns": options.columns, "constants": options.constants, "notes": notes}
    run = run_record("manifest", parameters=parameters, inputs={"content": content_hash(table)}, rows=table.num_rows)
    before = study.run_of("manifest")
    if before and before["inputs"] == run["inputs"]:
        return before, False
    if before and not overwrite:
        raise UserError(
            f"the study {study.address} has another manifest ({before['rows']:,} images from "
            f"'{before['parameters']['source']}'); found {table.num_rows:,} images that differ from it; "
            "use another --study, or --overwrite to replace it"
        )
    _refuse_moved(study, table)
    with study.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run
    return run, True


def _refuse_moved(study: Study, table: pa.Table) -> None:
    """A vector is known by its image's id alone: an id that now names another file would keep the old file's vector."""
    if not study.exists("manifest") or not study.names("embeddings"):
        return
    before = (
        study.dataset("manifest").to_table(columns=["image_key", "uri"]).rename_columns(["image_key", "uri_before"])
    )
    both = table.select(["image_key", "image_id", "uri"]).join(before, "image_key", join_type="inner")
    moved = both.filter(pc.not_equal(both["uri"], both["uri_before"]))
    if moved.num_rows:
        raise UserError(
            f"{moved.num_rows:,} images keep their id but lie elsewhere now, first '{moved['image_id'][0].as_py()}'; the study's "
            "vectors were made from the files before; use another --study, or delete its embeddings and failures first"
        )


def build(rows: pa.Table, options: Options) -> tuple[pa.Table, list[str]]:
    """A source's rows -> (manifest that keeps its contract, notes on what was filled in).

    `rows` has at least image_id and uri; constants overwrite columns; missing modality and region become 'unknown',
    a missing split is drawn by patient (by image where there is none), a label without slashes gets modality/region/.
    """
    notes: list[str] = []
    if rows.num_rows == 0:
        raise UserError("the source holds no image; expected at least one; check ROOT")
    for name, value in options.constants.items():
        if name not in MANIFEST.names or name in ("image_id", "image_key", "uri", "slice"):
            raise UserError(
                f"--set {name}=...: not a column that can be set; expected dataset, split, modality, region ..."
            )
        kind = pa.list_(pa.string()) if "labels" in name else pa.string()
        constant = value.split("|") if "labels" in name else value
        rows = _put(rows, name, pa.array([constant] * rows.num_rows, kind))
    rows = _put(rows, "modality", pc.utf8_upper(_text(rows, "modality", "unknown")))
    rows = _put(rows, "modality", pc.replace_substring(rows["modality"], "UNKNOWN", "unknown"))
    rows = _put(rows, "region", pc.utf8_lower(_text(rows, "region", "unknown")))
    for name in ("patient_id", "study_id", "volume_id"):
        rows = _put(rows, name, _text(rows, name, None))
    rows = _put(rows, "split", _split(rows, options.seed, notes))
    for name in ("labels", "unknown_labels"):
        rows = _put(rows, name, _qualified(rows, name))
    if "slice" not in rows.column_names:
        rows = _put(rows, "slice", pa.nulls(rows.num_rows, pa.int32()))
    _refuse_duplicates(rows)
    rows = _put(rows, "image_key", pa.array(map(image_key, rows["image_id"].to_pylist()), pa.int64()))
    return check(_ordered(rows), "manifest"), notes


def content_hash(table: pa.Table) -> str:
    """SHA-256 of a table's values, whatever its chunks."""

    class Sink:
        closed = False

        def __init__(self) -> None:
            self.digest = hashlib.sha256()

        def write(self, data: bytes) -> int:
            self.digest.update(data)
            return len(data)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    sink = Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.digest.hexdigest()


def _put(rows: pa.Table, name: str, column: pa.ChunkedArray | pa.Array) -> pa.Table:
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, column)
    return rows.append_column(name, column)


def _text(rows: pa.Table, name: str, default: str | None) -> pa.ChunkedArray | pa.Array:
    """Column `name` as trimmed text, blank and missing values as `default`."""
    if name not in rows.column_names:
        return pa.array([default] * rows.num_rows, pa.string())
    text = pc.utf8_trim_whitespace(pc.cast(rows[name], pa.string()))
    text = pc.if_else(pc.equal(text, ""), None, text)
    return text if default is None else pc.fill_null(text, default)


def _split(rows: pa.Table, seed: int, notes: list[str]) -> pa.Array:
    given = pc.utf8_lower(_text(rows, "split", None))
    if given.null_count == rows.num_rows:
        groups, by = _text(rows, "patient_id", None), "patient"
        if groups.null_count:
            by = "image" if groups.null_count == rows.num_rows else "patient (by image where it has none)"
            groups = pc.coalesce(groups, rows["image_id"])
        notes.append(f"split drawn by {by} with seed {seed}: the source has none")
        return pa.array([_draw_split(group, seed) for group in groups.to_pylist()], pa.string())
    values = given.to_pylist()
    strange = sorted({value or "" for value in set(values) - set(SPLITS)})
    if strange:
        raise UserError(f"column split holds {repr(strange[0]) if strange[0] else 'a blank'}; expected train, val or test in every row; correct the table, "
                        "or leave the column out and a split is drawn by patient")  # fmt: skip
    return pa.array([SPLITS[value] for value in values], pa.string())


def _draw_split(group: str, seed: int) -> str:
    digest = hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "train" if share < _TRAIN else "val" if share < _VAL else "test"


def _qualified(rows: pa.Table, name: str) -> pa.ListArray:
    """Labels as MODALITY/region/finding: those without a slash get their row's modality and region."""
    kind = pa.list_(pa.field("element", pa.string()))
    if name not in rows.column_names:
        return pa.array([[]] * rows.num_rows, kind)
    column = pc.fill_null(rows[name].combine_chunks().cast(pa.list_(pa.string())), [])
    values, parents = column.flatten(), pc.list_parent_indices(column)
    prefix = pc.binary_join_element_wise(rows["modality"], rows["region"], "", "/").combine_chunks()
    bare = pc.invert(pc.match_substring(values, "/"))
    values = pc.if_else(bare, pc.binary_join_element_wise(prefix.take(parents), values, ""), values)
    sizes = pc.list_value_length(column)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values).cast(kind)


def _refuse_duplicates(rows: pa.Table) -> None:
    counts = pc.value_counts(rows["image_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        first = twice[0]["values"].as_py()
        raise UserError(
            f"{len(twice):,} image ids stand more than once, first '{first}' ({twice[0]['counts'].as_py()} rows); "
            "expected one row an image; remove the duplicates, or give a column of unique ids with --column image_id=NAME"
        )


def _ordered(rows: pa.Table) -> pa.Table:
    """Contract columns first and with their types and comments, then the source's further columns."""
    contract = rows.select(MANIFEST.names).cast(MANIFEST)
    keys = contract["image_key"]
    if len(pc.unique(keys)) != len(keys):
        raise UserError("two image ids have the same 63-bit key; rename one of them")
    for name in rows.column_names:
        if name not in MANIFEST.names:
            contract = contract.append_column(rows.schema.field(name), rows[name])
    return contract
