"""Every encoder's P@k with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.chart import Chart, Table, table
from cbmir.report.charts.grid import WIDTH
from cbmir.report.charts.look import CHANCE, COLORS, INK
from cbmir.report.charts.words import Row, brief, metric, number, several, share

_ROW = 0.23  # inches
_LOOK = {"micro": {"color": COLORS[0], "marker": "o"}, "macro": {"color": COLORS[1], "marker": "s"}}


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """A line an encoder, the best on top; micro and macro side by side, chance dashed."""
    from matplotlib.figure import Figure

    encoders = _ranked(rows)
    averages = [name for name in _LOOK if any(row["average"] == name for row in rows)]
    figure = Figure(figsize=(WIDTH, 0.8 + _ROW * max(2, len(encoders))), layout="constrained")
    farthest = [*(row["chance"] or 0.0 for row in rows), *(_or(row, "ci_high") for row in rows)]
    places = {encoder: -place for place, encoder in enumerate(encoders)}
    for column, average in enumerate(averages):
        axes = figure.add_subplot(1, len(averages), column + 1)
        here = [row for row in rows if row["average"] == average]
        _panel(axes, here, places, _LOOK[average])
        axes.set_title(average)
        axes.set_xlabel(f"{metric(here[0] | {'metric': 'precision_at_k'})}, {here[0]['relevance']} (dashed: chance)")
        axes.set_xlim(0, min(1.03, max(0.05, 1.08 * max(farthest))))
        axes.set_yticks(list(places.values()), list(places) if column == 0 else [""] * len(places))
        axes.set_ylim(min(places.values()) - 0.7, 0.7)
    return figure


def _panel(axes: Any, rows: list[Row], places: dict[str, int], style: dict[str, Any]) -> None:
    ys = [places[row["encoder"]] for row in rows]
    bars = [
        [max(0.0, row["value"] - _or(row, "ci_low")) for row in rows],
        [max(0.0, _or(row, "ci_high") - row["value"]) for row in rows],
    ]
    if any(row["ci_low"] is not None for row in rows):
        axes.errorbar(
            [row["value"] for row in rows], ys, xerr=bars, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5
        )
    axes.plot(
        [row["value"] for row in rows], ys, linestyle="none", markersize=6, zorder=10, gid="measured-of-0", **style
    )
    chance = [row["chance"] for row in rows if row["chance"] is not None]
    if chance:
        axes.axvline(max(chance), gid="chance-of-panel", **CHANCE)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _or(row: Row, end: str) -> float:
    return row["value"] if row[end] is None else row[end]


def _ranked(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["encoder"] for row in rows))


def says(rows: list[Row], order: Sequence[str]) -> str:
    """The best encoder, and whose interval reaches into its own."""
    here = [row for row in rows if row["average"] == rows[0]["average"]]
    best, *others = here
    interval = "" if best["ci_low"] is None else f" ({brief(best['ci_low'])} to {brief(best['ci_high'])})"
    name = metric(best | {"metric": "precision_at_k"})
    if not others:
        return f"{name} of {best['encoder']} is {brief(best['value'])}{interval}."
    said = f"{name} is highest with {best['encoder']}, {brief(best['value'])}{interval}"
    if best["ci_low"] is None:
        return f"{said}; lowest with {others[-1]['encoder']}, {brief(others[-1]['value'])}."
    near = [row["encoder"] for row in others if row["ci_high"] is not None and row["ci_high"] >= best["ci_low"]]
    if not near:
        return f"{said}; no other encoder's interval reaches into its own."
    named = several(near[:3]) if len(near) <= 3 else f"{len(near)} others"
    return f"{said}; the {'interval' if len(near) == 1 else 'intervals'} of {named} {'reaches' if len(near) == 1 else 'reach'} into its own."


def _table(rows: list[Row]) -> Table:
    columns = {
        "encoder": ("encoder", str), "index": ("index", str), "average": ("average", str), "value": (metric(rows[0] | {"metric": "precision_at_k"}), share),
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
