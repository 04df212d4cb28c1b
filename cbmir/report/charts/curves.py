"""The curves of P@k along the list of neighbors."""

from __future__ import annotations

from typing import Any

from cbmir.report.charts.ink import on_page, svg_element
from cbmir.report.charts.look import CHANCE, look

_KS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)


def curves(rows: list[dict[str, Any]], order: list[str]) -> dict[str, str]:
    """Rows of sql/report/curves.sql -> {'micro': svg, 'macro': svg}; one line an encoder, chance dashed."""
    top = max((max(r["value"], r["chance"]) for r in rows), default=1.0)
    panels = {}
    for average in ("micro", "macro"):
        lines = {encoder: [r for r in rows if r["average"] == average and r["encoder"] == encoder] for encoder in order}
        if any(lines.values()):
            panels[average] = _panel(lines, top=min(1.02, max(0.05, top * 1.08)), salt=average)
    return panels


def _panel(lines: dict[str, list[dict[str, Any]]], *, top: float, salt: str) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    with on_page(salt):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        depth = max(row["k"] for points in lines.values() for row in points)
        for place, points in enumerate(lines.values()):
            marked = [i for i, row in enumerate(points) if row["k"] in (*_KS, depth)]
            ks, values = [row["k"] for row in points], [100 * row["value"] for row in points]
            axes.plot(ks, values, markevery=marked, zorder=30 - place, **look(place))
        chance = next(points for points in lines.values() if points)
        axes.plot([r["k"] for r in chance], [100 * r["chance"] for r in chance], **CHANCE)
        axes.set_xscale("log")
        axes.set_xlim(0.93, max(depth, 2) * 1.08)
        axes.set_ylim(0, 100 * top)
        axes.xaxis.set_major_locator(FixedLocator([*(k for k in _KS if k < depth / 1.2), depth]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        axes.set_xlabel("k: how many neighbors are looked at")
        axes.grid(axis="y")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        return svg_element(figure)


def swatches(encoders: int) -> list[str]:
    """A piece of every encoder's line for the legend, and last of chance's."""
    return [_swatch(look(place), salt=f"swatch{place}") for place in range(encoders)] + [_swatch(CHANCE, salt="chance")]


def _swatch(style: dict[str, Any], *, salt: str) -> str:
    from matplotlib.figure import Figure

    with on_page(salt):
        figure = Figure(figsize=(0.5, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **style)
        return svg_element(figure)
