"""Rankings that a test makes up, laid out as a search's: manifest rows and neighbors go in, a DuckDB connection with staged tables comes out."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from cbmir.evaluating.options import SLICES
from cbmir.evaluating.staging import attach_slices, lay_out, stage, stage_all
from cbmir.schemas import image_key
from cbmir.select import connect
from cbmir.sql_files import bind, create, read

_MANIFEST = {"dataset": "hand", "modality": "XR", "region": "chest", "labels": (), "patient_id": None, "embedded": True}


def laid_out(
    rows: list[dict],
    neighbors: dict[str, Sequence[str]],
    *,
    relevance: str = "label",
    exclusions: Sequence[tuple[str, int]] = (),
) -> duckdb.DuckDBPyConnection:
    """rows: image_id, split (train: gallery, test: queries) and any manifest columns; neighbors: query -> gallery images, nearest first.

    exclusions: (image_id, code): images with one code exclude each other. relevance '': for metrics that ask for none.
    """
    connection = connect()
    full = [_MANIFEST | row | {"image_key": image_key(row["image_id"])} for row in rows]
    table = pa.table(
        {name: [list(row[name]) if name == "labels" else row[name] for row in full] for name in full[0]},
    )
    labels = pa.array([list(row["labels"]) for row in full], pa.list_(pa.string()))
    table = table.set_column(table.column_names.index("labels"), "labels", labels)
    patients = pa.array([row["patient_id"] for row in full], pa.string())
    connection.register("manifest", table.set_column(table.column_names.index("patient_id"), "patient_id", patients))
    connection.execute("CREATE TEMP TABLE embedded AS SELECT image_key FROM manifest WHERE embedded")
    connection.execute("CREATE TEMP TABLE query_keys AS SELECT image_key FROM manifest WHERE split = 'test'")
    connection.execute("CREATE TEMP TABLE gallery_keys AS SELECT image_key FROM manifest WHERE split = 'train'")
    add_neighbors(connection, "neighbors", neighbors)
    codes = {"image_key": [image_key(name) for name, _ in exclusions], "code": [code for _, code in exclusions]}
    connection.register("codes", pa.table(codes, schema=pa.schema([("image_key", pa.int64()), ("code", pa.int64())])))
    connection.execute("CREATE TEMP TABLE exclusions AS SELECT image_key, 0::BIGINT AS exclusion, code FROM codes")
    attach_slices(connection, SLICES)
    create(connection, "patients", "staging", "patients")
    lay_out(connection)
    if relevance:
        stage(connection, relevance)
    else:
        stage_all(connection)
    return connection


def add_neighbors(connection: duckdb.DuckDBPyConnection, table: str, neighbors: dict[str, Sequence[str]]) -> None:
    """Table of query_key, neighbor_key, rank from 1, distance."""
    rows = [
        (image_key(q), image_key(n), rank, rank / 100)
        for q, near in neighbors.items()
        for rank, n in enumerate(near, 1)
    ]
    names = ("query_key", "neighbor_key", "rank", "distance")
    kinds = (pa.int64(), pa.int64(), pa.int16(), pa.float32())
    columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
    connection.register(f"made_up_{table}", pa.table(columns, names=names))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS FROM made_up_{table}")


def values(
    connection: duckdb.DuckDBPyConnection, kind: str, metric: str, *, k: int | None = None, depth: int = 100
) -> dict[int, float]:
    """sql/<kind>/<metric>.sql -> query key -> value."""
    text = read(kind, metric)
    return dict(connection.execute(text, bind(text, {"k": k, "depth": depth})).fetchall())
