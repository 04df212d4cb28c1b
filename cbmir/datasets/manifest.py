"""Rows of a source -> the study's manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import SOURCES, Options, protocol, reader, refuse_what_has_no_meaning
from cbmir.datasets.deidentify import deidentified, salt_of
from cbmir.datasets.label_order import label_order, with_label_order
from cbmir.datasets.presence import present
from cbmir.datasets.protocols import selected
from cbmir.datasets.remarks import FILE, ROW, Remarks, remark_lines
from cbmir.datasets.splits import SPLITS, UNKNOWN, draw
from cbmir.datasets.thinning import every_nth
from cbmir.errors import UserError
from cbmir.schemas import MANIFEST, check, image_key
from cbmir.store import Study, run_record

_LABELS = MANIFEST.field("labels").type
_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of a split that is drawn


def write_manifest(
    study: Study, source: str, roots: list[str], options: Options, *, overwrite: bool = False
) -> tuple[dict, bool]:
    """Read `source` at `roots` and publish the study's manifest and remarks -> (its run.json, whether it was written now).

    A study that already has the same manifest is left alone; one that has another is refused unless `overwrite`.
    """
    study.refuse_unfinished_removal()
    remarks = Remarks()
    table, notes = read_source(source, roots, options, remarks, salt=lambda: salt_of(study, options.salt_file))
    order, table = label_order(table), table.replace_schema_metadata()
    parameters = {"source": source, **options.said(), "notes": notes}
    inputs = {"content": content_hash(table)}
    run = run_record("manifest", parameters=parameters, inputs=inputs, rows=table.num_rows, remarks=remarks.summary())
    run |= {"label_order": order} if order else {}
    before = study.run_of("manifest")
    if before and before["inputs"] == run["inputs"]:
        return before, False
    if before and not overwrite:
        removed = before.get("removed")
        back = (
            f"; {removed:,} images were removed from it and come back where the source still has them"
            if removed
            else ""
        )
        raise UserError(
            f"the study {study.address} has another manifest ({before['rows']:,} images from "
            f"'{before['parameters']['source']}'); found {table.num_rows:,} images that differ from it; "
            f"use another --study, or --overwrite to replace it{back}"
        )
    _refuse_moved(study, table)
    with study.publishing("remarks", "manifest") as out:
        out.write_table(remarks.table(), "remarks.parquet", "remarks")
        out.run = run_record("remarks", parameters=parameters, inputs=inputs, rows=len(remarks.table()))
    with study.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run
    return run, True


def read_source(
    source: str, roots: list[str], options: Options, remarks: Remarks, *, salt: Callable[[], bytes]
) -> tuple[pa.Table, list[str]]:
    """A source's rows as a manifest, and notes; what is odd goes to `remarks`. `salt` is only asked for if ids are hashed.

    The order of its label columns, where it has them, is in the metadata of the rows' schema.
    """
    read = reader(source)
    refuse_what_has_no_meaning(source, options)
    rows = read(roots, options, remarks)
    order = label_order(rows)
    kind = SOURCES[source]
    rows, notes = build(rows, options, remarks, look_for_images=not kind.lists_files)
    if options.protocol:
        rows = selected(rows, protocol(source, options.protocol), notes, options.protocol)
    if kind.deidentifies if options.deidentify is None else options.deidentify:
        rows = deidentified(rows, salt())
        notes.append("ids of images, patients, studies and series are salted hashes")
    made = keyed(rows)
    return (with_label_order(made, order) if order else made), notes


def keyed(rows: pa.Table) -> pa.Table:
    """Rows with their image_key, checked: the manifest as it is written."""
    rows = _put(rows, "image_key", pa.array(map(image_key, rows["image_id"].to_pylist()), pa.int64()))
    return check(_ordered(rows), "manifest")


def manifest_lines(run: dict, written: bool, address: str) -> list[str]:
    """What a person is told of a manifest: its size, what was filled in and what was odd."""
    said = [f"manifest: {run['rows']:,} images in {address}{'' if written else ' (unchanged)'}"]
    said += [f"note: {note}" for note in run["parameters"]["notes"]]
    return said + [f"remark: {line}" for line in remark_lines(run, address)]


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


def build(
    rows: pa.Table, options: Options, remarks: Remarks, *, look_for_images: bool = True
) -> tuple[pa.Table, list[str]]:
    """A source's rows -> (rows with every column of the manifest but image_key, notes on what was filled in).

    `rows` has at least image_id and uri; constants overwrite columns; missing modality and region become 'unknown',
    a missing split is drawn by patient (by image where there is none), a label without slashes gets modality/region/.
    """
    notes: list[str] = []
    if rows.num_rows == 0:
        first = next((f"; {r['first']}" for r in remarks.summary()), "")
        raise UserError(f"the source holds no image; expected at least one; check ROOT{first}")
    rows = _constants(rows, options)
    rows = _put(rows, "modality", pc.utf8_upper(_text(rows, "modality", "unknown")))
    rows = _put(rows, "modality", pc.replace_substring(rows["modality"], "UNKNOWN", "unknown"))
    rows = _put(rows, "region", pc.utf8_lower(_text(rows, "region", "unknown")))
    for name in ("patient_id", "study_id", "volume_id"):
        rows = _put(rows, name, _text(rows, name, None))
    for name in ("labels", "unknown_labels"):
        rows = _put(rows, name, _qualified(rows, name))
    if "slice" not in rows.column_names:
        rows = _put(rows, "slice", pa.nulls(rows.num_rows, pa.int32()))
    rows = without_duplicates(rows, remarks)
    if options.every > 1:
        rows = every_nth(rows, options.every, notes)
    rows = _put(rows, "split", _split(rows, options.seed, notes, remarks))
    if look_for_images:
        rows = _images_there(rows, options, remarks)
    return rows.drop_columns([name for name in (FILE, ROW) if name in rows.column_names]), notes


def _constants(rows: pa.Table, options: Options) -> pa.Table:
    for name, value in options.constants.items():
        if name not in MANIFEST.names or name in ("image_id", "image_key", "uri", "slice"):
            raise UserError(
                f"--set {name}=...: not a column that can be set; expected dataset, split, modality, region ..."
            )
        kind = pa.list_(pa.string()) if "labels" in name else pa.string()
        constant = value.split("|") if "labels" in name else value
        rows = _put(rows, name, pa.array([constant] * rows.num_rows, kind))
    return rows


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


def _split(rows: pa.Table, seed: int, notes: list[str], remarks: Remarks) -> pa.Array:
    given = pc.utf8_lower(_text(rows, "split", None))
    if given.null_count == rows.num_rows:
        groups, by = _groups(rows)
        notes.append(f"split drawn by {by} with seed {seed}: the source has none")
        return draw(groups, seed, shares=_SHARES)
    names = pa.array(SPLITS, pa.string())
    found = pa.array(SPLITS.values(), pa.string()).take(pc.index_in(given, names))
    if found.null_count == rows.num_rows:
        first = given.drop_null()[0].as_py()
        raise UserError(f"column split holds {first!r}; expected train, val or test; correct the table, "
                        "or leave the column out and a split is drawn by patient")  # fmt: skip
    strange = rows.filter(pc.is_null(found))
    if strange.num_rows:
        what = pc.fill_null(given.filter(pc.is_null(found)), "blank")
        _remark(remarks, "unknown_split", strange, what)
    return pc.fill_null(found, UNKNOWN)


def _groups(rows: pa.Table) -> tuple[pa.Array | pa.ChunkedArray, str]:
    """What must stay together in a drawn split, a text a row, and its name: the patient, else the study, the volume, the image."""
    names = {"patient": "patient_id", "study": "study_id", "volume": "volume_id", "image": "image_id"}
    groups = pa.nulls(rows.num_rows, pa.string())
    by: list[str] = []
    for name, column in names.items():
        filled = pc.coalesce(groups, _text(rows, column, None))
        if filled.null_count < groups.null_count:
            by.append(name)
        groups = filled
    return groups, by[0] + (f" (by {', then '.join(by[1:])} where it has none)" if by[1:] else "")


def _remark(remarks: Remarks, kind: str, rows: pa.Table, what: pa.Array | pa.ChunkedArray | str) -> None:
    """One remark a row: 'image id: what', with the file and line where the row stands."""
    details = pc.binary_join_element_wise(rows["image_id"], what, ": ")
    where = [rows[name] if name in rows.column_names else None for name in (FILE, ROW)]
    remarks.add_rows(kind, details, files=where[0], rows=where[1])


def _images_there(rows: pa.Table, options: Options, remarks: Remarks) -> pa.Table:
    there = present(rows["uri"])
    missing = rows.filter(pc.invert(there))
    if missing.num_rows == 0:
        return rows
    if missing.num_rows == rows.num_rows and options.missing_images == "drop":
        raise UserError(
            f"--missing-images drop: none of {rows.num_rows:,} images is there, e.g. {rows['uri'][0].as_py()}; check ROOT"
        )
    _remark(remarks, "missing_image", missing, missing["uri"])
    if options.missing_images == "keep":
        return rows
    remarks.add("left_out", f"{missing.num_rows:,} rows whose image is not there (--missing-images drop)")
    return rows.filter(there)


def _qualified(rows: pa.Table, name: str) -> pa.ListArray:
    """Labels as MODALITY/region/finding: those without a slash get their row's modality and region."""
    if name not in rows.column_names:
        return pa.array([[]] * rows.num_rows, _LABELS)
    column = pc.fill_null(rows[name].combine_chunks().cast(pa.list_(pa.string())), [])
    values, parents = column.flatten(), pc.list_parent_indices(column)
    prefix = pc.binary_join_element_wise(rows["modality"], rows["region"], "", "/").combine_chunks()
    bare = pc.invert(pc.match_substring(values, "/"))
    values = pc.if_else(bare, pc.binary_join_element_wise(prefix.take(parents), values, ""), values)
    sizes = pc.list_value_length(column)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values).cast(_LABELS)


def without_duplicates(rows: pa.Table, remarks: Remarks) -> pa.Table:
    """Rows whose image id stands before them already are left out and named; UserError where that is most of them."""
    ids = rows["image_id"].combine_chunks()
    encoded = pc.dictionary_encode(ids)
    if len(encoded.dictionary) == rows.num_rows:
        return rows
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    first = np.zeros(rows.num_rows, bool)
    first[np.unique(codes, return_index=True)[1]] = True
    again = rows.filter(pa.array(~first))
    if again.num_rows > rows.num_rows // 2:
        raise UserError(
            f"{again.num_rows:,} of {rows.num_rows:,} rows have an image id that stands before them already, first "
            f"'{again['image_id'][0].as_py()}'; expected one row an image; give a column of unique ids with --column image_id=NAME"
        )
    _remark(remarks, "duplicate_id", again, again["uri"])
    return rows.filter(pa.array(first))


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
