"""Measured points -> the dataset search_effort, a table of its fronts, and the point to choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.aligned import aligned, figure_name, number, with_interval
from cbmir.commands import line, words_of
from cbmir.evaluating.scoring import Scores
from cbmir.evaluating.searches import Searched
from cbmir.index import IndexOptions
from cbmir.schemas import SEARCH_EFFORT
from cbmir.search import EXACT
from cbmir.select import connect
from cbmir.sql_files import read
from cbmir.sweeping.options import EffortOptions

Row = dict[str, Any]  # of SEARCH_EFFORT
_COSTS = ("queries_per_second", "timed_queries", "threads", "build_seconds", "graph_bytes", "gallery_size")
_POINT = ("dtype", "pca", "connectivity", "expansion_search", "rerank")


def rows_of(point: Searched, scores: Scores, ks: Sequence[int]) -> list[Row]:
    """The figures of one point over all queries, at the k asked for: rows of SEARCH_EFFORT but for is_pareto."""
    told = point.run
    costs = (
        {"encoder": point.encoder}
        | {name: told["parameters"][name] for name in _POINT}
        | {name: told[name] for name in _COSTS}
    )
    figures = scores.metrics
    asked = pc.and_(pc.equal(figures["slice_by"], "all"), pc.equal(figures["average"], "micro"))
    names = ("metric", "relevance", "k", "value", "ci_low", "ci_high", "n_queries")
    kept = figures.filter(asked).select(names).to_pylist()
    return [costs | row for row in kept if row["k"] is None or row["k"] in ks]


def with_front(rows: Sequence[Row]) -> pa.Table:
    """Rows -> SEARCH_EFFORT: is_pareto by sql/studies/pareto.sql."""
    schema = pa.schema([field for field in SEARCH_EFFORT if field.name != "is_pareto"])
    connection = connect()
    connection.register("points", pa.Table.from_pylist(list(rows), schema=schema))
    return connection.sql(read("studies", "pareto")).to_arrow_table().select(SEARCH_EFFORT.names).cast(SEARCH_EFFORT)


def recall_rows(rows: Sequence[Row], encoder: str, k: int) -> list[Row]:
    """ANN recall of every point of one encoder at one k, the fastest first."""
    asked = [row for row in rows if (row["encoder"], row["metric"], row["k"]) == (encoder, "ann_recall", k)]
    return sorted(asked, key=lambda row: (-row["queries_per_second"], -row["value"]))


def front_text(rows: Sequence[Row], encoder: str, options: EffortOptions) -> str:
    """The front of speed and recall of one encoder as an aligned table, with the other figures beside it, and exact search for comparison."""
    k = options.depth
    shown = [row for row in recall_rows(rows, encoder, k) if row["is_pareto"] or row["dtype"] == EXACT]
    figures = {(r["metric"], r["k"]) for r in rows if r["encoder"] == encoder and r["k"] in (k, None)}
    figures = [("ann_recall", k), *sorted(figures - {("ann_recall", k)})]
    lines = [
        [
            "dtype",
            "pca",
            "edges",
            "expansion",
            "rerank",
            "queries/s",
            *(figure_name(*f) for f in figures),
            "build s",
            "graph MB",
        ]
    ]
    for row in shown:
        values = [_value(_same_point(rows, row, *figure)) for figure in figures]
        size = row["graph_bytes"]
        costs = [number(row["build_seconds"], 1), number(None if size is None else size / 1e6, 1)]
        lines.append([*(_text(row[name]) for name in _POINT), f"{row['queries_per_second']:,.0f}", *values, *costs])
    return aligned(lines)


def recommended(rows: Sequence[Row], encoder: str, options: EffortOptions, *, study: str) -> str:
    """One line: the fastest graph with the recall that is wanted, how it is built, and how exact search compares."""
    k = options.depth
    points = recall_rows(rows, encoder, k)
    exact = next(row for row in points if row["dtype"] == EXACT)
    graphs = [row for row in points if row["dtype"] != EXACT]
    enough = [row for row in graphs if row["value"] >= options.recall]
    compared = f"exact search: {exact['queries_per_second']:,.0f} queries/s"
    if not enough:
        best = max(graphs, key=lambda row: (row["value"], row["queries_per_second"]))
        return (
            f"{encoder}: no graph has recall@{k} >= {options.recall:g}; the best is {_named(best)}, recall@{k} {best['value']:.3f}: raise "
            f"--expansions, --reranks or --connectivity; {compared}"
        )
    best = enough[0]
    if exact["queries_per_second"] >= best["queries_per_second"]:
        compared += ", at least as fast in batches as this graph: for them no index is needed"
    return (
        f"{encoder}: fastest graph with recall@{k} >= {options.recall:g}: {_named(best)}, recall@{k} {best['value']:.3f}; build it with: "
        f"{index_command(best, encoder, options, study=study)}; {compared}"
    )


def index_command(row: Row, encoder: str, options: EffortOptions, *, study: str) -> str:
    """The command line that builds a point's graph, to be searched as it was."""
    asked = {name: row[name] for name in ("dtype", "pca", "connectivity", "expansion_search", "rerank")}
    asked |= {"gallery": options.gallery, "metric": options.metric, "expansion_add": options.expansion_add}
    usual = {"gallery": IndexOptions.gallery, "metric": "cos", "connectivity": 16, "expansion_add": 128}
    unusual = {name: value for name, value in asked.items() if usual.get(name) != value}
    return line(words_of("index", [encoder, "hnsw"], {"parameters": unusual}, study))


def _named(row: Row) -> str:
    axes = "" if row["pca"] is None else f", {row['pca']} axes"
    return (
        f"{row['dtype']}{axes}, connectivity {row['connectivity']}, expansion {row['expansion_search']}, rerank {row['rerank']}: "
        f"{row['queries_per_second']:,.0f} queries/s"
    )


def _same_point(rows: Sequence[Row], point: Row, metric: str, k: int | None) -> Row | None:
    same = ("encoder", *_POINT)
    return next((r for r in rows if (r["metric"], r["k"]) == (metric, k) and all(r[n] == point[n] for n in same)), None)


def _value(row: Row | None) -> str:
    return "-" if row is None else with_interval(row["value"], row["ci_low"], row["ci_high"], digits=4)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
