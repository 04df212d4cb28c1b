"""P@k along the list of neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.chart import Chart, Table
from cbmir.report.charts.grid import panels, shares, sizes_below
from cbmir.report.charts.look import CHANCE, SMALL, look
from cbmir.report.charts.words import Row, brief, by_search, of_question, several, share

_KS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)  # that are marked, and in the table
_SAID = 10  # the k beside the first and the last that the sentence is about


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """Micro and macro side by side; a line an encoder, chance dashed."""
    from matplotlib.lines import Line2D

    averages = _averages(rows)
    styles = {encoder: look(place, size=SMALL) for place, encoder in enumerate(order)}
    legend = {name: Line2D([], [], **styles[encoder]) for encoder, name in _names(rows, order).items()}
    if any(row["chance"] is not None for row in rows):
        legend["chance"] = Line2D([], [], **CHANCE)
    figure, axes = panels(len(averages), columns=2, height=2.7, legend=legend)
    words = ", ".join(filter(None, ("k: how many neighbors are looked at", of_question(rows))))
    for one, average in zip(axes, averages, strict=True):
        _panel(one, _lines(rows, average), styles)
        one.set_title(average)
        one.set_ylabel(f"P@k, {rows[0]['relevance']}" if one is axes[0] else "")
        sizes_below(one, _marked(rows), label=words, columns=2, room=1.08, say=str)
    shares(axes, [row[key] for row in rows for key in ("value", "chance") if row[key] is not None])
    return figure


def _panel(axes: Any, lines: dict[str, list[Row]], styles: dict[str, dict[str, Any]]) -> None:
    marked = set(_marked([row for line in lines.values() for row in line]))
    for place, (encoder, line) in enumerate(lines.items()):
        at = [i for i, row in enumerate(line) if row["k"] in marked]
        axes.plot(
            [row["k"] for row in line],
            [row["value"] for row in line],
            markevery=at,
            zorder=40 - place,
            gid=f"measured-of-{place}",
            **styles[encoder],
        )
    known = [row for row in next(iter(lines.values())) if row["chance"] is not None]
    if known:
        axes.plot([row["k"] for row in known], [row["chance"] for row in known], gid="chance-of-panel", **CHANCE)


def _averages(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["average"] for row in rows))


def _names(rows: Sequence[Row], order: Sequence[str]) -> dict[str, str]:
    """Encoder -> as the legend names it, the best first."""
    named = {row["encoder"]: by_search(row) for row in rows}
    return {encoder: named[encoder] for encoder in order}


def _lines(rows: Sequence[Row], average: str) -> dict[str, list[Row]]:
    """Encoder -> its rows of one average, by k."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["average"] == average:
            found.setdefault(row["encoder"], []).append(row)
    return found


def _marked(rows: Sequence[Row]) -> list[int]:
    """The k that are marked: of the usual ones those that are there, and the last."""
    there = {row["k"] for row in rows}
    return sorted(there.intersection(_KS) | {max(there)})


def says(rows: list[Row], order: Sequence[str]) -> str:
    """P@k of the best encoder at the first k, at ten and at the last, and who is ahead at the last."""
    lines = _lines(rows, _averages(rows)[0])
    mine = lines[order[0]]
    ks = sorted({mine[0]["k"], mine[-1]["k"]} | {row["k"] for row in mine if row["k"] == _SAID})
    figures = several(f"{brief(row['value'])} at k = {row['k']:,}" for row in mine if row["k"] in ks)
    chance = "" if mine[0]["chance"] is None else f"; chance is {brief(mine[0]['chance'])}"
    said = f"P@k of {by_search(mine[0])} is {figures}{chance}."
    last = max((line[-1] for line in lines.values() if line[-1]["k"] == mine[-1]["k"]), key=lambda row: row["value"])
    ahead = len(ks) > 1 and float(brief(last["value"])) > float(brief(mine[-1]["value"]))
    return f"{said} At k = {last['k']:,} {by_search(last)} is ahead with {brief(last['value'])}." if ahead else said


def _table(rows: list[Row]) -> Table:
    """A row an average and encoder, a column each k that is marked; chance below the encoders."""
    ks = _marked(rows)
    lines = []
    for average in _averages(rows):
        found = _lines(rows, average)
        for encoder, line in found.items():
            at = {row["k"]: share(row["value"]) for row in line}
            lines.append((average, encoder, line[0]["index"], *(at.get(k, "–") for k in ks)))
        chance = {row["k"]: share(row["chance"]) for row in next(iter(found.values()))}
        lines.append((average, "chance", "", *(chance.get(k, "–") for k in ks)))
    return Table(("average", "encoder", "index", *(f"P@{k}" for k in ks)), lines, 3)


CHART = Chart(
    "precision_at_every_k",
    "Precision along the list of neighbors",
    ("metrics",),
    draw,
    says,
    _table,
    "Of the first k neighbors, the share that are right. A line that falls slowly keeps finding the right images far down the list. Small classes cannot stay "
    "high: a label with 5 gallery images can fill no more than half of the first 10 places. The table shows some k, the statement gives every one.",
)
