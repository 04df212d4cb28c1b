"""Values of queries and what figures they make, taken out of DuckDB as arrays: resampling is a matrix product, which SQL is no place for."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from cbmir.statistics.figures import Figures

Column = tuple[str, int | None]  # a metric, and the k that it was asked at


def columns_of(connection: duckdb.DuckDBPyConnection, view: str) -> list[Column]:
    """The metrics and k of a view (query_key, metric, k, value, ...), in their order."""
    return connection.table(view).project("metric, k").distinct().order("metric, k NULLS FIRST").fetchall()


def value_matrix(
    connection: duckdb.DuckDBPyConnection, table: str, keys: np.ndarray, columns: Sequence[Column]
) -> np.ndarray:
    """Values (n, m) float64 of the queries `keys` (n,) ascending; 0 for one that is not judged, which is in no cell."""
    values = np.zeros((len(keys), len(columns)))
    for at, (metric, k) in enumerate(columns):
        same_k = (
            duckdb.ColumnExpression("k").isnull()
            if k is None
            else duckdb.ColumnExpression("k") == duckdb.ConstantExpression(k)
        )
        chosen = (duckdb.ColumnExpression("metric") == duckdb.ConstantExpression(metric)) & same_k
        rows = connection.table(table).filter(chosen).project("query_key, value").to_arrow_table()
        values[np.searchsorted(keys, rows["query_key"].to_numpy()), at] = rows["value"].to_numpy()
    return values


def figures_of(
    connection: duckdb.DuckDBPyConnection, keys: np.ndarray, *, slices: Sequence[str] | None = None
) -> tuple[pa.Table, Figures]:
    """Table cells -> (the figures in their order: slice_by, slice, average), and which of the queries `keys` (n,) ascending make each.

    slices: values of slice_by that are wanted; None: all.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE figure_names AS SELECT row_number() OVER (ORDER BY slice_by, slice, average) - 1 AS figure, * "
        "FROM (SELECT DISTINCT slice_by, slice, average FROM cells WHERE $slices IS NULL OR list_contains($slices, slice_by))",
        {"slices": None if slices is None else list(slices)},
    )
    rows = connection.sql(
        "SELECT figure, (hash(class) >> 1)::BIGINT AS cell, query_key FROM cells JOIN figure_names USING (slice_by, slice, average)"
    ).to_arrow_table()
    positions = np.searchsorted(keys, rows["query_key"].to_numpy())
    names = connection.sql("SELECT slice_by, slice, average FROM figure_names ORDER BY figure").to_arrow_table()
    return names, Figures(rows["figure"].to_numpy(), rows["cell"].to_numpy(), positions)
