"""What a search found, laid out in DuckDB: the views and tables that every metric reads."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from cbmir.errors import UserError, nearest
from cbmir.evaluating.options import SLICES
from cbmir.evaluating.overlap import refuse_shared_patients
from cbmir.evaluating.searches import Searched
from cbmir.exclusions import DUPLICATES, duplicates_digest, exclusion_codes
from cbmir.select import attach, attach_done, attach_manifest, connect, select_where
from cbmir.sql_files import bind, create, create_view, names, read
from cbmir.store import Study

_CLASS_SLICE = {"label_in_region": "label"}  # slices that hold one class each; else those by the relevance itself
LAID_OUT = ("kinds", "asked", "held", "pairs")
_SETS = ("sets", "matches")
_COUNTS = (
    "barred",
    "gains",
    "candidates",
    "slices",
    "cells",
    "profiles",
    "profile_cells",
    "sizes",
)
_WITHOUT_HITS = (*_SETS, *_COUNTS)


def opened(
    study: Study, searched: Searched, slices: Sequence[str] | None, *, allow_overlap: bool
) -> duckdb.DuckDBPyConnection:
    """A connection with the inputs of sql/staging for one search, checked: sql/checks find no offence."""
    connection = attached(study, searched, slices)
    _attach_duplicates(connection, study)
    _check(connection, searched, allow_overlap=allow_overlap)
    return connection


def attached(study: Study, searched: Searched, slices: Sequence[str] | None) -> duckdb.DuckDBPyConnection:
    """A connection with the inputs of sql/staging for one search, unchecked."""
    connection = connect()
    attach_inputs(connection, study, searched)
    attach_slices(connection, SLICES if slices is None else slices)
    create(connection, "patients", "staging", "patients")
    return connection


def attach_inputs(
    connection: duckdb.DuckDBPyConnection, study: Study, searched: Searched, *, neighbors: pa.Table | None = None
) -> None:
    """Views manifest, neighbors (those given, where they lie in no file); tables embedded, query_keys, gallery_keys, exclusions."""
    parameters = searched.run["parameters"]
    attach_manifest(connection, study)
    if neighbors is None:
        attach(connection, "neighbors", study, study.files(*searched.parts))
    else:
        connection.register("neighbors", neighbors)
    attach_done(connection, "done", study, searched.encoder)
    connection.execute("CREATE TEMP TABLE embedded AS SELECT image_key FROM done WHERE NOT failed")
    connection.register("query_keys", select_where(connection, parameters["queries"], "image_key", role="query_keys"))
    if searched.sample is not None:
        gallery = pa.table({"image_key": searched.sample})
    else:
        gallery = select_where(connection, parameters["gallery"], "image_key", role="gallery_keys")
    connection.register("gallery_keys", gallery)
    keys, codes = exclusion_codes(study, tuple(parameters["exclude_same"]))
    columns = [
        pa.table({"image_key": keys, "exclusion": [c] * len(keys), "code": codes[:, c]}) for c in range(codes.shape[1])
    ]
    empty = pa.table(
        {"image_key": pa.array([], pa.int64()), "exclusion": pa.array([], pa.int64()), "code": pa.array([], pa.int64())}
    )
    connection.register("all_codes", pa.concat_tables([empty, *columns]))
    connection.execute("CREATE TEMP TABLE exclusions AS SELECT * FROM all_codes WHERE code >= 0")


def attach_slices(connection: duckdb.DuckDBPyConnection, slices: Sequence[str], *, given: Sequence[str] = ()) -> None:
    """Table further_slices(image_key, slice_by, slice) of the columns that sql/staging/slices.sql does not know; table asked_slices.

    given: slices of which the caller inserts the rows.
    """
    have = [row[0] for row in connection.execute("DESCRIBE manifest").fetchall()]
    connection.execute("CREATE TEMP TABLE further_slices (image_key BIGINT, slice_by TEXT, slice TEXT)")
    for column in dict.fromkeys(slices):
        if column in (*SLICES, *given):
            continue
        if column == "all":
            raise UserError(
                "--slice all: that name stands for all queries together, which have figures in any case; leave it away, or rename the column"
            )
        if column not in have:
            near = nearest(column, [*dict.fromkeys([*SLICES, *have])])
            raise UserError(
                f"--slice {column}: no such column in the manifest; {near + '; ' if near else ''}columns: {', '.join(have)}"
            )
        there = duckdb.ColumnExpression(column)
        value = duckdb.CaseExpression(there.isnull(), duckdb.ConstantExpression("unknown")).otherwise(
            there.cast("VARCHAR")
        )
        picked = connection.view("manifest").select(
            duckdb.ColumnExpression("image_key"),
            duckdb.ConstantExpression(column).alias("slice_by"),
            value.alias("slice"),
        )
        picked.insert_into("further_slices")
    connection.register("asked_slices", pa.table({"slice_by": pa.array(list(slices), pa.string())}))


def _attach_duplicates(connection: duckdb.DuckDBPyConnection, study: Study) -> None:
    """Table duplicates(image_key, code), where `cbmir manifest check` has looked for them; else none."""
    if duplicates_digest(study) is None:
        return
    keys, codes = exclusion_codes(study, (DUPLICATES,))
    connection.register("all_duplicates", pa.table({"image_key": keys, "code": codes[:, 0]}))
    connection.execute("CREATE TEMP TABLE duplicates AS SELECT * FROM all_duplicates WHERE code >= 0")


def has_duplicates(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether it is known which images are copies of each other."""
    return bool(
        connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'duplicates'").fetchall()[0][0]
    )


