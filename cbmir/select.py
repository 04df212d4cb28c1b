"""SQL predicates over the manifest, and what is still to do.

DuckDB answers both; nothing here holds a whole manifest as Python objects.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from cbmir.errors import UserError, nearest
from cbmir.schemas import FAILURES, PACKED
from cbmir.store import Study, path_name


class Ledger(NamedTuple):
    """The two datasets that say what became of each image: where it succeeded, and where it failed."""

    done: tuple[str, ...]
    failed: tuple[str, ...]


PACKED_LEDGER = Ledger(("packed",), ("packed_failures",))


def embedded_by(encoder: str) -> Ledger:
    directory = f"encoder={path_name(encoder)}"
    return Ledger(("embeddings", directory), ("failures", directory))


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB without progress bar; what does not fit in memory goes to the system's temporary directory."""
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    connection.execute(
        f"SET temp_directory = '{tempfile.gettempdir()}/cbmir-duckdb-{os.getpid()}'"
    )  # its default is ./.tmp
    return connection


def limit_memory(connection: duckdb.DuckDBPyConnection, most: int) -> None:
    """Let a connection take `most` bytes, or four fifths of the machine's memory where that is less; what does not fit goes to disk."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    connection.execute(f"SET memory_limit = '{min(most, there * 4 // 5) // 2**20} MiB'")
    connection.execute("SET preserve_insertion_order = false")


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
    """What is still to embed -> batches(image_key int64, uri text, need int64), encoder i being bit i of `need`."""
    connection = connect()
    attach_lacking(connection, study, [embedded_by(encoder) for encoder in encoders])
    yield from connection.sql("FROM lacking").to_arrow_reader(rows)


def to_pack(study: Study, *, rows: int) -> Iterator[pa.RecordBatch]:
    """What is still to pack -> batches(image_key int64, uri text, need int64: 1)."""
    connection = connect()
    attach_lacking(connection, study, [PACKED_LEDGER])
    yield from connection.sql("FROM lacking").to_arrow_reader(rows)


def to_do_packed(study: Study, encoders: list[str], *, rows: int) -> Iterator[pa.RecordBatch]:
    """What is still to embed of packed images -> batches(image_key, uri, need, shard, stage, error), in the order in which they lie in the shards.

    shard: file of `packed`; null, with stage and error, for an image that could not be packed. An image that is not packed is left out.
    """
    connection = connect()
    attach_lacking(connection, study, [embedded_by(encoder) for encoder in encoders])
    _attach_places(connection, study)
    failed = study.files(*PACKED_LEDGER.failed)
    if failed:
        attach(connection, "not_packed", study, failed)
    else:
        connection.register("not_packed", FAILURES.empty_table())
    yield from connection.sql(
        "SELECT image_key, l.uri, need, shard, f.stage, f.error FROM lacking AS l LEFT JOIN places USING (image_key)"
        " LEFT JOIN (SELECT DISTINCT ON (image_key) * FROM not_packed) AS f USING (image_key)"
        " WHERE shard IS NOT NULL OR f.stage IS NOT NULL ORDER BY position"
    ).to_arrow_reader(rows)


def _attach_places(connection: duckdb.DuckDBPyConnection, study: Study) -> None:
    """View `places`(image_key, shard, position): where each packed image lies; positions ascend through the shards."""
    connection.execute("CREATE TABLE lying (image_key BIGINT, number INTEGER, position BIGINT)")
    files, position = study.files(*PACKED_LEDGER.done), 0
    numbers = {file: i for i, file in enumerate(files)}
    packed = pads.dataset(files, PACKED, filesystem=study.fs, format="parquet")  # its schema: there may be no file
    for rows in _joined(packed.to_batches(columns=["image_key", "__filename"]), least=100_000):
        names = rows["__filename"].combine_chunks().dictionary_encode()
        number = np.array([numbers[name] for name in names.dictionary.to_pylist()], np.int32)[names.indices]
        places = np.arange(position, position + rows.num_rows)
        connection.register("more", pa.table([rows["image_key"], number, places], ["image_key", "number", "position"]))
        connection.execute("INSERT INTO lying FROM more")
        position += rows.num_rows
    names = pa.array([os.path.basename(file) for file in files], pa.string())
    connection.register("shards", pa.table([np.arange(len(files)), names], ["number", "shard"]))
    connection.execute(
        "CREATE VIEW places AS SELECT image_key, shard, position FROM shards JOIN"
        " (SELECT image_key, min(position) AS position, arg_min(number, position) AS number FROM lying GROUP BY image_key) USING (number)"
    )


def _joined(batches: Iterable[pa.RecordBatch], *, least: int) -> Iterator[pa.Table]:
    """Batches as tables of `least` rows or more, and one of what is left: a statement for each small batch takes longer than its work."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= least:
            yield pa.Table.from_batches(held)
            held, count = [], 0
    if held:
        yield pa.Table.from_batches(held)


def attach_lacking(connection: duckdb.DuckDBPyConnection, study: Study, ledgers: list[Ledger]) -> None:
    """View `lacking`(image_key int64, uri text, need int64): rows of the manifest that a ledger does not know.

    Bit i of `need` is set where ledger i has neither success nor failure of the image: the anti-join of the manifest against what is
    written is the only memory that a restart needs.
    """
    attach_manifest(connection, study)
    needs, joins = [], []
    for i, ledger in enumerate(ledgers):
        attach_ledger(connection, f"done_{i}", study, ledger)
        needs.append(f"CASE WHEN done_{i}.image_key IS NULL THEN {1 << i} ELSE 0 END")
        joins.append(f"LEFT JOIN (SELECT DISTINCT image_key FROM done_{i}) AS done_{i} USING (image_key)")
    query = f"SELECT image_key, uri, ({' + '.join(needs)})::BIGINT AS need FROM manifest {' '.join(joins)}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW lacking AS SELECT * FROM ({query}) WHERE need > 0")


def attach_done(connection: duckdb.DuckDBPyConnection, view: str, study: Study, encoder: str) -> None:
    """View `view`(image_key, failed) of every image that `encoder` has an embedding or a failure for.

    A volume that has no vector itself, and is searched by its slices, has failed where none of them has one.
    """
    slices = study.files("slices", f"encoder={path_name(encoder)}")
    if not slices:
        attach_ledger(connection, view, study, embedded_by(encoder))
        return
    attach(connection, f"{view}_slices", study, slices, columns=["image_key", "embedded"])
    connection.execute(
        f"CREATE OR REPLACE VIEW {view} AS SELECT image_key, NOT bool_or(embedded) AS failed FROM {view}_slices GROUP BY image_key"
    )


def attach_ledger(connection: duckdb.DuckDBPyConnection, view: str, study: Study, ledger: Ledger) -> None:
    """View `view`(image_key, failed) of every image that a ledger knows."""
    parts = []
    for dataset, failed in ((ledger.done, "false"), (ledger.failed, "true")):
        files = study.files(*dataset)
        if files:
            attach(connection, f"{view}_{dataset[0]}", study, files, columns=["image_key"])
            parts.append(f"SELECT image_key, {failed} AS failed FROM {view}_{dataset[0]}")
    empty = "SELECT 0::BIGINT AS image_key, false AS failed WHERE false"
    connection.execute(f"CREATE OR REPLACE VIEW {view} AS {' UNION ALL '.join(parts) or empty}")
