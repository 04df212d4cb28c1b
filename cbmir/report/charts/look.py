"""How a line looks: colors that color-blind people tell apart, and dashes and markers for those who print in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Okabe and Ito's palette without its yellow, which is faint on white; the page's own ink stands for its black
INK, FAINT = "#010203", "#040506"  # the page replaces them by its own colors
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = "os^Dv<>P*Xp"
CHANCE = {"color": INK, "linestyle": (0, (2, 3)), "linewidth": 1.3}
SMALL = 0.78  # of several panels on a page
EXPECTED = {
    "linestyle": (0, (3, 2.2)),
    "linewidth": 1.0,
    "markerfacecolor": "none",
    "markeredgewidth": 1.1,
}  # beyond what was measured


def look(place: int, *, size: float = 1.0) -> dict[str, Any]:
    """Line style of the line at `place` (from 0): no two of the first 55 have marker and dashes in common, and none of 385 the color, too."""
    return _style(place, place, place, size)


def looks(encoders: Sequence[str], variants: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(encoder, variant) -> line style. Where they suffice, an encoder has its color and marker and a variant its dashes."""
    if 1 < len(variants) <= len(DASHES) and len(encoders) <= len(MARKERS):
        return {(e, v): _style(i, j, i, SMALL) for i, e in enumerate(encoders) for j, v in enumerate(variants)}
    pairs = [(encoder, variant) for variant in variants for encoder in encoders]
    return {pair: look(place, size=SMALL) for place, pair in enumerate(pairs)}


def expected(style: dict[str, Any]) -> dict[str, Any]:
    """The style of the same line where it is extrapolated: other dashes, its marker open."""
    return {**style, **EXPECTED}


def _style(color: int, dash: int, marker: int, size: float) -> dict[str, Any]:
    return {
        "color": COLORS[color % len(COLORS)],
        "linestyle": DASHES[dash % len(DASHES)],
        "marker": MARKERS[marker % len(MARKERS)],
        "markersize": 5.5 * size,
        "linewidth": 1.8 * size,
    }
