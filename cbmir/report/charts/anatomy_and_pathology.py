"""The same neighbors, judged by anatomy and by pathology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.by_encoder import over_encoders
from cbmir.report.charts.chart import Chart, Table, table
from cbmir.report.charts.index_size_anatomy import LEVELS
from cbmir.report.charts.look import COLORS
from cbmir.report.charts.words import Row, brief, by_search, metric, number, of_question, several, share

_LETTERS = 28  # of an encoder's name
_LOOK = {"color": COLORS[0], "marker": "o"}


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """A panel a level, anatomy first, with a line an encoder, the best on top."""
    titled = {LEVELS[level]: here for level, here in _levels(rows).items()}
    label = ", ".join(filter(None, (metric(rows[0]), of_question(rows))))
    columns = 3 if len(titled) > 2 else 2
    return over_encoders(titled, order, dict.fromkeys(titled, _LOOK), columns=columns, label=label, letters=_LETTERS)


def _levels(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Level -> its rows, in the statement's order."""
    return {
        level: [row for row in rows if row["relevance"] == level]
        for level in dict.fromkeys(row["relevance"] for row in rows)
    }


def says(rows: list[Row], order: Sequence[str]) -> str:
    """What the best encoder reaches at each level, beside chance."""
    mine = [row for row in rows if row["encoder"] == order[0]]
    reached = several(f"{brief(row['value'])}{_chance(row)} for the {LEVELS[row['relevance']]}" for row in mine)
    return f"{metric(mine[0])} of {by_search(mine[0])} is {reached}."


def _chance(row: Row) -> str:
    return "" if row["chance"] is None else f" (chance {brief(row['chance'])})"


def _table(rows: list[Row]) -> Table:
    columns = {
        "level": ("right means", str), "encoder": ("encoder", str), "index": ("index", str), "value": (metric(rows[0]), share), "ci_low": ("from", share),
        "ci_high": ("to", share), "chance": ("chance", share), "n_queries": ("queries", number),
    }  # fmt: skip
    return table([row | {"level": LEVELS[row["relevance"]]} for row in rows], columns, texts=3)


CHART = Chart(
    "anatomy_and_pathology",
    "Anatomy against pathology",
    ("metrics",),
    draw,
    says,
    _table,
    "Any image embedding tells a hand from a chest, so the panels without a label say little about medicine; those with a label count. The dashed line is "
    "chance: read a point by how far it lies beyond it. Bars are 95 % intervals over patients.",
)
