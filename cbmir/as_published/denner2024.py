"""The figures of Denner et al. 2024 as their published code gives them.

What is wrong there stays: queries without a vector, or whose label no gallery image has, are dropped in silence; only as many neighbors vote as gallery
images have the query's own label; k of the kNN classification is the 0-based row number of the best validation row, one less than the best k.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import duckdb

from cbmir.as_published.label_order import label_order
from cbmir.classifying.figures import KIND, figures_of_scores, judging
from cbmir.classifying.knn import TEST, VAL, Search
from cbmir.classifying.pairs import searches_of_test
from cbmir.errors import UserError
from cbmir.select import attach
from cbmir.sql_files import bind, create
from cbmir.sql_files import read as statement
from cbmir.store import Study, path_name, run_record

NAME = "denner2024"
MOST = 99  # N and k go from 1 to it
_COLUMNS = {  # of their CSV files: metric and average here
    "micro_roc_auc": ("roc_auc", "micro"),
    "micro_f1": ("f1", "micro"),
    "macro_roc_auc": ("roc_auc", "macro"),
    "macro_f1": ("f1", "macro"),
    "macro_precision": ("precision", "macro"),
    "macro_recall": ("recall", "macro"),
    "macro_accuracy": ("accuracy", "micro"),
}
_RETRIEVAL = ["micro_precision_mean", "micro_precision_std", "macro_precision_mean", "macro_precision_std"]


class Figures(NamedTuple):
    """Rows of the three CSV files: dicts of their columns; the first two have a row for N, or k, = 1 .. 99."""

    retrieval: list[dict[str, float | None]]
    knn_validation_val: list[dict[str, float | None]]
    knn_classification: list[dict[str, float | None]]
    best_row: int  # the 0-based row of the best micro F1 on val, which they take for k


def denner2024(study: Study, *, val: Search, test: Search, order: Sequence[str]) -> Figures:
    """A search of val and one of test, both with 99 neighbors or more -> the published figures; `order`: of the label columns."""
    validating = _connection(study, val, VAL, order)
    on_val = [_row(_knn(validating, k)) for k in range(1, MOST + 1)]
    best = max(range(MOST), key=lambda row: (on_val[row]["micro_f1"], -row))
    testing = _connection(study, test, TEST, order)
    text = statement("as_published", "retrieval")
    found = testing.execute(text, bind(text, {"most": MOST})).fetchall()
    retrieval = [dict(zip(_RETRIEVAL, row[1:], strict=True)) for row in found]
    on_test = (
        _row(_knn(testing, best)) if best else dict.fromkeys(_COLUMNS)
    )  # no neighbor at all votes: their code gives no number
    return Figures(retrieval, on_val, [on_test], best)


def write_denner2024(
    study: Study, searches: Sequence[Search], *, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Publish as_published/denner2024/<encoder>/<index> for every search of the test split that has one of val beside it -> their run.json.

    Three CSV files as the paper's code writes them, and run.json. What a search lacks is told in a line; UserError where nothing could be written.
    """
    order, known = label_order(study)
    if not known:
        say("as published: the manifest does not say the order of the label columns (source denner-csv does); labels are taken in alphabetical "
            "order, so that of two labels with equal scores another may be predicted than theirs")  # fmt: skip
    made, lacking = [], []
    for test, val, what_to_run in searches_of_test(study, searches):
        line = what_to_run if val is None else _unfit(study, val, test, order)
        if line:
            lacking.append(line)
            say(line)
            continue
        made.append(_publish(study, val, test, order))
        say(f"as published: denner2024 of {test.encoder} by {test.index}: 3 CSV files in as_published/{NAME}")
    if not made:
        raise UserError(
            lacking[0] if lacking else "as published: no search of split test; make one with: cbmir search -k 100"
        )
    return made


def _publish(study: Study, val: Search, test: Search, order: Sequence[str]) -> dict[str, Any]:
    figures = denner2024(study, val=val, test=test, order=order)
    inputs = {"manifest": study.require("manifest")["fingerprint"]}
    inputs |= {"neighbors_val": val.run["fingerprint"], "neighbors_test": test.run["fingerprint"]}
    run = run_record(
        "as_published",
        parameters={"as_published": NAME, "label_order": list(order)},
        inputs=inputs,
        rows=len(figures.retrieval),
    )
    with study.publishing("as_published", NAME, path_name(test.encoder), path_name(test.index)) as out:
        for name in ("retrieval", "knn_validation_val", "knn_classification"):
            numbered = name != "knn_classification"
            study.write_bytes(_csv(getattr(figures, name), numbered=numbered), *out.parts, f"{name}.csv")
        out.run = run | {"best_row": figures.best_row}
    return out.run


def _connection(study: Study, search: Search, split: str, order: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """As `judging`, by their definitions, with table caps and view neighbors."""
    parameters = search.run["parameters"]
    connection = judging(
        study, search.encoder, gallery=parameters["gallery"], queries=parameters["queries"], split=split
    )
    attach(connection, "neighbors", study, study.files(*search.parts))
    connection.execute("CREATE TEMP TABLE label_order (code INTEGER, label TEXT)")
    connection.executemany("INSERT INTO label_order VALUES (?, ?)", list(enumerate(order, 1)))
    for kind, table in (
        ("as_published", "judged"),
        ("as_published", "labels"),
        (KIND, "carriers"),
        (KIND, "truths"),
        ("as_published", "caps"),
    ):
        create(connection, table, kind, table)
    return connection


def _knn(connection: duckdb.DuckDBPyConnection, k: int) -> list[dict[str, Any]]:
    create(connection, "scores", "as_published", "capped_scores", k=k)
    return figures_of_scores(connection, k=k, rates=("as_published", "rates"))


def _row(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    values = {(row["metric"], row["average"]): row["value"] for row in rows}
    return {column: values[name] for column, name in _COLUMNS.items()}


def _unfit(study: Study, val: Search, test: Search, order: Sequence[str]) -> str | None:
    """Why the published definitions say nothing of two searches, in a line; None where they do."""
    said = f"as published: no denner2024 of {test.encoder} by {test.index}: "
    for search in (val, test):
        if search.run["parameters"]["k"] < MOST:
            return f"{said}neighbors {search.index} were searched with -k {search.run['parameters']['k']}; expected {MOST} or more, as with -k 100"
        parameters = search.run["parameters"]
        connection = judging(study, search.encoder, gallery=parameters["gallery"], queries=parameters["queries"])
        asked = "SELECT count(*) FROM manifest SEMI JOIN (FROM gallery_keys UNION FROM query_keys) USING (image_key) WHERE len(labels) > 1"
        several = connection.execute(asked).fetchall()[0][0]
        if several:
            return f'{said}{several:,} images have several labels, and it is defined for one; search images with one: --gallery and --queries "... AND len(labels) = 1"'
    for search, split in ((val, VAL), (test, TEST)):
        judged = _connection(study, search, split, order).execute("SELECT count(*) FROM judged").fetchall()
        if judged == [(0,)]:
            return f"{said}no image of split {split} has a vector and a label that the gallery has"
    return None


def _csv(rows: list[dict[str, float | None]], *, numbered: bool) -> bytes:
    """As pandas writes a frame: with a first column of row numbers, from 0, where it is `numbered`; a missing number is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*([""] if numbered else []), *rows[0]])
    for number, row in enumerate(rows):
        values = ["" if value is None else repr(value) for value in row.values()]
        writer.writerow([*([number] if numbered else []), *values])
    return text.getvalue().encode()
