"""SQL predicates over the manifest, and what is still to do.

DuckDB answers both; nothing here holds a whole manifest as Python objects.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from cbmir.errors import UserError, nearest
from cbmir.store import Study, path_name


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB without progress bar; what does not fit in memory goes to the system's temporary directory."""
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    connection.execute(
        f"SET temp_directory = '{tempfile.gettempdir()}/cbmir-duckdb-{os.getpid()}'"
    )  # its default is ./.tmp
    return connection


def attach_manifest(connection: duckdb.DuckDBPyConnection, study: Study) -> None:
    """View `manifest` over the study's manifest; needs a finished one."""
    study.require("manifest")
    attach(connection, "manifest", study, study.files("manifest"))


def attach(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    study: Study,
    files: list[str],
    *,
    columns: list[str] | None = None,
) -> None:
    """View `view` over Parquet files of a study: DuckDB's own reader locally, pyarrow's on object stores.

    `columns` limits what an object store is asked for, and leaves out types that DuckDB cannot take from Arrow (float16).
    """
    if study.is_local:
        connection.read_parquet(files, hive_partitioning=False).create_view(view, replace=True)
        return
    remote = pads.dataset(files, filesystem=study.fs, format="parquet")
    readable = [field.name for field in remote.schema if "halffloat" not in str(field.type)]
    if columns is None and len(readable) < len(remote.schema.names):
        columns = readable
    connection.register(view, remote.to_table(columns=columns) if columns else remote)


def keys_where(study: Study, predicate: str, *, role: str) -> pa.Table:
    """Rows of the manifest that satisfy `predicate` -> table(image_key int64), ascending.

    Raises UserError for a predicate that DuckDB does not accept or that selects nothing; `role` names it there.
    """
    connection = connect()
    attach_manifest(connection, study)
    rows = select_where(connection, predicate, "image_key", role=role)
    if rows.num_rows == 0:
        total = connection.execute("SELECT count(*) FROM manifest").fetchall()[0][0]
        splits = connection.execute("SELECT DISTINCT split FROM manifest ORDER BY 1").fetchall()
        raise UserError(
            f"the {role} is empty: {predicate} selects none of the manifest's {total:,} images; "
            f'splits there: {", ".join(row[0] for row in splits)}; choose with --{role} "SQL predicate"'
        )
    return rows


def select_where(connection: duckdb.DuckDBPyConnection, predicate: str, columns: str, *, role: str) -> pa.Table:
    """`SELECT columns FROM manifest WHERE predicate ORDER BY image_key`, with DuckDB's complaint as one line."""
    try:
        # parsed by itself: pasted into a query, "true) UNION SELECT 5 WHERE (true" would select what is not there
        one = duckdb.SQLExpression(predicate.strip().rstrip(";"))
        return connection.view("manifest").filter(one).order("image_key").project(columns).to_arrow_table()
    except duckdb.Error as error:
        raise UserError(explain(error, predicate, connection, role=role)) from None


def filtered(table: pa.Table, predicate: str) -> pa.Table:
    """Rows of a table in memory that satisfy a predicate of cbmir's own, in their order."""
    connection = connect()
    numbered = table.append_column("_position", pa.array(np.arange(table.num_rows)))
    kept = connection.from_arrow(numbered).filter(duckdb.SQLExpression(predicate)).project("_position")
    return table.take(pa.array(np.sort(kept.to_arrow_table()["_position"].to_numpy())))


def explain(error: duckdb.Error, predicate: str, connection: duckdb.DuckDBPyConnection, *, role: str) -> str:
    """DuckDB's message about a predicate -> one line: what was found, what there is, what to do."""
    columns = [row[0] for row in connection.execute("DESCRIBE manifest").fetchall()]
    missing = re.search(r'column "?([^"\s]+)"? not found', str(error))
    if missing:
        near = nearest(missing.group(1), columns)
        hint = f"{near}; " if near else ""
        return f"--{role} {predicate!r}: no column '{missing.group(1)}' in the manifest; {hint}columns: {', '.join(columns)}"
    first = " ".join(str(error).split("\n\n")[0].split())
    return f"--{role} {predicate!r} is not a SQL predicate over the manifest: {first}; example: \"split = 'train'\""


def to_do(study: Study, encoders: list[str], *, rows: int) -> Iterator[pa.RecordBatch]:
    """What is still to embed -> batches(image_key int64, uri text, need int64).

    Bit i of `need` is set where encoder i has neither an embedding nor a failure for the image: the anti-join of the
    manifest against what is written is the only memory that a restart needs.
    """
    connection = connect()
    attach_manifest(connection, study)
    needs, joins = [], []
    for i, encoder in enumerate(encoders):
        attach_done(connection, f"done_{i}", study, encoder)
        needs.append(f"CASE WHEN done_{i}.image_key IS NULL THEN {1 << i} ELSE 0 END")
        joins.append(f"LEFT JOIN (SELECT DISTINCT image_key FROM done_{i}) AS done_{i} USING (image_key)")
    query = f"SELECT image_key, uri, ({' + '.join(needs)})::BIGINT AS need FROM manifest {' '.join(joins)}"
    yield from connection.sql(f"SELECT * FROM ({query}) WHERE need > 0").to_arrow_reader(rows)


def attach_done(connection: duckdb.DuckDBPyConnection, view: str, study: Study, encoder: str) -> None:
    """View `view`(image_key, failed) of every image that `encoder` has an embedding or a failure for."""
    parts = []
    for dataset, failed in (("embeddings", "false"), ("failures", "true")):
        files = study.files(dataset, f"encoder={path_name(encoder)}")
        if files:
            attach(connection, f"{view}_{dataset}", study, files, columns=["image_key"])
            parts.append(f"SELECT image_key, {failed} AS failed FROM {view}_{dataset}")
    empty = "SELECT 0::BIGINT AS image_key, false AS failed WHERE false"
    connection.execute(f"CREATE OR REPLACE VIEW {view} AS {' UNION ALL '.join(parts) or empty}")
