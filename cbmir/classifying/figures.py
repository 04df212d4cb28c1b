"""Scores of labels -> accuracy, F1, precision, recall and ROC AUC, by the statements under sql/classification alone."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from cbmir.schemas import CLASSIFICATION
from cbmir.select import attach_done, attach_manifest, connect, select_where
from cbmir.sql_files import create
from cbmir.sql_files import read as statement
from cbmir.store import Study

KIND = "classification"


def judging(
    study: Study, encoder: str, *, gallery: str, queries: str, split: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection with view manifest and tables judged, labels, carriers, truths: the queries (of `split`, if given) of one encoder."""
    connection = connect()
    attach_manifest(connection, study)
    attach_done(connection, "done", study, encoder)
    connection.execute("CREATE TEMP TABLE embedded AS SELECT image_key FROM done WHERE NOT failed")
    connection.register("gallery_keys", select_where(connection, gallery, "image_key", role="gallery"))
    connection.register("asked", select_where(connection, queries, "image_key, split", role="queries"))
    connection.execute(
        "CREATE TEMP TABLE query_keys AS SELECT image_key FROM asked WHERE split = coalesce($split, split)",
        {"split": split},
    )
    for table in ("judged", "labels", "carriers", "truths"):
        create(connection, table, KIND, table)
    return connection


def figures_of_scores(
    connection: duckdb.DuckDBPyConnection, *, k: int, rates: tuple[str, str] = (KIND, "rates")
) -> list[dict[str, Any]]:
    """Table scores(query_key, code, score, turn) -> the figures; `k` stands in each row."""
    create(connection, "predicted", KIND, "predicted")
    create(connection, "score_counts", KIND, "score_counts", k=k)
    create(connection, "outcomes", KIND, "outcomes", k=k)
    return figures(connection, rates=rates)


def figures(connection: duckdb.DuckDBPyConnection, *, rates: tuple[str, str] = (KIND, "rates")) -> list[dict[str, Any]]:
    """Tables outcomes, score_counts, labels, judged -> rows of k, metric, average, value, n_labels, ordered; none where nothing was judged.

    rates: the statement (kind and name) of all figures but the area under the ROC curve.
    """
    if size(connection)["n_queries"] == 0:
        return []
    text = f"({statement(*rates)}) UNION ALL ({statement(KIND, 'roc_auc')}) ORDER BY k, metric, average"
    return connection.sql(text).to_arrow_table().to_pylist()


def size(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many queries are judged, and how many of them were not embedded."""
    row = connection.execute("SELECT count(*), count(*) FILTER (WHERE NOT embedded) FROM judged").fetchall()[0]
    return {"n_queries": row[0], "n_failed": row[1]}


def classification_rows(rows: list[dict[str, Any]], **constant: Any) -> pa.Table:
    """Figures, and what is the same in all of them -> rows of the contract."""
    return pa.Table.from_pylist([row | constant for row in rows], schema=CLASSIFICATION)
