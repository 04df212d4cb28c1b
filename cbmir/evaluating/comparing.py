"""Searches that answer the same question, two and two: is the difference more than chance would make?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from cbmir.evaluating.options import LEVELS, EvaluateOptions
from cbmir.evaluating.searches import Searched
from cbmir.evaluating.staging import attached, lay_out, run_file, stage_cells
from cbmir.evaluating.values import Column, columns_of, figures_of, value_matrix
from cbmir.progress import Progress
from cbmir.schemas import COMPARISONS
from cbmir.select import attach
from cbmir.statistics.bootstrap import Resamples
from cbmir.statistics.figures import Figures
from cbmir.statistics.holm import holm
from cbmir.statistics.paired import compare
from cbmir.store import Study

COMPARED = ("precision_at_k", "average_precision")  # unless other metrics are asked for by name


def compare_searches(study: Study, searches: Sequence[Searched], options: EvaluateOptions) -> pa.Table:
    """query_metrics of searches with the same queries, gallery, exclusions and depth -> COMPARISONS.

    Every two encoders by their exact searches, and every two searches of one encoder. One depth, because average precision counts what
    was found to the end, and at label_in_region so does P@k.
    """
    questions: dict[tuple[str, int], list[Searched]] = {}
    for searched in searches:
        questions.setdefault((searched.run["question"], searched.depth), []).append(searched)
    tables = [COMPARISONS.empty_table()]
    asked = [(group, pairs) for _, group in sorted(questions.items()) if (pairs := list(_pairs(group)))]
    if not asked or not options.resamples:
        return tables[0]
    with Progress("compare", len(asked) * len(LEVELS), unit="tables") as progress:
        for group, pairs in asked:
            connection = attached(study, group[0], options.slices)  # scoring has checked it
            lay_out(connection, ("kinds", "asked"))
            for level in LEVELS:
                tables.extend(_Level(study, connection, group, level).compared(pairs, options))
                progress.advance(1)
    return pa.concat_tables(tables)


def _pairs(group: Sequence[Searched]) -> Iterator[tuple[int, int]]:
    for a, b in itertools.combinations(range(len(group)), 2):
        if group[a].encoder == group[b].encoder or (group[a].is_exact and group[b].is_exact):
            yield a, b


class _Level:
    """What the searches of one question scored at one level of relevance."""

    def __init__(
        self, study: Study, connection: duckdb.DuckDBPyConnection, group: Sequence[Searched], relevance: str
    ) -> None:
        self.connection, self.group, self.relevance = connection, group, relevance
        stage_cells(connection, relevance)
        patients = connection.sql("FROM patients ORDER BY query_key").to_arrow_table()
        self.keys, self.codes = patients["query_key"].to_numpy(), patients["patient"].to_numpy()
        at_level = duckdb.ColumnExpression("relevance") == duckdb.ConstantExpression(relevance)
        for i, searched in enumerate(group):
            attach(connection, "all_levels", study, study.files("query_metrics", *searched.parts[1:]))
            connection.view("all_levels").filter(at_level).create(f"values_{i}")

    def compared(self, pairs: Sequence[tuple[int, int]], options: EvaluateOptions) -> Iterator[pa.Table]:
        """One table of COMPARISONS a pair."""
        metrics = options.compared or options.metrics or COMPARED
        columns = [c for c in columns_of(self.connection, "values_0") if c[0] in metrics]
        columns = [
            c for c in columns if all(c in columns_of(self.connection, f"values_{i}") for i in range(len(self.group)))
        ]
        if columns:
            values = np.stack(
                [value_matrix(self.connection, f"values_{i}", self.keys, columns) for i in range(len(self.group))]
            )
            names, figures = figures_of(self.connection, self.keys)
            yield from self._tables(values, names, figures, columns, pairs, options)
        for i in range(len(self.group)):
            self.connection.execute(f"DROP TABLE values_{i}")

    def _tables(
        self, values: np.ndarray, names: pa.Table, figures: Figures, columns: Sequence[Column], pairs: Sequence[tuple[int, int]],
        options: EvaluateOptions,
    ) -> Iterator[pa.Table]:  # fmt: skip
        """values (s, n, m)."""
        resamples = Resamples(self.codes, options.resamples, seed=options.seed)
        found = compare(values, pairs, figures, resamples, permutations=options.permutations, seed=options.seed)
        means = np.stack([figures.means(each) for each in values])  # (s, r, m)
        adjusted, tests = corrected(found.p, names)
        sizes = {(r["slice_by"], r["slice"]): r for r in run_file(self.connection, "report", "slice_sizes").to_pylist()}
        of = [
            sizes[by, value]
            for by, value in zip(names["slice_by"].to_pylist(), names["slice"].to_pylist(), strict=True)
        ]
        for pair, (a, b) in enumerate(pairs):
            for at, (metric, k) in enumerate(columns):
                rows = {
                    "encoder_a": self.group[a].encoder, "index_a": self.group[a].index,
                    "encoder_b": self.group[b].encoder, "index_b": self.group[b].index,
                    "metric": metric, "relevance": self.relevance, "k": k,
                }  # fmt: skip
                constant = {
                    name: pa.array([value] * len(names), COMPARISONS.field(name).type) for name, value in rows.items()
                }
                yield (
                    pa.table(
                        constant
                        | {name: names[name] for name in ("slice_by", "slice", "average")}
                        | {
                            "value_a": means[a, :, at],
                            "value_b": means[b, :, at],
                            "difference": found.difference[pair, :, at],
                        }
                        | {
                            name: pa.array(array[pair, :, at], from_pandas=True)
                            for name, array in (
                                ("ci_low", found.low),
                                ("ci_high", found.high),
                                ("p_value", found.p),
                                ("p_holm", adjusted),
                            )
                        }
                        | {"n_tests": tests[pair]}
                        | {name: [size[name] for size in of] for name in ("n_queries", "n_patients")}
                    )
                    .select(COMPARISONS.names)
                    .cast(COMPARISONS)
                )


def corrected(p: np.ndarray, names: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """p (pairs, r, m) of the figures `names` (slice_by, slice, average) -> the same after Holm's correction, and (pairs, r) of how many tests.

    One table, over which the correction holds, is of one column and one average: for slices of one kind, all slices of a pair; over
    all queries, all pairs.
    """
    adjusted, tests = np.full(p.shape, np.nan), np.zeros(p.shape[:2], np.int64)
    slice_by, average = np.array(names["slice_by"].to_pylist()), np.array(names["average"].to_pylist())
    for by, kind in set(zip(slice_by.tolist(), average.tolist(), strict=True)):
        rows = np.flatnonzero((slice_by == by) & (average == kind))
        for group in [range(len(p))] if by == "all" else [[pair] for pair in range(len(p))]:
            block = np.ix_(list(group), rows)
            tests[block] = len(group) * len(rows)
            for column in range(p.shape[2]):
                table = p[..., column][block]
                adjusted[(*block, column)] = holm(table.ravel()).reshape(table.shape)
    return adjusted, tests
