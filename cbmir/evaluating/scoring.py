"""One search -> its figures, by the statements under sql/ alone; intervals come from the values of its queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.evaluating.intervals import interval_table
from cbmir.evaluating.options import AT_EVERY_LEVEL, KS, LEVELS, EvaluateOptions, takes_k
from cbmir.evaluating.searches import Searched, depths
from cbmir.evaluating.staging import (
    has_duplicates,
    insert_values,
    lay_out,
    opened,
    run_file,
    stage,
    stage_all,
    stage_compared,
)
from cbmir.schemas import CONFUSIONS, HUBNESS, METRICS, QUERY_METRICS
from cbmir.select import attach
from cbmir.sql_files import create
from cbmir.statistics.bootstrap import Resamples
from cbmir.store import Study


@dataclass
class Scores:
    """What one search gives to the datasets of an evaluation."""

    query_metrics: pa.Table
    metrics: pa.Table
    confusions: pa.Table
    hubness: pa.Table
    notes: list[str] = field(default_factory=list)


_NO_SAMPLE = {"sampling": None, "seed": None, "sample_size": None, "n_vanished": None}
STEPS = len(LEVELS) + 1  # of all levels, after each of which `score` tells how far it is


def score(
    study: Study,
    searched: Searched,
    exact: Searched | None,
    options: EvaluateOptions,
    *,
    told: Callable[[], None] = lambda: None,
) -> Scores:
    """Every figure of one search; `exact`: the exact search that its neighbors are held against, if there is one."""
    connection = opened(study, searched, options.slices, allow_overlap=options.allow_overlap)
    lay_out(connection)
    scoring = Scoring(connection, searched, depths(searched, options.ks), options)
    figures = []
    for level in options.levels:
        figures.append(scoring.level(level))
        told()
    figures.append(scoring.without_relevance(study, exact))
    told()
    size = connection.execute("SELECT count(*) FROM gallery_keys JOIN embedded USING (image_key)").fetchall()[0][0]
    constants = {"encoder": searched.encoder, "index": searched.index, "gallery_size": size} | _NO_SAMPLE
    return Scores(
        query_metrics=connection.sql("FROM per_query").to_arrow_table().cast(QUERY_METRICS),
        metrics=pa.concat_tables(
            [METRICS.empty_table(), *(completed(table, METRICS, constants) for table in figures if table is not None)]
        ),
        confusions=completed(scoring.confusions, CONFUSIONS, constants),
        hubness=completed(pa.concat_tables(scoring.hubness), HUBNESS, constants),
        notes=scoring.notes,
    )


def completed(table: pa.Table, contract: pa.Schema, constants: dict) -> pa.Table:
    """`table` with the columns of its contract, those in `constants` the same in every row."""
    for name, value in constants.items():
        if name in contract.names and name not in table.column_names:
            table = table.append_column(name, pa.array([value] * table.num_rows, contract.field(name).type))
    return table.select(contract.names).cast(contract)


class Scoring:
    """Values and figures of one search, whose tables a connection has (staging.py), at one level after the other."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, searched: Searched, ks: Sequence[int], options: EvaluateOptions
    ) -> None:
        self.connection = connection
        self.searched = searched
        self.ks = ks
        self.options = options
        self.notes: list[str] = []
        self.confusions = CONFUSIONS.empty_table()
        self.hubness: list[pa.Table] = []
        connection.execute(
            "CREATE TEMP TABLE per_query (query_key BIGINT, metric TEXT, relevance TEXT, k INTEGER, value DOUBLE, chance DOUBLE)"
        )
        patients = connection.sql("FROM patients ORDER BY query_key").to_arrow_table()
        self.keys = patients["query_key"].to_numpy()
        codes = patients["patient"].to_numpy()
        self.resamples = Resamples(codes, options.resamples, seed=options.seed) if options.resamples else None

    def level(self, relevance: str) -> pa.Table | None:
        """Figures of every metric at one level of relevance; None where no query can be judged at it, or no metric asks for it."""
        metrics = self.options.metrics_at(relevance)
        if not metrics:
            return None
        stage(self.connection, relevance)
        if not self.connection.execute("SELECT count(*) FROM queries").fetchall()[0][0]:
            return None
        self.measure(metrics, relevance)
        if relevance == "label":
            self.confusions = run_file(self.connection, "tables", "confusions")
        if relevance == "label_in_region":
            self._note_what_was_cut_short()
        return self.figures(relevance, curves=[m for m in metrics if m in AT_EVERY_LEVEL])

    def without_relevance(self, study: Study, exact: Searched | None) -> pa.Table | None:
        """Figures that do not ask what is relevant: ANN recall, duplicates among the neighbors; and hubness."""
        stage_all(self.connection)
        depths_of_hubs = sorted({1, min(10, self.searched.depth)})
        self.hubness = [run_file(self.connection, "tables", "hubness", k=k) for k in depths_of_hubs]
        metrics, tables = self._without_what_nobody_knows(study, exact), []
        if others := [name for name in metrics if name != "ann_recall"]:
            tables.append(self.micro(others, depth=self.searched.depth))
        if "ann_recall" in metrics and exact is not None:
            attach(self.connection, "exact_neighbors", study, study.files(*exact.parts))
            stage_compared(self.connection)
            tables.append(self.micro(["ann_recall"], depth=min(self.searched.depth, exact.depth)))
        return pa.concat_tables(tables) if tables else None

    def _without_what_nobody_knows(self, study: Study, exact: Searched | None) -> list[str]:
        """The metrics that ask for no relevance, less those for which nothing was searched or looked for; says so."""
        metrics = self.options.metrics_at("")
        if "ann_recall" in metrics and exact is None:
            metrics.remove("ann_recall")
            if self.searched.is_approximate:
                self.notes.append(
                    f"{self.searched.name}: no ANN recall, because there is no exact search of the same gallery and queries; make it with: "
                    f"cbmir search --study {study.address} --encoder {self.searched.encoder} --index exact"
                )
        if "duplicates_at_k" in metrics and not has_duplicates(self.connection):
            metrics.remove("duplicates_at_k")
            if self.options.metrics:
                self.notes.append(
                    f"no duplicates_at_k, because nobody has looked for copies of images; look with: cbmir manifest check --study {study.address}"
                )
        return metrics

    def micro(self, metrics: Sequence[str], *, depth: int) -> pa.Table:
        """Figures of metrics that ask for no relevance: there are no classes to average over."""
        self.measure(metrics, "", depth=depth)
        figures = self.figures("", curves=[])
        return figures.filter(pc.equal(figures["average"], "micro"))

    def measure(self, metrics: Sequence[str], relevance: str, *, depth: int | None = None) -> None:
        """Table query_values(query_key, metric, k, value, chance) of every metric at every k asked for; added to per_query."""
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE query_values (query_key BIGINT, metric TEXT, k INTEGER, value DOUBLE, chance DOUBLE)"
        )
        depth = depth or self.searched.depth
        for metric in metrics:
            for k in [k for k in self.ks if k <= depth] if takes_k(metric) else [None]:
                insert_values(self.connection, metric, k=k, depth=depth)
        self.connection.execute(
            "INSERT INTO per_query SELECT query_key, metric, $relevance, k, value, chance FROM query_values",
            {"relevance": relevance},
        )

    def figures(self, relevance: str, *, curves: Sequence[str]) -> pa.Table:
        """Averages over every slice: of query_values, and of the metrics in `curves` at every other k as well."""
        create(self.connection, "profile_sums", "staging", "profile_sums")
        if curves:
            create(self.connection, "curve_sums", "staging", "curves", depth=self.searched.depth)
            self.connection.execute(
                "INSERT INTO profile_sums SELECT metric, k, profile, n, total, squares, chance FROM curve_sums "
                "WHERE list_contains($curves, metric) AND NOT list_contains($ks, k)",
                {"curves": list(curves), "ks": list(self.ks)},
            )
        create(self.connection, "averaged", "report", "averages")
        self.connection.register("intervals", interval_table(self.connection, self.resamples, keys=self.keys))
        figures = run_file(self.connection, "report", "figures", relevance=relevance, ks=list(self.ks))
        return figures.append_column("relevance", pa.array([relevance] * figures.num_rows, pa.string()))

    def _note_what_was_cut_short(self) -> None:
        k = max(self.ks, default=max(KS))
        queries, short = run_file(self.connection, "report", "cut_short", k=k).to_pylist()[0].values()
        if short:
            self.notes.append(
                f"{self.searched.name}: {short:,} of {queries:,} queries have fewer than {k} images of their region among their "
                f"{self.searched.depth} neighbors, so that label_in_region is too low for them; search with a larger -k"
            )
