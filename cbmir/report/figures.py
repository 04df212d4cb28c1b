"""The curves of P@k as SVG that takes its ink from the page."""

from __future__ import annotations

import io
import re
from typing import Any

# Okabe and Ito's palette without its yellow, which is faint on white; the page's own ink stands for its black
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#010203")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "os^Dv<>P*"
_INK, _FAINT = "#010203", "#040506"  # stand-ins that _inline replaces by the page's colors
_CHANCE = {"color": _INK, "linestyle": (0, (2, 3)), "linewidth": 1.3}
_KS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
_RC = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
}


def look(place: int) -> dict[str, Any]:
    """Line style of the encoder at `place` (from 0): no two alike among the first 252, in color or in grey."""
    color = COLORS[place % len(COLORS)]
    return {
        "color": color,
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5.5,
        "linewidth": 1.8,
    }


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
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    with rc_context(_RC | {"svg.hashsalt": salt}):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        depth = max(row["k"] for points in lines.values() for row in points)
        for place, points in enumerate(lines.values()):
            marked = [i for i, row in enumerate(points) if row["k"] in (*_KS, depth)]
            ks, values = [row["k"] for row in points], [100 * row["value"] for row in points]
            axes.plot(ks, values, markevery=marked, zorder=30 - place, **look(place))
        chance = next(points for points in lines.values() if points)
        axes.plot([r["k"] for r in chance], [100 * r["chance"] for r in chance], **_CHANCE)
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
        return _svg(figure)


def swatches(encoders: int) -> list[str]:
    """A piece of every encoder's line for the legend, and last of chance's."""
    return [_swatch(look(place), salt=f"swatch{place}") for place in range(encoders)] + [
        _swatch(_CHANCE, salt="chance")
    ]


def _swatch(style: dict[str, Any], *, salt: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_RC | {"svg.hashsalt": salt}):
        figure = Figure(figsize=(0.5, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **style)
        return _svg(figure)


def _svg(figure) -> str:
    buffer = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """An SVG file -> the element, without namespaces, comments and numbered ids, in the page's font and colors."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' id="[A-Za-z0-9.]+_[0-9]+"', "", svg)
    svg = re.sub(r'font-family: [^;"]+', "font-family: inherit", svg)
    svg = re.sub(r'font: ([\d.]+px) [^;"]+', r"font-size: \1; font-family: inherit", svg)
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--grid)")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg width="{float(width):g}" height="{float(height):g}" aria-hidden="true"', 1)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
