"""The values of one search's queries -> an interval for each of its figures."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from cbmir.evaluating.values import columns_of, figures_of, value_matrix
from cbmir.statistics.bootstrap import Resamples

_INTERVALS = pa.schema(
    [("metric", pa.string()), ("k", pa.int32()), ("slice_by", pa.string()), ("slice", pa.string()), ("average", pa.string()),
     ("ci_low", pa.float64()), ("ci_high", pa.float64())]
)  # fmt: skip


def interval_table(connection: duckdb.DuckDBPyConnection, resamples: Resamples | None, *, keys: np.ndarray) -> pa.Table:
    """Tables query_values and cells -> (metric, k, slice_by, slice, average, ci_low, ci_high), NULL where no interval can be given.

    keys  (n,) ascending keys of the queries that `resamples` counts the patients of; those that are not judged are in no cell
    """
    if resamples is None:
        return _INTERVALS.empty_table()
    columns = columns_of(connection, "query_values")
    names, figures = figures_of(connection, keys)
    low, high = resamples.intervals(value_matrix(connection, "query_values", keys, columns), figures)
    tables = [_INTERVALS.empty_table()]
    for at, (metric, k) in enumerate(columns):
        constant = {"metric": pa.array([metric] * len(names), pa.string()), "k": pa.array([k] * len(names), pa.int32())}
        bounds = {"ci_low": pa.array(low[:, at], from_pandas=True), "ci_high": pa.array(high[:, at], from_pandas=True)}
        ours = {name: names[name] for name in ("slice_by", "slice", "average")}
        tables.append(pa.table(constant | ours | bounds).select(_INTERVALS.names).cast(_INTERVALS))
    return pa.concat_tables(tables)
