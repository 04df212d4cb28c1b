"""From the values of queries in DuckDB to intervals: resampling is a matrix product, which SQL is no place for."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from cbmir.statistics.bootstrap import Resamples
from cbmir.statistics.figures import Figures

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
    columns = connection.execute(
        "SELECT DISTINCT metric, k FROM query_values ORDER BY metric, k NULLS FIRST"
    ).fetchall()
    values = np.zeros((len(keys), len(columns)))
    for at, (metric, k) in enumerate(columns):
        rows = connection.sql(
            "SELECT query_key, value FROM query_values WHERE metric = $metric AND k IS NOT DISTINCT FROM $k",
            params={"metric": metric, "k": k},
        ).to_arrow_table()
        values[np.searchsorted(keys, rows["query_key"].to_numpy()), at] = rows["value"].to_numpy()
    names, figures = figures_of(connection, keys)
    low, high = resamples.intervals(values, figures)
    table = []
    for at, (metric, k) in enumerate(columns):
        constant = {"metric": pa.array([metric] * len(names), pa.string()), "k": pa.array([k] * len(names), pa.int32())}
        bounds = {"ci_low": pa.array(low[:, at], from_pandas=True), "ci_high": pa.array(high[:, at], from_pandas=True)}
        ours = {name: names[name] for name in ("slice_by", "slice", "average")}
        table.append(pa.table(constant | ours | bounds).select(_INTERVALS.names).cast(_INTERVALS))
    return pa.concat_tables(table) if table else _INTERVALS.empty_table()


def figures_of(connection: duckdb.DuckDBPyConnection, keys: np.ndarray) -> tuple[pa.Table, Figures]:
    """Table cells -> (figures by number: slice_by, slice, average), and which of the queries `keys` (n,) ascending make each."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE figure_names AS SELECT row_number() OVER (ORDER BY slice_by, slice, average) - 1 AS figure, * "
        "FROM (SELECT DISTINCT slice_by, slice, average FROM cells)"
    )
    rows = connection.sql(
        "SELECT figure, (hash(class) >> 1)::BIGINT AS cell, query_key FROM cells JOIN figure_names USING (slice_by, slice, average)"
    ).to_arrow_table()
    positions = np.searchsorted(keys, rows["query_key"].to_numpy())
    names = connection.sql("SELECT slice_by, slice, average FROM figure_names ORDER BY figure").to_arrow_table()
    return names, Figures(rows["figure"].to_numpy(), rows["cell"].to_numpy(), positions)
