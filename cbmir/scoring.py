"""The first pass of exact search: which pairs of a query and a gallery vector may be among the first k.

Scores are products of unit vectors q and g, computed from rounded copies. What an error bound cannot exclude is a candidate; the
second pass (exact.py) scores those in float64.

The bound. From every gallery vector the same centre m is taken, c = g - m, because q . g = q . c + q . m and the second term is
one number a query. Embeddings of one model lie in a narrow cone, so that c is much shorter than g, and errors shrink with it. With q~ and c~ the
rounded copies, r = |q~ - q| and s = |c~ - c| measured in float32 for the rows at hand (their largest), and C the largest |c|,

    |q~ . c~ - q . c| <= |q~ - q| |c| + |q~| |c~ - c| <= r C + (1 + r) s                         (Cauchy and Schwarz)

A sum of dim products in float32, in any order, adds at most dim u / (1 - dim u) * |q~| |c~| with u = 2^-24 (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1); twice u is taken, for units that truncate. Rounding q, g and c to float32 in the first place is within
8 u each, and everything is multiplied by 1.01. Products come back rounded to the type of the copies, and so is the threshold that they are
compared with: rounding is monotonic, so nothing above the threshold falls below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_U = 2.0**-24
_ROWS = 512  # queries whose scores with a tile are held at once


def half_is_fast(device: torch.device) -> bool:
    """Whether products of bfloat16 are several times faster there than those of float32."""
    if device.type == "cuda":
        return True
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@dataclass(frozen=True)
class Rounded:
    """Vectors (n, dim) of norm <= `longest` in the type of the first pass."""

    copy: Tensor
    off: float  # largest norm of what rounding took away
    longest: float

    @classmethod
    def of(cls, exact: Tensor, kind: torch.dtype) -> Rounded:
        copy = exact.to(kind)
        off = 0.0 if kind == exact.dtype or not len(exact) else float((copy.float() - exact).norm(dim=1).max())
        return cls(copy, off, float(exact.norm(dim=1).max()) if len(exact) else 0.0)


class FirstPass:
    """Candidates of the queries `unit` (n, dim) float32, of norm 1 or 0, tile by tile of a gallery."""

    def __init__(self, unit: Tensor, *, k: int, half: bool) -> None:
        self.k = k
        self.groups = max(
            256, 1 << (4 * k - 1).bit_length()
        )  # columns of a tile are looked at by their best first, in so many groups
        self.unit = unit
        self.kind = torch.bfloat16 if half else torch.float32
        self.queries = Rounded.of(unit, self.kind)
        self.centre: Tensor | None = None  # (dim,), of the first tile
        self.shift: Tensor | None = None  # (n,) float64: q . m

    def candidates(self, gallery: Tensor, least: Tensor, excluded) -> tuple[Tensor, Tensor]:
        """Rows and columns of all pairs whose score may be >= `least` and among the first k of this tile.

        gallery: (m, dim) float32 of norm 1 or 0. least: (n,) float64, -inf where anything will do. excluded(rows, scores): writes -inf into the
        scores of a slice of the queries where a pair must not be.
        """
        if self.centre is None:
            self.centre = gallery.mean(dim=0)
            self.shift = self.unit.double() @ self.centre.double()
        tile = Rounded.of(gallery - self.centre, self.kind)
        bound = self._bound(tile)
        found = [self._of_slice(start, tile, least, bound, excluded) for start in range(0, len(self.unit), _ROWS)]
        return torch.cat([rows for rows, _ in found]), torch.cat([columns for _, columns in found])

    def _bound(self, tile: Rounded) -> float:
        dim = self.unit.shape[1]
        rounding = self.queries.off * tile.longest + (1 + self.queries.off) * tile.off
        summing = 2 * dim * _U / (1 - 2 * dim * _U) * (1 + self.queries.off) * (tile.longest + tile.off)
        return 1.01 * (rounding + summing + 24 * _U)

    def _of_slice(self, start: int, tile: Rounded, least: Tensor, bound: float, excluded) -> tuple[Tensor, Tensor]:
        rows = slice(start, start + _ROWS)
        scores = self.queries.copy[rows] @ tile.copy.T  # (r, m)
        excluded(rows, scores)
        best = _best_of_groups(scores, self.groups)  # (r, groups)
        threshold = least[rows] - self.shift[rows] - bound
        if best.shape[1] >= self.k:
            # k pairs of this tile have at least the k-th best group's score, give or take a rounding and the bound
            kth = best.topk(self.k, dim=1).values[:, -1].double()
            step = 2.0**-7 if self.kind == torch.bfloat16 else 2.0**-23
            threshold = torch.maximum(threshold, kth - step * kth.abs() - 2 * bound)
        lowest = _down(threshold, self.kind)[:, None]
        where = (best >= lowest) & (best > -torch.inf)
        row, group = where.nonzero(as_tuple=True)
        columns = group[:, None] + torch.arange(0, scores.shape[1], best.shape[1], device=scores.device)[None, :]
        inside = columns < scores.shape[1]
        values = scores[row[:, None], columns.clamp(max=scores.shape[1] - 1)]
        keep = inside & (values >= lowest[row]) & (values > -torch.inf)
        return start + row[:, None].expand_as(keep)[keep], columns[keep]


def _best_of_groups(scores: Tensor, groups: int) -> Tensor:
    """(r, m) -> (r, groups): the best of columns j, j + groups, j + 2 groups, ...; the scores themselves where they are fewer."""
    r, m = scores.shape
    if m <= groups:
        return scores
    whole = m - m % groups
    best = scores[:, :whole].view(r, -1, groups).amax(dim=1)
    if whole < m:
        best[:, : m - whole] = torch.maximum(best[:, : m - whole], scores[:, whole:])
    return best


def _down(threshold: Tensor, kind: torch.dtype) -> Tensor:
    """The largest number of a type that is not above the rounded threshold: comparing with it loses nothing."""
    rounded = threshold.to(kind)
    return torch.where(rounded.double() > threshold, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)
