"""Percentile intervals by bootstrap over clusters: patients are drawn with replacement, each with all of its queries.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile interval) and 16; Field and Welsh, Bootstrapping clustered data,
J. R. Statist. Soc. B 69 (2007), 369-390 (the cluster bootstrap). Images of one patient resemble each other: to draw them one by
one would make intervals too short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from cbmir.statistics.drawing import Grouped, drawn_figures
from cbmir.statistics.figures import Figures

_AT_ONCE = 64  # resamples counted before they are turned into columns


class Resamples:
    """How often each cluster is drawn in each of `count` resamples of as many clusters as there are.

    clusters (n,) int: a code for each query, equal for queries of one patient. Only the order of the codes matters. Whoever gives the same
    clusters, count and seed has the same resamples, and those of a smaller count are the first of a larger one. Takes a byte a cluster and resample: 160 MB for
    160,000 clusters and 1,000 resamples. ValueError where clusters are not one-dimensional or count is below 1.
    """

    def __init__(self, clusters: np.ndarray, count: int = 1000, seed: int = 0) -> None:
        clusters = np.asarray(clusters)
        if clusters.ndim != 1 or count < 1:
            raise ValueError(
                f"found clusters of shape {clusters.shape}, count {count}; expected one dimension, 1 or more"
            )
        names, codes = np.unique(clusters, return_inverse=True)
        self.count, self.clusters = count, len(names)
        self.codes = codes  # (n,) int64, 0 to clusters - 1
        self.weights = _weights(len(names), count, seed)  # (clusters, count)

    @threadpool_limits.wrap(limits=1, user_api="blas")  # drawing.py says why
    def intervals(self, values: np.ndarray, figures: Figures, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """values (n, m) -> low (r, m), high (r, m) float64: the middle `level` of what each figure is in the resamples.

        A resample in which a figure has no query says nothing of it and is left out. NaN, because no interval can be given, where a
        figure's queries are all of one cluster, where more than half of the resamples are left out, and where a value is NaN.
        """
        values = self.checked(values, figures)
        low, high = np.full((2, figures.count, values.shape[1]), np.nan)
        for figure, ends in self.ends(values, figures, lambda found: found, level=level):
            low[figure], high[figure] = ends
        return low, high

    @threadpool_limits.wrap(limits=1, user_api="blas")
    def figures(self, values: np.ndarray, figures: Figures) -> np.ndarray:
        """values (n, m) -> (r, m, count) float64: what each figure is in each resample; NaN where it has no query in it.

        Resamples with the same number, of the same clusters and seed, are of the same patients: values of other searches can be held against them.
        """
        values = self.checked(values, figures)
        every = np.full((figures.count, values.shape[1], self.count), np.nan)
        for figure, found, seen in drawn_figures(values, figures, Grouped(figures, self.codes), self):
            every[figure][:, seen] = found
        return every

    def ends(
        self, values: np.ndarray, figures: Figures, of: Callable[[np.ndarray], np.ndarray], *, level: float
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Figures of which an interval can be given, each with both ends (2, ...) of what `of` makes of its (m, d) in the resamples: (..., d)."""
        grouped = Grouped(figures, self.codes)
        single = grouped.single(figures)
        for figure, found, _ in drawn_figures(values, figures, grouped, self):
            if not single[figure] and 2 * found.shape[1] >= self.count:
                yield figure, np.quantile(of(found), [(1 - level) / 2, (1 + level) / 2], axis=-1)

    def checked(self, values: np.ndarray, figures: Figures) -> np.ndarray:
        """values (n, m) as float64; ValueError where there is not one row for each query."""
        values = figures.checked(values)
        if len(values) != len(self.codes):
            raise ValueError(f"found values of {len(values)} queries; expected {len(self.codes)}, as many as clusters")
        return values

    def factors(self, clusters: np.ndarray) -> np.ndarray:
        return self.weights[clusters].astype(np.float64)

    def sizes(self, members: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return members @ factors


def _weights(clusters: int, count: int, seed: int) -> np.ndarray:
    """(clusters, count) of the smallest unsigned type that holds them all; each column sums to `clusters`."""
    rng = np.random.default_rng([seed, 0])
    weights = np.zeros((clusters, count), np.uint8)
    for start in range(0, count if clusters else 0, _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, count))
        counted = np.stack([np.bincount(rng.integers(0, clusters, clusters), minlength=clusters) for _ in rows])
        weights = with_columns(weights, start, counted.T)
    return weights


def with_columns(weights: np.ndarray, start: int, counted: np.ndarray) -> np.ndarray:
    """`weights` with `counted` (clusters, some) from column `start` on, in a wider type where a count asks for one."""
    # a cluster that is drawn more than 255 times is next to impossible, and would be wrapped round in silence
    weights = weights.astype(np.promote_types(weights.dtype, np.min_scalar_type(counted.max())), copy=False)
    weights[:, start : start + counted.shape[1]] = counted
    return weights
