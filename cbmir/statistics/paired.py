"""Two systems that answered the same queries: their difference, its interval, and a permutation test.

Smucker, Allan and Carterette, A comparison of statistical significance tests for information retrieval evaluation, CIKM 2007: under the null
hypothesis it makes no difference which of both systems gave which answer, so they are exchanged at random. Here by cluster (patient): images of one patient
are no independent evidence. The statistic is the figure itself, micro or macro.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from cbmir.statistics.bootstrap import Resamples
from cbmir.statistics.drawing import Grouped, drawn_figures
from cbmir.statistics.figures import Figures

_AT_ONCE = 10_000  # permutations: a byte for eight of each cluster
_ROUNDING = (
    1e-11  # of the largest value: sums of 160,000 numbers in another order differ by less, averages of ranks by more
)
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1  # (256, 8): a byte as eight signs


class Comparison(NamedTuple):
    """Each (pairs, r, m) float64: figures of a less those of b, their interval, and a two-sided p."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


class Exchanges:
    """`count` random choices, for each cluster, whether two systems are exchanged; the same for the same clusters, count, seed and block."""

    def __init__(self, clusters: int, count: int, seed: int, block: int) -> None:
        rng = np.random.default_rng([seed, 1, block])
        self.count = count
        self._bytes = rng.integers(0, 256, (clusters, -(-count // 8)), dtype=np.uint8)

    def factors(self, clusters: np.ndarray) -> np.ndarray:
        return _SIGNS.take(self._bytes[clusters], axis=0).reshape(len(clusters), -1)[:, : self.count]

    def sizes(self, members: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return np.full(self.count, members.sum())


@threadpool_limits.wrap(limits=1, user_api="blas")  # drawing.py says why
def compare(
    values: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    figures: Figures,
    resamples: Resamples,
    *,
    permutations: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """values (s, n, m) of s systems, finite; pairs (a, b) of systems 0 to s - 1 -> Comparison.

    The interval is that of the difference in `resamples`, whose clusters are also those that are exchanged: what makes queries hard for both
    systems cancels. NaN where no interval can be given (`Resamples.intervals`).
    p = (1 + permutations with a difference as large) / (1 + permutations): 1 where both are equal or all queries are of one cluster, NaN where the difference is.
    All figures and pairs share the exchanges, of which each system has to be summed once: sums under exchange of a and b are its sum less that of b.
    A difference that rounding could have made is 0.
    """
    systems = _Systems(values)
    flat = resamples.checked(systems.columns(values), figures)
    first, second = systems.sides(pairs)
    difference = systems.less(figures.means(flat).T, first, second)  # (pairs, m, r)
    low, high = np.full((2, *difference.shape), np.nan)
    for figure, ends in resamples.ends(flat, figures, lambda found: systems.less(found, first, second), level=level):
        low[..., figure], high[..., figure] = ends
    grouped = Grouped(figures, resamples.codes)
    least = np.abs(difference) - systems.rounding
    as_large = np.zeros(difference.shape, np.int64)
    for start in range(0, permutations, _AT_ONCE):
        exchanges = Exchanges(resamples.clusters, min(_AT_ONCE, permutations - start), seed, start // _AT_ONCE)
        for figure, found, _ in drawn_figures(flat, figures, grouped, exchanges):
            for pair, (a, b) in enumerate(pairs):  # one by one: all pairs at once could take gigabytes
                large = np.abs(systems.less(found, a, b)) >= least[pair, :, figure, None]
                as_large[pair, :, figure] += large.sum(axis=1)
    p = np.where(np.isnan(difference), np.nan, (1 + as_large) / (1 + permutations))
    return Comparison(*(each.swapaxes(1, 2) for each in (difference, low, high, p)))


class _Systems:
    """Shape and scale of values (s, n, m), whose columns are handled as s * m of one matrix."""

    def __init__(self, values: np.ndarray) -> None:
        if np.ndim(values) != 3:
            raise ValueError(f"found values of shape {np.shape(values)}; expected (systems, queries, columns)")
        self.count, _, self.m = values.shape
        largest = np.fmax.reduce(np.abs(values), axis=(0, 1), initial=0.0)
        self.rounding = _ROUNDING * largest[:, None]  # (m, 1)

    def columns(self, values: np.ndarray) -> np.ndarray:
        """(s, n, m) -> (n, s * m) float64."""
        return np.asarray(values, np.float64).transpose(1, 0, 2).reshape(values.shape[1], -1)

    def less(self, found: np.ndarray, a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
        """found (s * m, d) -> a less b (..., m, d)."""
        each = found.reshape(self.count, self.m, -1)
        difference = each[a] - each[b]
        return np.where(np.abs(difference) <= self.rounding, 0.0, difference)

    def sides(self, pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """pairs -> first (pairs,), second (pairs,) int64."""
        both = np.array(pairs, np.int64).reshape(-1, 2)
        if both.size and (both.min() < 0 or both.max() >= self.count):
            raise ValueError(f"found pairs of systems {both.min()} to {both.max()}; expected 0 to {self.count - 1}")
        return both[:, 0], both[:, 1]
