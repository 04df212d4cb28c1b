"""Late interaction: each slice of the query takes the gallery volume's nearest slice, and the volume is as far away as these are on average.

    distance(Q, G) = mean over q in Q of min over g in G of distance(q, g)

With the cosine it is 1 - MaxSim / |Q| (Khattab and Zaharia, ColBERT, SIGIR 2020, there with words in place of slices): the sum over the query's slices and
their mean order volumes alike. It is not symmetric: slices of G that nothing in Q resembles cost nothing.

Two passes. Products in float32 say for each pair of volumes how far they are apart, but for rounding; pairs that its bound cannot exclude from the first k
are computed in float64, rounded to 2^-40 (what is equal comes out equal) and then to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_ROWS = 2_048  # query slices that are multiplied at once
_GRID = 2.0**40


@dataclass(frozen=True)
class Sides:
    """Slices of volumes as a product takes them: score = rows . rows' - height'."""

    rows: Tensor  # (n, dim); of norm 1 for the cosine
    squares: Tensor  # (n,) of their lengths

    def of(self, wanted: np.ndarray) -> Sides:
        """Some of the rows."""
        at = torch.from_numpy(wanted).to(self.rows.device)
        return Sides(self.rows.index_select(0, at), self.squares.index_select(0, at))


def sides(vectors: np.ndarray, metric: str, dtype: torch.dtype, device: str) -> Sides:
    """Vectors (n, dim) float32, as stored -> one side of a product in `dtype`; a zero vector stays zero."""
    rows = torch.from_numpy(vectors).to(device).double()
    if metric == "cos":
        lengths = rows.norm(dim=1, keepdim=True)
        rows = torch.where(lengths > 0, rows / lengths, 0.0)
    return Sides(rows.to(dtype), (rows * rows).sum(dim=1))


def nearest(query: Sides, gallery: Sides, counts: np.ndarray, metric: str) -> Tensor:
    """(n, dim) and (counts.sum(), dim) -> (n, v) float64: each slice's distance to the nearest slice of each of v volumes."""
    best = _best(query.rows @ gallery.rows.T - _heights(gallery, metric, query.rows.dtype), counts).double()
    return as_distance(best, query.squares[:, None], metric)


def pairwise(query: Sides, gallery: Sides, metric: str) -> Tensor:
    """(n, dim), (m, dim) -> (n, m) float64 distances."""
    return as_distance(
        (query.rows @ gallery.rows.T - _heights(gallery, metric, query.rows.dtype)).double(),
        query.squares[:, None],
        metric,
    )


def as_distance(scores: Tensor, squares: Tensor, metric: str) -> Tensor:
    """A score, the larger the nearer, as the metric's distance; `squares`: of the query's length."""
    if metric == "l2":
        return (squares - 2.0 * scores).clamp_(min=0.0).sqrt_()
    distances = 1.0 - scores
    return distances.clamp_(0.0, 2.0) if metric == "cos" else distances


def _heights(gallery: Sides, metric: str, dtype: torch.dtype) -> Tensor | float:
    return (gallery.squares / 2.0).to(dtype)[None, :] if metric == "l2" else 0.0


def _best(scores: Tensor, counts: np.ndarray) -> Tensor:
    """(n, counts.sum()) -> (n, v): the largest of each volume's columns."""
    if len(counts) and (counts == counts[0]).all():
        return scores.view(len(scores), len(counts), -1).amax(dim=2)
    return torch.stack([part.amax(dim=1) for part in scores.split(counts.tolist(), dim=1)], dim=1)


def means(nearest_distances: Tensor, counts: np.ndarray) -> np.ndarray:
    """(counts.sum(), v) distances of the slices of several queries -> (queries, v) float64 means."""
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(nearest_distances.cpu().numpy(), starts, axis=0) / counts[:, None]


def about(query: Sides, query_counts: np.ndarray, gallery: Sides, counts: np.ndarray, metric: str) -> np.ndarray:
    """Distances of all pairs of volumes (q, v), from products in float32."""
    parts = (Sides(query.rows[i : i + _ROWS], query.squares[i : i + _ROWS]) for i in range(0, len(query.rows), _ROWS))
    return means(torch.cat([nearest(part, gallery, counts, metric) for part in parts]), query_counts)


def rounding(mine: Sides, theirs: Sides, metric: str) -> float:
    """How far `about` may be from what float64 gives: twice the usual bound of a product of `dim` terms (Higham 2002, 3.1), and of the numbers that were rounded to float32 before it."""
    longest = float(mine.squares.max().sqrt() * theirs.squares.max().sqrt())
    largest = max(longest, float(theirs.squares.max()))
    product = 2.0 * (mine.rows.shape[1] + 4) * 2.0**-24 * largest
    return float(np.sqrt(2.0 * product)) if metric == "l2" else product


def exactly(query: Sides, counts: np.ndarray, gallery: Sides, metric: str) -> np.ndarray:
    """One gallery volume against the slices of several queries, in float64 -> (queries,) distances, rounded to 2^-40."""
    found = nearest(query, gallery, np.array([len(gallery.rows)]), metric)
    return on_grid(means(found, counts)[:, 0])


def on_grid(distances: np.ndarray) -> np.ndarray:
    """Rounded to 2^-40: beyond, sums of other lengths and orders differ."""
    return np.round(distances * _GRID) / _GRID


def best_pairs(distances: np.ndarray, most: int) -> list[tuple[int, int]]:
    """(a, b) distances between the slices of two volumes -> up to `most` pairs, the nearest first, no slice in two of them; ties by place."""
    left = distances.copy()
    pairs = []
    for _ in range(min(most, *left.shape)):
        row, column = np.unravel_index(np.argmin(left), left.shape)
        pairs.append((int(row), int(column)))
        left[row, :], left[:, column] = np.inf, np.inf
    return pairs
