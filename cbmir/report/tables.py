"""Rows of sql/report/ -> what the tables show, and the leaderboard as text."""

from __future__ import annotations

from typing import Any

from cbmir.report.charts.words import letter
from cbmir.report.ranking import question
from cbmir.report.sources import Sources, bare
from cbmir.store import Study

MOST_BARS, ENDS = 60, 30  # labels in the chart: all up to MOST_BARS, else so many from either end
BEST_AND_WORST = 8
_TEXT = (  # group, heading, key, in percent
    ("", "encoder", "encoder", False),
    ("", "index", "index", False),
    ("label, micro", "P@1", "p1_micro", True),
    ("label, micro", "P@3", "p3_micro", True),
    ("label, micro", "P@5", "p5_micro", True),
    ("label, micro", "P@10", "p10_micro", True),
    ("label, micro", "chance", "chance_micro", True),
    ("label, macro", "P@1", "p1_macro", True),
    ("label, macro", "P@3", "p3_macro", True),
    ("label, macro", "P@5", "p5_macro", True),
    ("label, macro", "P@10", "p10_macro", True),
    ("label, macro", "chance", "chance_macro", True),
    ("anatomy, P@1", "region", "region_p1", True),
    ("anatomy, P@1", "modality", "modality_p1", True),
    ("ANN", "recall", "ann_recall", True),
    ("images", "gallery", "gallery_size", False),
    ("images", "queries", "n_queries", False),
    ("images", "failed", "n_failed", False),
)


def leaderboard(study: Study) -> list[dict[str, Any]]:
    """One row a search, the best encoder first: the rows of sql/report/leaderboard.sql, shares in 0..1."""
    return board(Sources(study))


def board(sources: Sources) -> list[dict[str, Any]]:
    """The leaderboard's rows, each with the question that its search asked."""
    asked = {s["question"]: s for s in reversed(sources.searches)}
    rows = sources.rows("leaderboard")
    return [row | {"letter": letter(row["question"]), "asks": asks(asked[row["question"]])} for row in rows]


def asks(search: dict[str, Any]) -> dict[str, str]:
    """What a search compares, in the words of its predicates."""
    return {key: bare(search[key]) for key in ("gallery", "queries", "exclude_same")}


def leaderboard_text(rows: list[dict[str, Any]]) -> str:
    """The leaderboard as an aligned table, shares in percent; columns without any figure are left out."""
    columns = [column for column in _TEXT if any(row[column[2]] is not None for row in rows)]
    depth = recall_depth(rows)
    heads = [head + (f"@{depth}" if key == "ann_recall" and depth else "") for _, head, key, _ in columns]
    cells = [[_cell(row, key, in_percent, depth) for _, _, key, in_percent in columns] for row in rows]
    widths = [max(len(head), *(len(line[i]) for line in cells)) for i, head in enumerate(heads)]
    lines = [_groups([column[0] for column in columns], widths), _line(heads, widths)]
    before = None
    for row, texts in zip(rows, cells, strict=True):
        if row["letter"] != before:
            lines += ["", f"[{row['letter']}] {question(row['asks'])}"]
            before = row["letter"]
        lines.append(_line(texts, widths))
    lines += [
        "",
        "P@k and recall in percent; chance: P@1 of a gallery in random order; failed: queries that were not embedded.",
    ]
    if any(row["random_weights"] for row in rows):
        lines.append("* random weights: an untrained encoder, a control")
    return "\n".join(lines) + "\n"


def recall_depth(rows: list[dict[str, Any]]) -> int | None:
    """The k that all ANN recalls are at; None where there are several, or none."""
    depths = {row["ann_recall_k"] for row in rows} - {None}
    return depths.pop() if len(depths) == 1 else None


def _cell(row: dict[str, Any], key: str, in_percent: bool, depth: int | None) -> str:
    value = row[key]
    if value is None:
        return "-"
    if key == "ann_recall" and depth is None:
        return f"{100 * value:.1f} @{row['ann_recall_k']}"
    if in_percent:
        return f"{100 * value:.1f}"
    if key == "encoder":
        return value + (" *" if row["random_weights"] else "")
    return f"{value:,}" if isinstance(value, int) else value


def _line(texts: list[str], widths: list[int]) -> str:
    aligned = [t.ljust(w) if i < 2 else t.rjust(w) for i, (t, w) in enumerate(zip(texts, widths, strict=True))]
    return "  ".join(aligned).rstrip()


def _groups(groups: list[str], widths: list[int]) -> str:
    """Each group's name over its columns, drawn out with dashes; one column widens for a name that is longer."""
    parts = []
    for name in dict.fromkeys(groups):
        places = [i for i, group in enumerate(groups) if group == name]
        widths[places[0]] += max(0, len(name) - sum(widths[i] for i in places) - 2 * (len(places) - 1))
        width = sum(widths[i] for i in places) + 2 * (len(places) - 1)
        parts.append(f" {name} ".center(width, "-") if name and width > len(name) + 2 else name.ljust(width))
    return "  ".join(parts).rstrip()


def by_slice(sources: Sources, slice_by: str, *, relevance: str, k: int) -> list[dict[str, Any]]:
    """P@k of each slice: [{slice, n_queries, chance, cells: {encoder: row}}]."""
    found: dict[str, dict[str, Any]] = {}
    for row in sources.rows("slices", slice_by=slice_by, relevance=relevance, k=k):
        line = found.setdefault(row["slice"], {"slice": row["slice"], "n_queries": row["n_queries"], "cells": {}})
        line["cells"][row["encoder"]] = row
    return list(found.values())


def labels(sources: Sources, encoder: str, *, k: int) -> dict[str, Any] | None:
    """P@k of every label for one encoder: the chart's bars, and the best and worst; None where there is no label."""
    sources.table("slices", "slices", slice_by="label", relevance="label", k=k)
    rows = sources.rows("label_ranks", encoder=encoder)
    if not rows:
        return None
    few = rows[0]["places"] <= MOST_BARS
    most = min(BEST_AND_WORST, max(1, len(rows) // 2))
    return {
        "top": rows if few else rows[:ENDS],
        "bottom": [] if few else rows[-ENDS:],
        "left_out": 0 if few else len(rows) - 2 * ENDS,
        "best": sorted((r for r in rows if r["best"] and r["best"] <= most), key=lambda r: r["best"]),
        "worst": sorted((r for r in rows if r["worst"] and r["worst"] <= most), key=lambda r: r["worst"]),
        "count": rows[0]["places"],
    }
