"""Figures under many random draws at once: each draw gives every cluster (patient) a factor that its values are multiplied by.

A bootstrap resample counts a cluster as often as it was drawn, a permutation counts it as +1 or -1. Either way the sum over a cell is a
product of the cell's sums by cluster and the factors of these clusters, for all draws and all columns one matrix product. It is taken in
float64: in float32 it would be twice as fast, and could no longer tell equal figures from different ones.

The callers leave BLAS one thread: there are thousands of products, most of them small, and after each all its threads wait for the last. Two
threads on two cores save a fifth of the time, and take ten times as long when something else runs on one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from cbmir.statistics.figures import Figures

_NUMBERS = 2**21  # factors in memory at once: 16 MB


class Draws(Protocol):
    """d random draws."""

    count: int  # d

    def factors(self, clusters: np.ndarray) -> np.ndarray:
        """(u,) codes of clusters -> (u, d) float64."""

    def sizes(self, members: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """members (u,) float64 of each cluster -> (d,): what the sum over these clusters is to be divided by."""


class Grouped:
    """The cells of figures with their queries ordered by cluster; codes (n,) int64 of the queries' clusters, 0 and up."""

    def __init__(self, figures: Figures, codes: np.ndarray) -> None:
        cell = np.repeat(np.arange(figures.cells), np.diff(figures.bounds))
        cluster = codes[figures.positions]
        order = np.lexsort((cluster, cell))
        cell, cluster, self._positions = cell[order], cluster[order], figures.positions[order]
        first = np.flatnonzero(np.r_[True, (np.diff(cell) != 0) | (np.diff(cluster) != 0)][: len(cell)])
        self._clusters = cluster[first]  # (g,): a group is one cluster's queries in one cell
        self._bounds = np.r_[first, len(cell)]  # (g + 1,) into the positions
        self._cells = np.searchsorted(cell[first], np.arange(figures.cells + 1))  # into the groups

    def sums(self, values: np.ndarray, cell: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """values (n, m) -> sums (m, d) of a cell's values in each draw, and what (d,) they are to be divided by."""
        sums, sizes = np.zeros((values.shape[1], draws.count)), np.zeros(draws.count)
        step = max(1, _NUMBERS // draws.count)
        for start in range(self._cells[cell], self._cells[cell + 1], step):
            stop = min(start + step, self._cells[cell + 1])
            bounds = self._bounds[start : stop + 1] - self._bounds[start]
            rows = values[self._positions[self._bounds[start] : self._bounds[stop]]]
            factors = draws.factors(self._clusters[start:stop])  # (u, d)
            sums += np.add.reduceat(rows, bounds[:-1], axis=0).T @ factors
            sizes += draws.sizes(np.diff(bounds).astype(np.float64), factors)
        return sums, sizes

    def single(self, figures: Figures) -> np.ndarray:
        """(r,) bool: whether all queries of a figure are of one cluster; False for one without queries."""
        found = np.zeros(figures.count, bool)
        for figure in range(figures.count):
            cells = figures.parts_of(figure)
            firsts, lasts = self._clusters[self._cells[cells]], self._clusters[self._cells[cells + 1] - 1]
            found[figure] = len(cells) > 0 and firsts.min() == lasts.max()
        return found


def drawn_figures(
    values: np.ndarray, figures: Figures, grouped: Grouped, draws: Draws
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """values (n, m) float64 -> each figure that has entries, once, with what it is (m, d') in the d' draws in which it has a query, and which (d,) those are.

    A cell without a query in a draw is left out of that draw's mean over cells. A figure is handed out when its last cell is done, so that only the
    unfinished ones take memory.
    """
    users: list[list[int]] = [[] for _ in range(figures.cells)]
    for figure in range(figures.count):
        for cell in figures.parts_of(figure):
            users[cell].append(figure)
    left = np.diff(figures.part_bounds)
    running: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for cell, wanted in enumerate(users):
        sums, sizes = grouped.sums(values, cell, draws)
        means, seen = sums / np.maximum(sizes, 1), sizes > 0  # 0 / 1 where it is not seen
        for figure in wanted:
            total, times = running.get(figure, (0.0, 0))
            running[figure] = total + means, times + seen
            left[figure] -= 1
            if not left[figure]:
                total, times = running.pop(figure)
                yield figure, total[:, times > 0] / times[times > 0], times > 0
