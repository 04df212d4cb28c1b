"""Panels side by side under one legend, as wide as a page of a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cbmir.report.charts.words import Row, size

WIDTH = 7.2  # inches
_LETTER, _SAMPLE = 0.063, 0.62  # inches: a letter of the legend, and the line before each name
_TICKS = 17  # sizes below panels that are as wide as the page


def panels(count: int, *, columns: int, height: float = 2.25, legend: dict[str, Any]) -> tuple[Any, list[Any]]:
    """A figure with `count` axes, row by row, and a legend {name: handle} below them -> (figure, axes)."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    across = _across(list(legend))
    lines = -(-len(legend) // across)
    figure = Figure(figsize=(WIDTH, rows * height + 0.17 * lines + 0.15), layout="constrained")
    figure.get_layout_engine().set(hspace=0.06, wspace=0.04)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y")
        one.set_axisbelow(True)
        one.tick_params(length=2.5, labelsize="small")
    if legend:
        figure.legend(
            list(legend.values()), list(legend), loc="outside lower center", ncols=across, fontsize="small",
            handlelength=3.6, columnspacing=1.4, labelspacing=0.35,
        )  # fmt: skip
    return figure, axes


def _across(names: Sequence[str]) -> int:
    """Columns of a legend that fit on the page."""
    for columns in (4, 3, 2):
        lines = -(-len(names) // columns)
        longest = [max(map(len, names[i : i + lines])) for i in range(0, len(names), lines)]
        if len(names) >= columns and sum(_SAMPLE + _LETTER * letters for letters in longest) <= WIDTH:
            return columns
    return 1


def shares(axes: Sequence[Any], values: Sequence[float]) -> None:
    """The same y axis from 0 for panels of shares: a little above the highest of `values`."""
    top = min(1.03, max(0.05, max(values, default=1.0) * 1.08))
    for one in axes:
        one.set_ylim(0, top)


def end(row: Row, key: str) -> float:
    """An end of the row's interval, `key` ci_low or ci_high; its value where there is no interval."""
    return row["value"] if row[key] is None else row[key]


def whiskers(rows: Sequence[Row]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    return [
        [max(0.0, row["value"] - end(row, "ci_low")) for row in rows],
        [max(0.0, end(row, "ci_high") - row["value"]) for row in rows],
    ]


def sizes_below(
    axes: Any, sizes: Sequence[float], *, label: str, columns: int, room: float = 1.25, say: Callable[[int], str] = size
) -> None:
    """A logarithmic x axis, of one of `columns` panels, with ticks at those of `sizes` that have room beside each other; `say` names a size."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(sizes) / room, max(sizes) * room
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(_apart(sorted(set(sizes)), ratio=(high / low) ** (columns / _TICKS))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: say(round(n))))
    axes.set_xlabel(label)


def _apart(values: list[float], *, ratio: float) -> list[float]:
    """The largest value and, going down, each that is smaller than the one before by `ratio` or more."""
    kept = values[-1:]
    for value in reversed(values[:-1]):
        if kept[-1] / value >= ratio:
            kept.append(value)
    return kept[::-1]
