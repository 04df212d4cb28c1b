"""Parquet files without the rows of some images. A file that holds none of them is left as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cbmir.removing.names import Names
from cbmir.schemas import MANIFEST, block_name
from cbmir.store import Study

_NAMED_BY_KEYS = re.compile(r"[0-9a-f]{24}\.parquet")  # `block_name`, perhaps with the keys of failures beside it
_AT_ONCE = 8  # files: an object store answers each after a while


def each_file(paths: Iterable[str], call: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """(path, call(path)) in their order, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        paths = list(paths)
        yield from zip(paths, pool.map(call, paths), strict=True)


def rows_with(study: Study, paths: Iterable[str], keys: pa.Array, *, column: str = "image_key") -> dict[str, int]:
    """Files -> how many of their rows have one of the keys; those that have none are left out."""

    def count(path: str) -> int:
        with pq.ParquetFile(path, filesystem=study.fs) as file:
            batches = file.iter_batches(columns=[column])
            return sum(pc.sum(pc.is_in(batch.column(0), keys)).as_py() or 0 for batch in batches)

    return {path: rows for path, rows in each_file(paths, count) if rows}


def remove_rows(study: Study, parts: tuple[str, ...], keys: pa.Array) -> int:
    """Drop the rows of `keys` (image_key) from the files of one dataset -> how many they were."""
    found = rows_with(study, study.files(*parts), keys)
    for path in found:
        rewrite(study, parts, path, lambda rows: rows.filter(pc.invert(pc.is_in(rows["image_key"], keys))))
    return sum(found.values())


def remove_remarks(study: Study, parts: tuple[str, ...], names: Names) -> int:
    """Drop the rows whose file or text names one of the images -> how many they were."""

    def keeps(rows: pa.Table) -> pa.Array:
        texts = zip(rows["file"].to_pylist(), rows["detail"].to_pylist(), strict=True)
        return pa.array([not any(text and names.first_in(text) for text in pair) for pair in texts], pa.bool_())

    dropped = 0
    for path in study.files(*parts):
        kept = keeps(pq.read_table(path, filesystem=study.fs, columns=["file", "detail"]))
        if kept.false_count:
            rewrite(study, parts, path, lambda rows: rows.filter(keeps(rows)))
            dropped += kept.false_count
    return dropped


def blank_names(study: Study, parts: tuple[str, ...], names: pa.Array) -> None:
    """Null in place of a name in a column of the source's own: images that stay may refer to one that goes ('prior_image')."""

    def blanked(rows: pa.Table) -> pa.Table:
        for i, field in enumerate(rows.schema):
            if pa.types.is_string(field.type) and field.name not in MANIFEST.names:
                rows = rows.set_column(i, field, pc.if_else(pc.is_in(rows[field.name], names), None, rows[field.name]))
        return rows

    for path in study.files(*parts):
        rows = pq.read_table(path, filesystem=study.fs)
        if not blanked(rows).equals(rows):
            rewrite(study, parts, path, blanked)


def rewrite(study: Study, parts: tuple[str, ...], path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """One file with each row group as `change` makes it, in its own layout: row groups, compression, dictionaries.

    Holds what is kept of one file as its bytes, and one row group. A file that is named by its keys gets the name of those that are left, which
    appears before the old one goes: a kill in between leaves rows twice and the same call mends it. A file of images without rows is deleted.
    """
    old = path.rsplit("/", 1)[1]
    sink = pa.BufferOutputStream()
    kept_keys = []
    with pq.ParquetFile(path, filesystem=study.fs) as file:
        has_keys = "image_key" in file.schema_arrow.names
        with pq.ParquetWriter(sink, file.schema_arrow, **_layout(file.metadata)) as writer:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                kept = change(rows)
                if kept.num_rows:
                    writer.write_table(kept, row_group_size=kept.num_rows)
                if has_keys:
                    kept_keys.append(kept["image_key"])
    left = not has_keys or any(len(keys) for keys in kept_keys)
    new = block_name(_joined(kept_keys)) if left and _NAMED_BY_KEYS.fullmatch(old) else old
    if left:
        study.write_bytes(sink.getvalue(), *parts, new)
    if not left or new != old:
        study.delete(*parts, old)


def _joined(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.int64())


def _layout(metadata: pq.FileMetaData) -> dict[str, Any]:
    """How a file was written, as ParquetWriter takes it."""
    if metadata.num_row_groups == 0:
        return {}
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    names = {"UNCOMPRESSED": "none"}
    return {
        "compression": names.get(columns[0].compression, columns[0].compression.lower()),
        "use_dictionary": any(column.has_dictionary_page for column in columns),
    }
