"""The figures of one sample: as those of any search, but for queries of which the sample has lost everything that is relevant.

Such a query says how small the sample is, and nothing of retrieval: counted as 0 it would pull the mean down, and left out in silence it would make
small samples look good at what they do not have. So it is left out and counted: `n_vanished` of each figure, and a row for its class in
`vanished`. A query that the whole gallery cannot answer either scores 0, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.errors import UserError
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.scoring import Scoring
from cbmir.evaluating.searches import Searched
from cbmir.evaluating.staging import lay_out, restage, run_file, stage, stage_all, stage_compared
from cbmir.evaluating.values import columns_of, figures_of, value_matrix
from cbmir.sampled.frame import PREVALENCE, Frame, laid_out
from cbmir.schemas import METRICS, VANISHED
from cbmir.select import attach
from cbmir.sql_files import create
from cbmir.store import Study

_DRAWN = ("all", PREVALENCE)  # slices whose curves are fitted
DRAWS = pa.schema(
    [("metric", pa.string()), ("relevance", pa.string()), ("k", pa.int32()), ("slice_by", pa.string()), ("slice", pa.string()),
     ("average", pa.string()), ("drawn", pa.list_(pa.float32()))]
)  # fmt: skip


@dataclass
class SampleScores:
    """What one sample gives; the columns that say which sample it is are still to come."""

    metrics: pa.Table  # METRICS, without the columns that name the search and the sample
    vanished: pa.Table  # relevance, label, n_queries, is_gone
    draws: pa.Table  # DRAWS: each figure in each resample of patients
    recall: float  # at recall_at; 1 for exact search


def score_sample(
    study: Study,
    searched: Searched,
    neighbors: pa.Table | None,
    exact: tuple[str, ...],
    frame: Frame,
    options: EvaluateOptions,
    *,
    recall_at: int,
    threads: int,
) -> SampleScores:
    """neighbors: those of an index; None: the exact ones, which lie at `exact`."""
    connection = laid_out(study, searched, neighbors, threads=threads)
    connection.register("of_prevalence", frame.prevalence)
    connection.execute("INSERT INTO further_slices SELECT image_key, slice_by, slice FROM of_prevalence")
    lay_out(connection)
    work = _Work(connection, Scoring(connection, searched, options.ks, options), frame)
    for level in options.levels:
        work.level(level, options.metrics)
    recall = 1.0 if neighbors is None else work.recall(study, exact, at=recall_at)
    return SampleScores(_together(work.metrics), pa.concat_tables(work.vanished), pa.concat_tables(work.draws), recall)


class _Work:
    """One sample's levels, one after the other."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, scoring: Scoring, frame: Frame) -> None:
        self.connection, self.scoring, self.frame = connection, scoring, frame
        self.metrics: list[pa.Table] = []  # none where all queries have vanished at all levels
        self.vanished = [_part(VANISHED, ("relevance", "label", "n_queries", "is_gone")).empty_table()]
        self.draws = [DRAWS.empty_table()]

    def level(self, relevance: str, metrics: tuple[str, ...]) -> None:
        """Figures at one level of relevance, and what has vanished at it."""
        stage(self.connection, relevance)
        gone = self._vanish(relevance)
        if not self.connection.execute("SELECT count(*) FROM queries").fetchall()[0][0]:
            return
        self.scoring.measure(metrics, relevance)
        figures = self.scoring.figures(relevance, curves=[])
        self.metrics.append(_with_vanished(figures, gone))
        if self.scoring.resamples is not None:
            self.draws.append(self._drawn(relevance))

    def recall(self, study: Study, exact: tuple[str, ...], *, at: int) -> float:
        """ANN recall among the figures, and its mean at one depth; UserError where nothing can be found, exactly or not."""
        stage_all(self.connection)
        attach(self.connection, "exact_neighbors", study, study.files(*exact))
        stage_compared(self.connection)
        self.scoring.ks = sorted({*self.scoring.ks, at})
        figures = self.scoring.micro(["ann_recall"], depth=self.scoring.searched.depth)
        self.metrics.append(_with_vanished(figures, None))
        of_all = figures.filter((pc.field("slice_by") == "all") & (pc.field("k") == at))
        if not len(of_all):
            raise UserError(
                f"no query has an exact neighbor in a sample of {len(self.scoring.searched.sample):,} images, so that an index of it has no recall; "
                "expected larger --sizes, or --index exact"
            )
        return of_all["value"][0].as_py()

    def _vanish(self, relevance: str) -> pa.Table | None:
        """Take queries out that the sample alone leaves without an answer -> how many of each slice; None: it leaves none."""
        level = pc.field("relevance") == relevance
        self.connection.register("answerable", self.frame.answerable.filter(level).select(["query_key"]))
        create(self.connection, "vanished", "staging", "vanished")
        if not self.connection.execute("SELECT count(*) FROM vanished").fetchall()[0][0]:
            return None
        classes = run_file(self.connection, "tables", "vanished")
        constant = pa.array([relevance] * len(classes), pa.string())
        self.vanished.append(classes.add_column(0, "relevance", constant).cast(self.vanished[0].schema))
        sizes = run_file(self.connection, "tables", "vanished_sizes")
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE queries AS FROM queries ANTI JOIN vanished USING (query_key)"
        )
        restage(self.connection, relevance)
        return sizes

    def _drawn(self, relevance: str) -> pa.Table:
        """Each figure of `_DRAWN` in each resample of patients."""
        columns = columns_of(self.connection, "query_values")
        names, figures = figures_of(self.connection, self.scoring.keys, slices=_DRAWN)
        values = value_matrix(self.connection, "query_values", self.scoring.keys, columns)
        drawn = self.scoring.resamples.figures(values, figures).astype(np.float32)
        tables = [DRAWS.empty_table()]
        for at, (metric, k) in enumerate(columns):
            constant = {"metric": metric, "relevance": relevance, "k": k}
            column = {name: pa.array([value] * len(names), DRAWS.field(name).type) for name, value in constant.items()}
            ours = {name: names[name] for name in ("slice_by", "slice", "average")}
            rows = pa.array(list(drawn[:, at]), DRAWS.field("drawn").type)
            tables.append(pa.table(column | ours | {"drawn": rows}).select(DRAWS.names).cast(DRAWS))
        return pa.concat_tables(tables)


def _with_vanished(figures: pa.Table, gone: pa.Table | None) -> pa.Table:
    """Figures with `n_vanished`: 0 where nothing has."""
    if gone is None:
        return figures.append_column("n_vanished", pa.array([0] * len(figures), pa.int64()))
    joined = figures.join(gone, ["slice_by", "slice"], join_type="left outer")
    filled = pc.fill_null(joined["n_vanished"], 0).cast(pa.int64())
    return joined.set_column(joined.column_names.index("n_vanished"), "n_vanished", filled).select(
        [*figures.column_names, "n_vanished"]
    )


def _together(figures: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(figures) if figures else METRICS.empty_table()


def _part(contract: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([contract.field(name) for name in names])
