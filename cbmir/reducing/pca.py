"""Principal components: the directions in which many vectors vary most, and vectors as their coordinates along these.

Everything is summed in float64. Where there are at least as many vectors as numbers in one, the covariance (dim, dim) is summed tile by tile and decomposed;
where there are fewer (volumes of 80,000 numbers), the products of the vectors with each other (rows, rows) are, which have the same variances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

Read = Callable[[], Iterable[np.ndarray]]  # tiles (m, dim) float32, the same whenever it is called
_COLUMNS = 4096  # of the vectors that are in float64 at a time


class TooFewDirections(ValueError):
    """The vectors vary in fewer directions than were asked for; those beyond are any, and would be another on another machine."""

    def __init__(self, found: int) -> None:
        super().__init__(found)
        self.found = found


@dataclass(frozen=True)
class Projection:
    """mean (dim,), components (k, dim) with orthonormal rows, variance (k,) along each, descending; float64.

    Of each component, the number that is largest in magnitude is positive, as scikit-learn has it.
    """

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) float32 -> (n, k) float32: computed in float64, rounded once. What is not finite gives what is not."""
        with np.errstate(over="ignore", invalid="ignore"):
            return ((vectors.astype(np.float64) - self.mean) @ self.components.T).astype(np.float32)


def passes(rows: int, dim: int) -> int:
    """How often `fit` reads all vectors."""
    return 1 if dim > rows else 2


def fit(read: Read, *, rows: int, dim: int, components: int) -> tuple[Projection, float]:
    """The first `components` of `rows` vectors of `dim` -> (projection, the share of all variance that it keeps, 0..1).

    Memory: a tile and a few times dim^2, or where dim > rows, the vectors in float32 and a few times rows^2. TooFewDirections where
    that many components do not exist.
    """
    return (_by_products if dim > rows else _by_covariance)(read, rows, dim, components)


def _by_covariance(read: Read, rows: int, dim: int, components: int) -> tuple[Projection, float]:
    mean = sum(tile.sum(axis=0, dtype=np.float64) for tile in read()) / rows
    scatter = np.zeros((dim, dim))
    for tile in read():
        centred = tile - mean  # (m, dim) float64
        scatter += centred.T @ centred
    variance, directions = _largest(scatter, components)
    return _kept(mean, directions.T, variance, rows, float(np.trace(scatter)))


def _by_products(read: Read, rows: int, dim: int, components: int) -> tuple[Projection, float]:
    vectors = _gathered(read, rows, dim)
    mean = vectors.mean(axis=0, dtype=np.float64)
    columns = [slice(first, first + _COLUMNS) for first in range(0, dim, _COLUMNS)]
    products = np.zeros((rows, rows))
    for some in columns:
        centred = vectors[:, some] - mean[some]
        products += centred @ centred.T
    variance, weights = _largest(products, components)
    weights /= np.sqrt(variance)  # (rows, k): a component is this sum of centred vectors, of length 1
    found = np.empty((components, dim))
    for some in columns:
        found[:, some] = weights.T @ (vectors[:, some] - mean[some])
    return _kept(mean, found, variance, rows, float(np.trace(products)))


def _gathered(read: Read, rows: int, dim: int) -> np.ndarray:
    """All tiles as one array (rows, dim) float32."""
    vectors = np.empty((rows, dim), np.float32)
    filled = 0
    for tile in read():
        vectors[filled : filled + len(tile)] = tile
        filled += len(tile)
    return vectors


def _largest(symmetric: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest eigenvalues, descending, and their eigenvectors as columns; refuses those that are rounding errors."""
    values, vectors = np.linalg.eigh(symmetric)
    values, vectors = values[::-1], vectors[:, ::-1]
    real = int((values > values[0] * len(values) * np.finfo(np.float64).eps).sum()) if values[0] > 0 else 0
    if count > real:
        raise TooFewDirections(real)
    return values[:count].copy(), vectors[:, :count].copy()


def _kept(
    mean: np.ndarray, components: np.ndarray, squares: np.ndarray, rows: int, total: float
) -> tuple[Projection, float]:
    """squares (k,): sums of squares along the components; total: of all."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return Projection(mean, components * signs[:, None], squares / (rows - 1)), float(squares.sum() / total)
