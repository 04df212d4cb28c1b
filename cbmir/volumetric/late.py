"""Late interaction: each slice of the query takes the gallery volume's nearest slice, and the volume is as far away as these are on average.

    distance(Q, G) = mean over q in Q of min over g in G of distance(q, g)

With the cosine it is 1 - MaxSim / |Q| (Khattab and Zaharia, ColBERT, SIGIR 2020, there with words in place of slices): the sum over the query's slices and
their mean order volumes alike. It is not symmetric: slices of G that nothing in Q resembles cost nothing.

Two passes. Products in bfloat16, where that is fast, or float32 say for each pair of volumes how far they are apart, but for rounding; pairs that its bound
cannot exclude from the first k are computed in float64, rounded to 2^-40 (what is equal comes out equal) and then to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_ROWS, _COLUMNS = (
    1_024,
    4_096,
)  # slices of queries and of volumes that are multiplied at once: a product of 16 MiB is freed and taken again at no cost
_GRID = 2.0**40
_EQUAL = 1e-5  # how far apart, as a share of the longer one, one image's vectors are at most, of two batches


@dataclass(frozen=True)
class Sides:
    """Slices of volumes as a product takes them: score = rows . rows' - height'."""

    rows: Tensor  # (n, dim); of norm 1 for the cosine
    squares: Tensor  # (n,) float64, of their lengths
    lost: float = 0.0  # length of the largest difference between a row and what it was in float64

    def of(self, wanted: np.ndarray) -> Sides:
        """Some of the rows."""
        at = torch.from_numpy(wanted).to(self.rows.device)
        return Sides(self.rows.index_select(0, at), self.squares.index_select(0, at), self.lost)

    def between(self, start: int, stop: int) -> Sides:
        """The rows from `start` on, before `stop`."""
        return Sides(self.rows[start:stop], self.squares[start:stop], self.lost)


def sides(vectors: np.ndarray, metric: str, dtype: torch.dtype, device: str) -> Sides:
    """Vectors (n, dim) float32, as stored -> one side of a product in `dtype`; a zero vector stays zero."""
    parts = [_converted(some, metric, dtype) for some in torch.from_numpy(vectors).to(device).split(_ROWS)]
    rows, squares, lost = zip(*parts, strict=True)
    return Sides(torch.cat(rows), torch.cat(squares), max(lost))


def _converted(vectors: Tensor, metric: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    rows = vectors.double()
    if metric == "cos":
        lengths = rows.norm(dim=1, keepdim=True)
        rows = torch.where(lengths > 0, rows / lengths, 0.0)
    rounded = rows.to(dtype)
    lost = float((rounded.double() - rows).norm(dim=1).max()) if dtype != torch.float64 else 0.0
    return rounded, (rows * rows).sum(dim=1), lost


def first_types(metric: str, device: str) -> list[torch.dtype]:
    """Of the first pass: bfloat16 for the cosine where it is several times faster, and float32 where that leaves too much. Euclidean distances take a root,
    which makes errors large."""
    able = torch.cpu.get_capabilities() if device == "cpu" else {}
    fast = device != "cpu" or able.get("avx512_bf16") or able.get("amx_bf16")
    return [*([torch.bfloat16] if fast and metric == "cos" else []), torch.float32]


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
    """Distances of all pairs of volumes (q, v), from products in the sides' type."""
    ends = np.cumsum(counts)
    parts = [
        part for part in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(ends // _COLUMNS)) + 1) if len(part)
    ]
    found = torch.empty((len(query.rows), len(counts)), dtype=torch.float64, device=query.rows.device)
    for part in parts:
        some = gallery.between(ends[part[0]] - counts[part[0]], ends[part[-1]])
        for start in range(0, len(query.rows), _ROWS):
            here = slice(start, start + _ROWS)
            found[here, part[0] : part[-1] + 1] = nearest(
                query.between(start, start + _ROWS), some, counts[part], metric
            )
    return means(found, query_counts)


def rounding(mine: Sides, theirs: Sides, metric: str) -> float:
    """How far `about` may be from what float64 gives: what rounding took from the rows (Cauchy and Schwarz), twice the usual bound of a sum of `dim`
    products in float32 (Higham 2002, 3.1), and the rounding of a product to its own type."""
    left, right = float(mine.squares.max().sqrt()), float(theirs.squares.max().sqrt())
    copies = 1.01 * (mine.lost * right + left * theirs.lost + mine.lost * theirs.lost)
    own = torch.finfo(mine.rows.dtype).eps / 2
    product = copies + (2.0 * (mine.rows.shape[1] + 4) * 2.0**-24 + 2 * own) * left * max(left, right)
    if metric == "l2":
        product += 2 * own * float(theirs.squares.max())
        return float(np.sqrt(2.0 * product))
    return product


def exactly(query: Sides, counts: np.ndarray, gallery: Sides, metric: str) -> np.ndarray:
    """One gallery volume against the slices of several queries, in float64 -> (queries,) distances, rounded to 2^-40."""
    found = nearest(query, gallery, np.array([len(gallery.rows)]), metric)
    return on_grid(means(found, counts)[:, 0])


def on_grid(distances: np.ndarray) -> np.ndarray:
    """Rounded to 2^-40: beyond, sums of other lengths and orders differ."""
    return np.round(distances * _GRID) / _GRID


def repeated(volume: Sides) -> np.ndarray:
    """Slices (n, dim) of one volume -> which of them (n,) are equal to another, but for rounding: blank ones, which come in runs and show nothing."""
    squares = volume.squares
    apart = squares[:, None] + squares[None, :] - 2.0 * (volume.rows @ volume.rows.T).double()
    equal = apart <= _EQUAL**2 * torch.maximum(squares[:, None], squares[None, :])
    return (equal.sum(dim=1) > 1).cpu().numpy()


def best_pairs(distances: np.ndarray, most: int, last: np.ndarray | None = None) -> list[tuple[int, int]]:
    """(a, b) distances between the slices of two volumes -> up to `most` pairs, the nearest first, no slice in two of them; ties by place.

    last: (a, b), the pairs that come after all others.
    """
    left = distances.copy()
    if last is not None:
        left[last] += 1.0 + np.ptp(distances)
    pairs = []
    for _ in range(min(most, *left.shape)):
        row, column = np.unravel_index(np.argmin(left), left.shape)
        pairs.append((int(row), int(column)))
        left[row, :], left[:, column] = np.inf, np.inf
    return pairs