def _check(connection: duckdb.DuckDBPyConnection, searched: Searched, *, allow_overlap: bool) -> None:
    """sql/checks return offending rows; there must be none, but for patients on both sides where that is allowed."""
    in_order = run_file(connection, "staging", "out_of_order")["rows"][0].as_py() == 0
    for name in names("checks"):
        if name == "patients_on_both_sides" or (in_order and name == "neighbors_grain"):
            continue
        offences = connection.execute(f"SELECT * FROM ({read('checks', name)}) LIMIT 1").fetchall()
        if offences:
            raise UserError(
                f"sql/checks/{name}.sql found {offences[0]} in {searched.encoder} {searched.index}; expected no row; "
                "search again with --overwrite"
            )
    if not allow_overlap:
        refuse_shared_patients(
            connection, f"{searched.encoder} {searched.index}", searched.run["parameters"]["exclude_same"]
        )


def lay_out(connection: duckdb.DuckDBPyConnection, tables: Sequence[str] = LAID_OUT) -> None:
    """The tables of sql/staging that are the same at every level of relevance."""
    for table in tables:
        create(connection, table, "staging", table)


def stage(connection: duckdb.DuckDBPyConnection, relevance: str) -> None:
    """The tables of sql/staging at one level of relevance, from judged to sizes; after `lay_out`."""
    _judge(connection, relevance)
    if relevance == "label_in_region":
        create(connection, "ranked_pairs", "staging", "pairs_in_pool")
    connection.table("ranked_pairs" if relevance == "label_in_region" else "pairs").create_view("ranked", replace=True)
    create_view(connection, "gallery", "staging", "gallery")
    for table in _SETS:
        create(connection, table, "staging", table)
    create_view(connection, "hits", "staging", "hits")
    _stage(connection, ("found", *_COUNTS), relevance)


def stage_candidates(connection: duckdb.DuckDBPyConnection, relevance: str) -> None:
    """Only what says how many gallery images each query could find, and how many of them are right."""
    _judge(connection, relevance)
    create_view(connection, "gallery", "staging", "gallery")
    _stage(connection, (*_SETS, "barred", "gains", "candidates"), relevance)


def restage(connection: duckdb.DuckDBPyConnection, relevance: str) -> None:
    """What follows from table queries, when some of them have been taken out after `stage`."""
    _stage(connection, _COUNTS, relevance)


def stage_cells(connection: duckdb.DuckDBPyConnection, relevance: str) -> None:
    """Only queries, slices and cells at one level of relevance: whose values are averaged, whatever they are."""
    _judge(connection, relevance)
    _stage(connection, ("slices", "cells"), relevance)


def stage_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Tables for metrics that ask for no relevance: every embedded query, in one class."""
    _judge(connection, "")
    create_view(connection, "gallery", "staging", "gallery")
    connection.table("queries").project("query_key").create_view("compared", replace=True)
    _stage(connection, _WITHOUT_HITS, "")


def _judge(connection: duckdb.DuckDBPyConnection, relevance: str) -> None:
    create(connection, "judged", "staging", "judged", relevance=relevance)
    create(connection, "queries", "staging", "queries", relevance=relevance)


def stage_compared(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables of stage_all for queries with an exact neighbor alone: where nothing can be found, an index can lose nothing."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE queries AS FROM queries SEMI JOIN exact_neighbors USING (query_key)"
    )
    _stage(connection, _WITHOUT_HITS, "")


def _stage(connection: duckdb.DuckDBPyConnection, tables: Sequence[str], relevance: str) -> None:
    slices = [row[0] for row in connection.execute("SELECT slice_by FROM asked_slices").fetchall()]
    class_slice = _CLASS_SLICE.get(relevance, relevance)
    for table in tables:
        create(connection, table, "staging", table, slices=slices, class_slice=class_slice)


def run_file(connection: duckdb.DuckDBPyConnection, kind: str, name: str, **parameters) -> pa.Table:
    """The result of one statement under sql/."""
    text = read(kind, name)
    return connection.sql(text, params=bind(text, parameters)).to_arrow_table()


def insert_values(connection: duckdb.DuckDBPyConnection, metric: str, *, k: int | None, depth: int) -> None:
    """One metric with its chance into table query_values, a row a query."""
    text = (
        f"INSERT INTO query_values SELECT query_key, $metric, $asked, value, chance "
        f"FROM ({read('metrics', metric)}) AS scored JOIN ({read('chance', metric)}) AS expected USING (query_key)"
    )
    connection.execute(text, bind(text, {"metric": metric, "asked": k, "k": k, "depth": depth}))
