"""Encoder x pathology: P@k of every label as a table whose cells are colored by one ramp of luminance."""

from __future__ import annotations

from typing import Any

STEPS = 10  # colors of the ramp, .h0 to .h9 of the style sheet: their text has a contrast of at least 4.5 : 1
MOST = 400  # labels, those with the most queries: a page with ten thousand rows would not open fast


def step(value: float, top: float) -> int:
    """0..top -> the color of the ramp, 0 the palest: equal parts, `top` being in the last."""
    return min(STEPS - 1, max(0, int(STEPS * value / top))) if top > 0 else 0


def heat_map(rows: list[dict[str, Any]], order: list[str]) -> dict[str, Any] | None:
    """Rows of tables.by_slice -> what the table shows; None where there is none.

    The ramp ends at the largest value of all cells, rounded up to a tenth, so that figures of hard collections can be told apart as well.
    """
    if not rows:
        return None
    kept = sorted(rows, key=lambda row: (-row["n_queries"], row["slice"]))[:MOST]
    shown = sorted(kept, key=lambda row: row["slice"])
    largest = max(cell["value"] for row in shown for cell in row["cells"].values())
    top = max(1, -int(-10 * largest // 1)) / 10
    return {
        "rows": [_row(row, order, top) for row in shown],
        "left_out": len(rows) - len(shown),
        "top": top,
    }


def _row(row: dict[str, Any], order: list[str], top: float) -> dict[str, Any]:
    """A label's figures in the order of the encoders; None where an encoder has none."""
    cells = [row["cells"].get(encoder) for encoder in order]
    first = next(cell for cell in cells if cell)
    best = round(max(cell["value"] for cell in cells if cell), 9)  # equal figures may differ in their last bit
    return {
        "label": row["slice"],
        "n_queries": row["n_queries"],
        "chance": first["chance"],
        "cells": [
            cell
            and {
                "value": cell["value"],
                "step": step(cell["value"], top),
                "is_best": round(cell["value"], 9) == best > 0 and len(order) > 1,
            }
            for cell in cells
        ],
    }
