"""Which label the nearest neighbor has in place of the query's: the most frequent pairs, and a matrix for each encoder."""

from __future__ import annotations

from typing import Any

from cbmir.report.heat import step
from cbmir.report.sources import Sources
from cbmir.select import attach

PAIRS = 15  # of the most frequent confusions
MOST = 32  # labels of a matrix


def confusions(sources: Sources, order: list[str]) -> list[dict[str, Any]] | None:
    """{encoder, pairs, matrix} of each encoder in `order`; None where the study has no confusions of these searches."""
    study = sources.study
    run = study.run_of("confusions")
    if run is None or run["inputs"] != sources.metrics_run["inputs"]:
        return None
    attach(sources.connection, "confusions", study, study.files("confusions"))
    pairs = _by_encoder(sources.rows("confusion_pairs", n=PAIRS))
    labels = _by_encoder(sources.table("shown", "confusion_labels", most=MOST))
    cells = _by_encoder(sources.rows("confusion_cells"))
    found = [name for name in order if name in labels]
    return [{"encoder": e, "pairs": pairs.get(e, []), "matrix": _matrix(labels[e], cells.get(e, []))} for e in found]


def _by_encoder(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["encoder"], []).append(row)
    return found


def _matrix(labels: list[dict[str, Any]], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """{columns, rows, shown, labels: how many there are, shown or not}. Rows and columns in the order of the labels' names, so that those of one region stand together; behind them what is not shown, and nothing."""
    names = [row["label"] for row in labels]
    shares: dict[str, dict[str | None, float]] = {}
    sizes: dict[str, int] = {}
    for cell in cells:
        shares.setdefault(cell["label"], {})[cell["retrieved"]] = cell["share"]
        sizes[cell["label"]] = cell["n_queries"]
    used = {retrieved for row in shares.values() for retrieved in row}
    columns: list[str | None] = [*names, *(more for more in (None, "") if more in used)]
    rows = [
        {"label": name, "n_queries": sizes[name], "cells": [_cell(shares[name].get(c), c == name) for c in columns]}
        for name in names
        if name in shares
    ]
    return {"columns": columns, "rows": rows, "shown": len(names), "labels": labels[0]["labels"]}


def _cell(share: float | None, is_same: bool) -> dict[str, Any]:
    return {"share": share, "is_same": is_same, "step": None if share is None else step(share, 1.0)}
