"""What near means: cosine, inner product or Euclidean.

Of each metric: the distance of a pair, in float64 from stored vectors and rounded once to float32, and the score that the first pass of exact search
computes in its place for all pairs at once: product(query row, tile row) - weight(query) * height(tile row), larger where the distance is smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

CACHED = 1_024  # rows on which several steps are done while they are in a processor's cache
_ON_GPU = 65_536  # rows at once on a device where memory alone is the limit
_MOST_NUMBERS = 2**23  # that are worked on at once
_ONE_ROUNDING = 2.0**-22  # more than what rounding a distance to float32 once takes away, as a share of it


@dataclass
class Block:
    """Rows of vectors with what a search must know of each; `codes` are equal where two rows exclude each other."""

    keys: np.ndarray  # (n,) int64
    vectors: np.ndarray  # (n, dim) float32, as stored
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))  # (n, c), -1: excludes nothing

    def __post_init__(self) -> None:
        if self.codes.shape[0] != len(self.keys):
            self.codes = np.zeros((len(self.keys), 0), np.int64)
        self.vectors = np.ascontiguousarray(self.vectors)

    @cached_property
    def norms(self) -> Tensor:
        """(n,) float64."""
        vectors = torch.from_numpy(self.vectors)
        if len(vectors) * vectors.shape[1] <= _MOST_NUMBERS:
            return torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
        some = max(1, _MOST_NUMBERS // 8 // vectors.shape[1])  # each is written in float64 before
        return torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in vectors.split(some)])

    def raw(self, device: torch.device) -> Tensor:
        """(n, dim) float32 as stored."""
        return torch.from_numpy(self.vectors).to(device)

    def unit(self, device: torch.device) -> Tensor:
        """(n, dim) float32 of norm 1, give or take dim roundings; a zero vector stays zero."""
        vectors, out = torch.from_numpy(self.vectors), torch.empty(self.vectors.shape)
        for start in range(0, len(vectors), CACHED):
            some = vectors[start : start + CACHED]
            squares = (some * some).sum(dim=1)
            if not bool(((squares > 1e-30) & (squares < 1e30)).all()):  # zeros, and squares that are no float32
                exact = some.double()
                norms = exact.norm(dim=1, keepdim=True)
                out[start : start + CACHED] = torch.where(norms > 0, exact / norms, 0.0)
            else:
                torch.mul(some, squares.rsqrt()[:, None], out=out[start : start + CACHED])
        return out.to(device)

    def directions(self, device: torch.device) -> Scaled:
        """The vectors, each of norm 1, give or take dim roundings; a zero vector stays zero."""
        raw = self.raw(device)
        norms = torch.linalg.vector_norm(raw, dim=1)
        if not bool(((norms > 1e-15) & (norms < 1e15)).all()):  # zeros, and squares that are no float32
            return Scaled(self.unit(device))
        return Scaled(raw, norms.reciprocal_())


@dataclass(frozen=True)
class Scaled:
    """Vectors rows[j] * factors[j], without memory for the products."""

    rows: Tensor  # (m, dim) float32
    factors: Tensor | None = None  # (m,) float32; None: all 1

    def scale(self) -> Tensor:
        """(m,) float32."""
        return torch.ones(len(self.rows), device=self.rows.device) if self.factors is None else self.factors


def has_plain_squares(block: Block) -> bool:
    """Whether lengths can be squared and summed in float32: no vector but zero is shorter than 1e-15, or longer than 1e15, give or take its dim."""
    vectors = torch.from_numpy(block.vectors)
    peaks = torch.maximum(vectors.amax(dim=1), -vectors.amin(dim=1))
    return bool(((peaks == 0) | ((peaks > 1e-15) & (peaks < 1e15))).all())


class Metric(Protocol):
    """One notion of near."""

    name: str
    zero_is_alike: bool  # whether every vector is at distance 1 from a zero vector

    def distances(self, left: Block, right: Block, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Of pairs (left[rows], right[columns]) -> (pairs,) float32."""

    def of_products(self, products: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Products (n, m), lengths (n,) and (m,), all float64 -> distances (n, m) float64."""

    def tile(self, gallery: Block, device: torch.device) -> Scaled:
        """What the queries of norm 1 are multiplied with."""

    def weight(self, queries: Block) -> Tensor | None:
        """(n,) float64, None where a score is a product alone."""

    def least(self, queries: Block, farthest: np.ndarray) -> Tensor:
        """(n,) float64: the score below which a pair is farther away than `farthest` (n,) float32; -inf: no pair is."""

    def rounding(self, queries: Block, longest: float) -> Tensor:
        """(n,) float64: how far two scores may be apart whose distances are one float32, in a tile with no vector above `longest`."""


class Cosine:
    """1 - cosine, 0 .. 2; 1 for a zero vector."""

    name = "cos"
    zero_is_alike = True

    def distances(self, left: Block, right: Block, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        dots = _pairwise(left, right, rows, columns, Tensor.mul_)
        scale = left.norms[rows] * _lengths(right, columns)
        return torch.where(scale > 0, 1.0 - dots / scale, 1.0).clamp_(0.0, 2.0).float().numpy()

    def of_products(self, products: Tensor, left: Tensor, right: Tensor) -> Tensor:
        scale = left[:, None] * right[None, :]
        return torch.where(scale > 0, 1.0 - products / scale, 1.0).clamp_(0.0, 2.0)

    def tile(self, gallery: Block, device: torch.device) -> Scaled:
        return gallery.directions(device)

    def weight(self, queries: Block) -> None:
        return None

    def least(self, queries: Block, farthest: np.ndarray) -> Tensor:
        far = torch.from_numpy(farthest.astype(np.float64))
        return 1.0 - far - _ONE_ROUNDING

    def rounding(self, queries: Block, longest: float) -> Tensor:
        return torch.full((len(queries.keys),), _ONE_ROUNDING, dtype=torch.float64)


class InnerProduct:
    """1 - product, as USearch has it; smaller than 0 for large vectors."""

    name = "ip"
    zero_is_alike = True

    def distances(self, left: Block, right: Block, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return (1.0 - _pairwise(left, right, rows, columns, Tensor.mul_)).float().numpy()

    def of_products(self, products: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return 1.0 - products

    def tile(self, gallery: Block, device: torch.device) -> Scaled:
        return Scaled(gallery.raw(device))

    def weight(self, queries: Block) -> None:
        return None

    def least(self, queries: Block, farthest: np.ndarray) -> Tensor:
        far = torch.from_numpy(farthest.astype(np.float64))
        score = (1.0 - far - _ONE_ROUNDING * (1.0 + far.abs())) / queries.norms
        return torch.where(queries.norms > 0, score, -torch.inf)

    def rounding(self, queries: Block, longest: float) -> Tensor:
        return torch.where(queries.norms > 0, _ONE_ROUNDING * (1 / queries.norms + longest), torch.inf)


class Euclidean:
    """|q - g|."""

    name = "l2"
    zero_is_alike = False

    def distances(self, left: Block, right: Block, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return _pairwise(left, right, rows, columns, lambda q, g: q.sub_(g).square_()).sqrt_().float().numpy()

    def of_products(self, products: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return (left[:, None] ** 2 + right[None, :] ** 2 - 2.0 * products).clamp_(min=0.0).sqrt_()

    def tile(self, gallery: Block, device: torch.device) -> Scaled:
        return Scaled(gallery.raw(device))

    def weight(self, queries: Block) -> Tensor:
        return torch.where(queries.norms > 0, 0.5 / queries.norms, 1.0)

    def least(self, queries: Block, farthest: np.ndarray) -> Tensor:
        # |q - g|^2 = |q|^2 + |g|^2 - 2 |q| (product of q's direction and g)
        far = torch.from_numpy(farthest.astype(np.float64))
        return (queries.norms**2 - far**2 * (1 + 2 * _ONE_ROUNDING)) * self.weight(queries)

    def rounding(self, queries: Block, longest: float) -> Tensor:
        return 2 * _ONE_ROUNDING * (queries.norms + longest) ** 2 * self.weight(queries)


METRICS: dict[str, Metric] = {metric.name: metric for metric in (Cosine(), InnerProduct(), Euclidean())}


def chunks(rows: Tensor, *, numbers: int = 1) -> Iterator[slice]:
    """Slices of (n, ...) that several steps are done on one after the other; numbers: of a row, where rows may be so long that fewer fit."""
    size = min(CACHED if rows.device.type == "cpu" else _ON_GPU, max(1, _MOST_NUMBERS // numbers))
    return (slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size))


def _pairwise(left: Block, right: Block, rows: np.ndarray, columns: np.ndarray, each: Callable) -> Tensor:
    """(pairs,) float64: sums of what `each` makes of a pair's numbers, pair by pair, so that equal pairs have equal sums wherever they stand."""
    out = torch.empty(len(rows), dtype=torch.float64)
    sides = [
        (torch.from_numpy(side.vectors), torch.from_numpy(wanted)) for side, wanted in ((left, rows), (right, columns))
    ]
    for here in chunks(out, numbers=left.vectors.shape[1]):
        pair = (vectors.index_select(0, wanted[here]).double() for vectors, wanted in sides)
        torch.sum(each(*pair), dim=1, out=out[here])
    return out


def _lengths(block: Block, wanted: np.ndarray) -> Tensor:
    """Norms (pairs,) float64 of the wanted rows; only those are computed."""
    rows, back = np.unique(wanted, return_inverse=True)
    return Block(rows, block.vectors[rows]).norms[back]
