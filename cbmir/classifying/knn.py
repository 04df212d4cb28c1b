"""kNN classification: the neighbors of an image vote for their labels; how many of them vote is chosen on the validation split."""

from __future__ import annotations

from typing import Any, Protocol

import duckdb
import pyarrow as pa

from cbmir.classifying.figures import KIND, classification_rows, figures, figures_of_scores, judging, size
from cbmir.select import attach
from cbmir.sql_files import create
from cbmir.store import Study

VAL, TEST = "val", "test"


class Search(Protocol):
    """A finished neighbors dataset, with its run.json."""

    encoder: str
    index: str
    run: dict[str, Any]

    @property
    def parts(self) -> tuple[str, ...]: ...


def figures_of_every_k(study: Study, search: Search, *, depth: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Votes of the queries of split val -> (the figures for k = 1 .. depth, how many queries were judged and failed)."""
    connection = _voting(study, search, VAL)
    create(connection, "votes", KIND, "votes", depth=depth)
    create(connection, "leaders", KIND, "leaders", depth=depth)
    create(connection, "score_counts", KIND, "score_counts_by_k", depth=depth)
    create(connection, "outcomes", KIND, "outcomes_by_k", depth=depth)
    return figures(connection), size(connection)


def figures_of_one_k(study: Study, search: Search, *, k: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The same for the queries of split test and one k."""
    connection = _voting(study, search, TEST)
    create(connection, "scores", KIND, "neighbor_scores", k=k)
    return figures_of_scores(connection, k=k), size(connection)


def best_k(rows: list[dict[str, Any]]) -> int:
    """The k with the best micro F1; the smallest of several."""
    return min((-row["value"], row["k"]) for row in rows if (row["metric"], row["average"]) == ("f1", "micro"))[1]


def classify_by_neighbors(study: Study, *, val: Search, test: Search) -> pa.Table | None:
    """Rows of `classification`: every k on the validation queries, and the best of them on the test queries; None where no query can be judged.

    k goes to the depth of the shallower search. The rows bear the index of the test search.
    """
    depth = min(val.run["parameters"]["k"], test.run["parameters"]["k"])
    on_val, val_size = figures_of_every_k(study, val, depth=depth)
    if not on_val:
        return None
    chosen = best_k(on_val)
    on_test, test_size = figures_of_one_k(study, test, k=chosen)
    if not on_test:
        return None
    constant = {"encoder": test.encoder, "index": test.index, "classifier": "knn", "seed": None}
    on_val = [row | {"chosen": row["k"] == chosen} for row in on_val]
    return pa.concat_tables(
        [
            classification_rows(on_val, split=VAL, **constant, **val_size),
            classification_rows(on_test, split=TEST, chosen=True, **constant, **test_size),
        ]
    )


def _voting(study: Study, search: Search, split: str) -> duckdb.DuckDBPyConnection:
    """`judging` the queries of one split, with view neighbors."""
    parameters = search.run["parameters"]
    connection = judging(
        study, search.encoder, gallery=parameters["gallery"], queries=parameters["queries"], split=split
    )
    attach(connection, "neighbors", study, study.files(*search.parts))
    return connection
