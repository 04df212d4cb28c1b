"""Stage: neighbors + manifest + sql/ -> query_metrics and metrics."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from cbmir.errors import UserError
from cbmir.exclusions import exclusion_codes
from cbmir.schemas import METRICS, QUERY_METRICS
from cbmir.search import EXACT, outdated
from cbmir.select import attach, attach_done, attach_manifest, connect, select_where
from cbmir.sql_files import bind, create, names, read
from cbmir.store import Study, path_name, run_record

LEVELS = ("label", "region", "modality")
KS = (1, 3, 5, 10)


@dataclass(frozen=True)
class Searched:
    """One neighbors dataset of a study, with what its run.json says of the search."""

    encoder: str
    index: str
    run: dict[str, Any]

    @property
    def parts(self) -> tuple[str, str, str]:
        return ("neighbors", path_name(self.encoder), path_name(self.index))

    def asks_the_same_as(self, other: Searched) -> bool:
        """Whether both compare the same queries with the same gallery under the same exclusions."""
        return self.run["compared"] == other.run["compared"]


def evaluate(study: Study, *, ks: Sequence[int] | None = None, say=print) -> dict[str, Any]:
    """Score every search of the study; publishes query_metrics of each and metrics of all; returns the run.json of metrics."""
    searches = find_searches(study)
    tables = []
    for searched in searches:
        depths = _depths(searched, ks)
        per_query, figures = score(study, searched, _exact_of(searched, searches), depths, say=say)
        record = run_record(
            "evaluate",
            parameters={"k": depths},
            inputs={"neighbors": searched.run["fingerprint"]},
            rows=per_query.num_rows,
        )
        with study.publishing("query_metrics", *searched.parts[1:]) as out:
            out.write_table(per_query, "query_metrics.parquet", "query_metrics")
            out.run = record
        tables.append(figures)
    metrics = pa.concat_tables(tables)
    inputs = {f"{s.encoder} {s.index}": s.run["fingerprint"] for s in searches}
    record = run_record("metrics", parameters={"k": list(ks or KS)}, inputs=inputs, rows=metrics.num_rows)
    with study.publishing("metrics") as out:
        out.write_table(metrics, "metrics.parquet", "metrics")
        out.run = record
    return record


def find_searches(study: Study) -> list[Searched]:
    """Every finished neighbors dataset, exact ones first; refuses unfinished and outdated ones by name."""
    study.require("manifest")
    found = []
    for encoder in study.names("neighbors"):
        for index in study.names("neighbors", path_name(encoder)):
            run = study.require("neighbors", path_name(encoder), path_name(index))
            if outdated(study, encoder, run):
                asked = run["parameters"]["index"]
                made = "the index or the duplicates found" if "duplicates" in run["inputs"] else "the index"
                name = f" --save-as {index}" if index != asked else ""
                raise UserError(
                    f"neighbors of {encoder} by {index} are older than the manifest, the embeddings or {made}; search "
                    f"again, with the same flags: cbmir search --study {study.address} --encoder {encoder} --index {asked}{name}"
                )
            found.append(Searched(encoder, index, run))
    if not found:
        raise UserError(f"the study {study.address} has no neighbors to evaluate; make them with: cbmir search")
    return sorted(found, key=lambda s: (s.encoder, s.index != EXACT, s.index))


def _depths(searched: Searched, ks: Sequence[int] | None) -> list[int]:
    depth = searched.run["parameters"]["k"]
    too_deep = [k for k in ks or () if not 1 <= k <= depth]
    if too_deep:
        raise UserError(
            f"--k {too_deep[0]}: neighbors of {searched.encoder} by {searched.index} were searched with -k {depth}; "
            f"expected 1 to {depth}; search again with a larger -k"
        )
    return sorted(set(ks)) if ks else [k for k in KS if k <= depth]


def _exact_of(searched: Searched, searches: list[Searched]) -> Searched | None:
    """The exact search that an approximate one is held against, None where there is none alike."""
    if searched.run["parameters"]["index"] == EXACT:
        return None
    exact = [s for s in searches if s.encoder == searched.encoder and s.run["parameters"]["index"] == EXACT]
    return next((s for s in exact if s.asks_the_same_as(searched)), None)


def score(
    study: Study, searched: Searched, exact: Searched | None, ks: Sequence[int], *, say=print
) -> tuple[pa.Table, pa.Table]:
    """One search -> (query_metrics, metrics), by the statements under sql/ alone."""
    connection = connect()
    _attach_inputs(connection, study, searched)
    _check(connection, searched)
    connection.execute(
        "CREATE TEMP TABLE per_query (query_key BIGINT, metric TEXT, relevance TEXT, k INTEGER, value DOUBLE, chance DOUBLE)"
    )
    figures = []
    compared = [name for name in names("metrics") if "exact_neighbors" in read("metrics", name)]
    judged = [name for name in names("metrics") if name not in compared]
    depth = searched.run["parameters"]["k"]
    for relevance in LEVELS:
        stage(connection, relevance)
        for metric, k in itertools.product(judged, ks):
            figures += _measure(connection, metric, relevance, k)
        figures += _curve(connection, relevance, depth, ks)
    if exact is not None:
        attach(connection, "exact_neighbors", study, study.files(*exact.parts))
        stage_all(connection)
        for metric, k in itertools.product(compared, [k for k in ks if k <= exact.run["parameters"]["k"]]):
            figures += _measure(connection, metric, "", k)
    elif searched.run["parameters"]["index"] != EXACT:
        say(
            f"{searched.encoder} {searched.index}: no ANN recall, because there is no exact search of the same gallery and "
            f"queries; make it with: cbmir search --study {study.address} --encoder {searched.encoder} --index exact"
        )
    per_query = connection.sql("SELECT * FROM per_query").to_arrow_table().cast(QUERY_METRICS)
    size = connection.execute("SELECT count(*) FROM gallery_keys JOIN embedded USING (image_key)").fetchall()[0][0]
    constant = {
        "encoder": searched.encoder,
        "index": searched.index,
        "gallery_size": size,
        "ci_low": None,
        "ci_high": None,
    }
    return per_query, pa.Table.from_pylist([row | constant for row in figures], schema=METRICS)


def _attach_inputs(connection: duckdb.DuckDBPyConnection, study: Study, searched: Searched) -> None:
    """Views manifest, neighbors; tables embedded, query_keys, gallery_keys, exclusions."""
    parameters = searched.run["parameters"]
    attach_manifest(connection, study)
    attach(connection, "neighbors", study, study.files(*searched.parts))
    attach_done(connection, "done", study, searched.encoder)
    connection.execute("CREATE TEMP TABLE embedded AS SELECT image_key FROM done WHERE NOT failed")
    for table, predicate in (("query_keys", parameters["queries"]), ("gallery_keys", parameters["gallery"])):
        connection.register(table, select_where(connection, predicate, "image_key", role=table))
    keys, codes = exclusion_codes(study, tuple(parameters["exclude_same"]))
    columns = [
        pa.table({"image_key": keys, "exclusion": [c] * len(keys), "code": codes[:, c]}) for c in range(codes.shape[1])
    ]
    empty = pa.table(
        {"image_key": pa.array([], pa.int64()), "exclusion": pa.array([], pa.int64()), "code": pa.array([], pa.int64())}
    )
    connection.register("all_codes", pa.concat_tables([empty, *columns]))
    connection.execute("CREATE TEMP TABLE exclusions AS SELECT * FROM all_codes WHERE code >= 0")


def _check(connection: duckdb.DuckDBPyConnection, searched: Searched) -> None:
    """sql/checks return offending rows; there must be none."""
    for name in names("checks"):
        offences = connection.execute(f"SELECT * FROM ({read('checks', name)}) LIMIT 1").fetchall()
        if offences:
            raise UserError(
                f"sql/checks/{name}.sql found {offences[0]} in {searched.encoder} {searched.index}; expected no row; "
                "search again with --overwrite"
            )


def stage(connection: duckdb.DuckDBPyConnection, relevance: str) -> None:
    """Tables queries, gallery, hits, barred, candidates, slices at one level of relevance."""
    for table in ("queries", "gallery", "hits", "barred", "candidates", "slices"):
        create(connection, table, "staging", table, relevance=relevance)


def stage_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Tables for metrics that ask for no relevance: every embedded query, in one class."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE queries AS SELECT image_key AS query_key, true AS embedded, ['all'] AS classes "
        "FROM query_keys JOIN embedded USING (image_key)"
    )
    connection.execute("CREATE OR REPLACE TEMP TABLE compared AS SELECT query_key FROM queries")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE gallery AS SELECT image_key, ['all'] AS classes FROM gallery_keys JOIN embedded USING (image_key)"
    )
    for table in ("barred", "candidates", "slices"):
        create(connection, table, "staging", table)


def _measure(connection: duckdb.DuckDBPyConnection, metric: str, relevance: str, k: int) -> list[dict[str, Any]]:
    """One metric at one k: its value of each query into per_query, its averages returned."""
    create(connection, "scored", "metrics", metric, k=k)
    create(connection, "expected", "chance", metric, k=k)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE query_values AS SELECT query_key, value::DOUBLE AS value, chance FROM scored JOIN expected USING (query_key)"
    )
    connection.execute(
        "INSERT INTO per_query SELECT query_key, $metric, $relevance, $k, value, chance FROM query_values",
        {"metric": metric, "relevance": relevance, "k": k},
    )
    text = read("report", "averages")
    averages = connection.sql(text, params=bind(text, {"relevance": relevance})).to_arrow_table().to_pylist()
    if not relevance:
        averages = [row for row in averages if row["average"] == "micro"]
    return [row | {"metric": metric, "relevance": relevance, "k": k} for row in averages]


def _curve(
    connection: duckdb.DuckDBPyConnection, relevance: str, depth: int, ks: Sequence[int]
) -> list[dict[str, Any]]:
    """P@k over all queries for the k that `_measure` has not given."""
    text = read("report", "precision_curve")
    rows = connection.sql(text, params=bind(text, {"depth": depth})).to_arrow_table().to_pylist()
    counts = connection.execute("SELECT count(*), count(*) FILTER (WHERE NOT embedded) FROM queries").fetchall()[0]
    constant = {"metric": "precision_at_k", "relevance": relevance, "slice_by": "all", "slice": "all"}
    constant |= {"n_queries": counts[0], "n_failed": counts[1]}
    return [row | constant for row in rows if row["k"] not in ks]
