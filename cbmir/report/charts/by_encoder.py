"""A line an encoder: points with their intervals, chance dashed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.grid import WIDTH, end, whiskers
from cbmir.report.charts.look import CHANCE, INK
from cbmir.report.charts.words import Row, by_search, short

_ROW = 0.23  # inches


def over_encoders(
    titled: dict[str, list[Row]],
    encoders: Sequence[str],
    styles: dict[str, dict[str, Any]],
    *,
    columns: int,
    label: str,
    letters: int,
) -> Any:
    """A panel for each title with its rows, one an encoder, the first of `encoders` on top, all on the same axes of shares.

    `letters` of an encoder's name stand beside its line.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(titled))
    lines = -(-len(titled) // columns)
    figure = Figure(figsize=(WIDTH, lines * (0.8 + _ROW * max(2, len(encoders)))), layout="constrained")
    places = {encoder: -place for place, encoder in enumerate(encoders)}
    drawn = [row for rows in titled.values() for row in rows]
    names = {row["encoder"]: by_search(row) for row in drawn}
    farthest = max(max(row["chance"] or 0.0, end(row, "ci_high")) for row in drawn)
    for place, (title, rows) in enumerate(titled.items()):
        axes = figure.add_subplot(lines, columns, place + 1)
        _panel(axes, rows, places, styles[title])
        axes.set_title(title)
        axes.set_xlabel(label if place >= len(titled) - columns else "")
        axes.set_xlim(0, min(1.03, max(0.05, 1.08 * farthest)))
        shown = [short(names[encoder], letters) for encoder in places] if place % columns == 0 else [""] * len(places)
        axes.set_yticks(list(places.values()), shown)
        axes.set_ylim(min(places.values()) - 0.7, 0.7)
    return figure


def _panel(axes: Any, rows: list[Row], places: dict[str, int], style: dict[str, Any]) -> None:
    ys, values = [places[row["encoder"]] for row in rows], [row["value"] for row in rows]
    if any(row["ci_low"] is not None for row in rows):
        axes.errorbar(values, ys, xerr=whiskers(rows), fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5)
    axes.plot(values, ys, linestyle="none", markersize=6, zorder=10, gid="measured-of-0", **style)
    chance = [row["chance"] for row in rows if row["chance"] is not None]
    if chance:
        axes.axvline(max(chance), gid="chance-of-panel", **CHANCE)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
