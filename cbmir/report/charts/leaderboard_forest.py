"""Every encoder's P@k with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.by_encoder import over_encoders
from cbmir.report.charts.chart import Chart, Table, table
from cbmir.report.charts.look import COLORS
from cbmir.report.charts.words import Row, brief, by_search, metric, number, of_question, several, share

_LOOK = {"micro": {"color": COLORS[0], "marker": "o"}, "macro": {"color": COLORS[1], "marker": "s"}}
_LETTERS = 60  # of an encoder's name


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """A line an encoder, the best on top; micro and macro side by side, chance dashed."""
    titled = {name: here for name in _LOOK if (here := [row for row in rows if row["average"] == name])}
    words = (metric(rows[0]), f"{rows[0]['relevance']} (dashed: chance)", of_question(rows))
    return over_encoders(
        titled, _ranked(rows), _LOOK, columns=2, label=", ".join(filter(None, words)), letters=_LETTERS
    )


def _ranked(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["encoder"] for row in rows))


def says(rows: list[Row], order: Sequence[str]) -> str:
    """The best encoder, and whose interval reaches into its own."""
    here = [row for row in rows if row["average"] == rows[0]["average"]]
    best, *others = here
    interval = "" if best["ci_low"] is None else f" ({brief(best['ci_low'])} to {brief(best['ci_high'])})"
    name = metric(best)
    if not others:
        return f"{name} of {by_search(best)} is {brief(best['value'])}{interval}."
    said = f"{name} is highest with {by_search(best)}, {brief(best['value'])}{interval}"
    if best["ci_low"] is None:
        return f"{said}; lowest with {by_search(others[-1])}, {brief(others[-1]['value'])}."
    near = [by_search(row) for row in others if row["ci_high"] is not None and row["ci_high"] >= best["ci_low"]]
    if not near:
        return f"{said}; no other encoder's interval reaches into its own."
    named = several(near[:3]) if len(near) <= 3 else f"{len(near)} others"
    return f"{said}; the {'interval' if len(near) == 1 else 'intervals'} of {named} {'reaches' if len(near) == 1 else 'reach'} into its own."


def _table(rows: list[Row]) -> Table:
    columns = {
        "encoder": ("encoder", str), "index": ("index", str), "average": ("average", str), "value": (metric(rows[0]), share),
        "ci_low": ("from", share), "ci_high": ("to", share), "chance": ("chance", share), "n_queries": ("queries", number),
        "n_patients": ("patients", number), "gallery_size": ("gallery", number),
    }  # fmt: skip
    return table(rows, columns, texts=3)


CHART = Chart(
    "leaderboard_forest",
    "Encoders with their intervals",
    ("metrics",),
    draw,
    says,
    _table,
    "Bars are 95 % intervals over patients. Two encoders are compared by the paired tests of cbmir evaluate (view comparisons), which see differences that "
    "overlapping intervals hide.",
)
