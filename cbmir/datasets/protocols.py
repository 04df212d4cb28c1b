"""Published selections of rows, as predicates over the manifest."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Protocol
from cbmir.errors import UserError
from cbmir.schemas import MANIFEST
from cbmir.select import filtered

_LABELS = MANIFEST.field("labels").type


def selected(rows: pa.Table, chosen: Protocol, notes: list[str], name: str) -> pa.Table:
    """The rows that a protocol keeps; labels that it does not count move to the column `other_labels`."""
    if chosen.labels is not None:
        counted = pa.array(chosen.labels, pa.string())
        others = _filtered_labels(rows["labels"], counted, keep=False)
        for column in ("labels", "unknown_labels"):
            rows = _put(rows, column, _filtered_labels(rows[column], counted, keep=True))
        rows = _put(rows, "other_labels", others)
    kept = filtered(rows, chosen.predicate)
    notes.append(
        f"protocol {name}: {kept.num_rows:,} of {rows.num_rows:,} rows, where {' '.join(chosen.predicate.split())}"
    )
    if kept.num_rows == 0:
        raise UserError(f"--protocol {name} keeps none of {rows.num_rows:,} rows; expected some; check the label files")
    return kept


def _filtered_labels(column: pa.ChunkedArray, counted: pa.Array, *, keep: bool) -> pa.ListArray:
    lists = column.combine_chunks()
    values = lists.flatten()
    wanted = pc.is_in(values, counted)
    return _kept_values(lists, values, wanted if keep else pc.invert(wanted))


def _kept_values(lists: pa.ListArray, values: pa.Array, wanted: pa.Array) -> pa.ListArray:
    """Lists without the values that are not wanted; a list may become empty, none goes."""
    before = pc.cumulative_sum(wanted.cast(pa.int32()))
    ends = pc.cumulative_sum(pc.list_value_length(lists)).cast(pa.int32())
    running = pa.concat_arrays([pa.array([0], pa.int32()), before.cast(pa.int32())])
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), running.take(ends)])
    return pa.ListArray.from_arrays(offsets, values.filter(wanted)).cast(_LABELS)


def _put(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, column)
    return rows.append_column(name, column)
