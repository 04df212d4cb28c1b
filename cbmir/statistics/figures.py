"""Which queries make which figure."""

from __future__ import annotations

import numpy as np


class Figures:
    """Figures, each the mean over its cells of the mean over a cell's queries: micro has one cell, macro a cell for each class.

    figure, cell, position (e,) int: one entry for each query of each cell, in any order. figure: 0 to r - 1. cell: any number that tells the cells
    of one figure apart; that two figures use the same number says nothing. position: row of the query among the values, 0 to n - 1;
    a query may be in several cells, and one that is in a cell twice counts twice. A figure without entries has the value NaN.
    Cells with the same queries are kept once, however many figures they are in: means over slices share most of theirs.
    ValueError where the arrays are not equally long, or a figure or position is negative.
    """

    count: int  # r
    cells: int  # distinct ones
    positions: np.ndarray  # (p,) int64: queries of all distinct cells, one cell after the other, ascending within each
    bounds: np.ndarray  # (cells + 1,) int64: where in `positions` each cell starts and the last one ends
    parts: np.ndarray  # (q,) int64: a distinct cell for each cell of each figure, in the order of figures
    part_bounds: np.ndarray  # (r + 1,) int64: where in `parts` each figure starts and the last one ends

    def __init__(self, figure: np.ndarray, cell: np.ndarray, position: np.ndarray) -> None:
        figure, cell, position = (np.asarray(each, np.int64) for each in (figure, cell, position))
        _check(figure, cell, position)
        order = np.lexsort((position, cell, figure))
        figure, cell, position = figure[order], cell[order], position[order]
        first = np.flatnonzero(np.r_[True, (np.diff(figure) != 0) | (np.diff(cell) != 0)][: len(figure)])
        distinct: dict[bytes, int] = {}
        members = np.split(position, first[1:]) if len(first) else []
        self.parts = np.array([distinct.setdefault(m.tobytes(), len(distinct)) for m in members], np.int64)
        self.count = int(figure[-1]) + 1 if len(figure) else 0
        self.part_bounds = np.searchsorted(figure[first], np.arange(self.count + 1))
        kept = [np.frombuffer(m, np.int64) for m in distinct]
        self.cells = len(kept)
        self.positions = np.concatenate([np.empty(0, np.int64), *kept])
        self.bounds = np.cumsum([0, *map(len, kept)])

    def means(self, values: np.ndarray) -> np.ndarray:
        """values (n, m) of the queries -> (r, m) float64 of the figures."""
        values = self.checked(values)
        each = np.empty((self.cells, values.shape[1]))
        for cell in range(self.cells):
            each[cell] = values[self.positions[self.bounds[cell] : self.bounds[cell + 1]]].mean(axis=0)
        found = np.full((self.count, values.shape[1]), np.nan)
        for figure in range(self.count):
            parts = self.parts_of(figure)
            if len(parts):
                found[figure] = each[parts].mean(axis=0)
        return found

    def parts_of(self, figure: int) -> np.ndarray:
        """Distinct cells (c,) of a figure; one stands there twice where two of the figure's cells have the same queries."""
        return self.parts[self.part_bounds[figure] : self.part_bounds[figure + 1]]

    def checked(self, values: np.ndarray) -> np.ndarray:
        """values (n, m) as float64; ValueError where they are not two-dimensional, or there are fewer than the positions ask for."""
        values = np.asarray(values, np.float64)
        if values.ndim != 2:
            raise ValueError(f"found values of shape {values.shape}; expected (queries, columns)")
        if len(self.positions) and self.positions.max() >= len(values):
            raise ValueError(
                f"found values of {len(values)} queries; expected more than position {self.positions.max()}"
            )
        return values


def _check(figure: np.ndarray, cell: np.ndarray, position: np.ndarray) -> None:
    if not figure.shape == cell.shape == position.shape or figure.ndim != 1:
        raise ValueError(
            f"found figure {figure.shape}, cell {cell.shape}, position {position.shape}; expected one length"
        )
    if len(figure) and min(figure.min(), position.min()) < 0:
        raise ValueError(f"found figure {figure.min()}, position {position.min()}; expected none below 0")
