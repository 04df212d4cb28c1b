"""The first pass of exact search: which pairs of a query and a gallery vector may be among the first k.

Scores are computed from rounded copies; what an error bound cannot exclude is a candidate, and the second pass (exact.py) computes its distance in
float64. A score is q . g - w h with a query's direction q (norm 1), a gallery vector g, and, for Euclidean distance, a weight w of the query and a
height h = |g|^2 (distance.py).

The bound. From every gallery vector the same centre m is taken, c = g - m, because q . g = q . c + q . m and the second term is
one number a query. Embeddings of one model lie in a narrow cone, so that c is much shorter than g, and errors shrink with it. With q~ and c~ the
rounded copies, r = |q~ - q| and s = |c~ - c| measured for the rows at hand (their largest), and C the largest |c|,

    |q~ . c~ - q . c| <= |q~ - q| |c| + |q~| |c~ - c| <= r C + (1 + r) s                         (Cauchy and Schwarz)

A sum of dim products in float32, in any order, adds at most dim u / (1 - dim u) * |q~| |c~| with u = 2^-24 (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1); twice u is taken, for units that truncate. Writing q, g, c and w h in float32 is within
(dim + 16) u of each, most of it for the norms that q and g are divided by, and everything is multiplied by 1.01. Products come back rounded to the type of the copies, and so is the threshold that they are
compared with: rounding is monotonic, so nothing above the threshold falls below it. Where w h is taken off afterwards, the rounding
of the product, 2^-8 C in bfloat16, is part of the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cbmir.searching.distance import CACHED

_U = 2.0**-24
_ROWS = 512  # queries whose scores with a tile are held at once
Rounding = Callable[[float], Tensor]  # largest norm in a tile -> (n,): how far apart scores of one distance may be
Exclude = Callable[[slice, Tensor], None]  # (queries, their scores): writes -inf where a pair must not be


def _none(longest: float) -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def half_is_fast(device: torch.device) -> bool:
    """Whether products of bfloat16 are several times faster there than those of float32."""
    if device.type == "cuda":
        return True
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@dataclass(frozen=True)
class Rounded:
    """Vectors (n, dim) in the type of the first pass."""

    copy: Tensor
    off: float  # largest norm of what rounding took away
    longest: float  # largest norm

    @classmethod
    def of(cls, exact: Tensor, kind: torch.dtype, centre: Tensor | float = 0.0) -> Rounded:
        """Of exact - centre."""
        copy, off, longest = torch.empty(exact.shape, dtype=kind, device=exact.device), 0.0, 0.0
        rows = CACHED if exact.device.type == "cpu" else max(1, len(exact))
        for start in range(0, len(exact), rows):
            some = exact[start : start + rows] - centre
            mine = copy[start : start + rows]
            mine.copy_(some)
            longest = max(longest, float((some * some).sum(dim=1).max()))
            if kind != exact.dtype:
                lost = mine.float().sub_(some)
                off = max(off, float((lost * lost).sum(dim=1).max()))
        return cls(copy, off**0.5, longest**0.5)


@dataclass(frozen=True)
class Tile:
    """A tile of the gallery, centred and rounded."""

    rounded: Rounded
    heights: Tensor | None  # (m,) float32
    bound: Tensor  # (n,) float64: no score is farther off
    alike: Tensor  # (n,) float64: scores less apart than this may be one distance, which is then ordered by key


class FirstPass:
    """Candidates of queries `unit` (n, dim) float32, of norm 1 or 0, tile by tile of a gallery; `weight` (n,) float64 or None."""

    def __init__(
        self, unit: Tensor, *, k: int, half: bool, rounding: Rounding = _none, weight: Tensor | None = None
    ) -> None:
        self.k = k
        self.groups = max(
            256, 1 << (4 * k - 1).bit_length()
        )  # a tile is looked at by the best of so many groups of columns
        self.unit = unit
        self.weight = weight
        self.rounding = rounding
        self.kind = torch.bfloat16 if half else torch.float32
        self.step = 2.0**-8 if half else _U  # one rounding
        self.queries = Rounded.of(unit, self.kind)
        self.centre: Tensor | None = None  # (dim,), of the first tile
        self.shift: Tensor | None = None  # (n,) float64: q . m

    def candidates(self, gallery: Tensor, least: Tensor, exclude: Exclude) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and columns of all pairs whose score may be >= `least` (n,) float64 and among the first k of this tile (m, dim) float32.

        Third, how far apart scores of one distance may be, (n,).
        """
        if self.centre is None:
            self.centre = gallery.mean(dim=0)
            self.shift = self.unit.double() @ self.centre.double()
        tile = self.tile(gallery)
        found = [
            self._of_slice(slice(start, start + _ROWS), tile, least, exclude)
            for start in range(0, len(self.unit), _ROWS)
        ]
        return torch.cat([rows for rows, _ in found]), torch.cat([columns for _, columns in found]), tile.alike

    def tile(self, gallery: Tensor) -> Tile:
        """What the candidates of a tile are found with."""
        heights = None if self.weight is None else (gallery.double() ** 2).sum(dim=1).float()
        rounded = Rounded.of(gallery, self.kind, self.centre)
        dim, norm = self.unit.shape[1], float(self.centre.norm())
        bound = self.queries.off * rounded.longest + (1 + self.queries.off) * rounded.off
        bound += 2 * dim * _U / (1 - 2 * dim * _U) * (1 + self.queries.off) * (rounded.longest + rounded.off)
        bound += 2 * (dim + 16) * _U * (rounded.longest + norm)
        bounds = torch.full((len(self.unit),), bound, dtype=torch.float64, device=self.unit.device)
        if heights is not None:
            bounds += self.step * (rounded.longest + bound) + 8 * _U * (
                rounded.longest + self.weight * heights.double().max()
            )
        return Tile(rounded, heights, 1.01 * bounds, self.rounding(rounded.longest + norm).to(bounds).expand_as(bounds))

    def scores(self, rows: slice, tile: Tile) -> Tensor:
        """(r, m), less the queries' shift."""
        scores = self.queries.copy[rows] @ tile.rounded.copy.T
        if tile.heights is None:
            return scores
        return scores.float() - (self.weight[rows, None].float() * tile.heights[None, :])

    def _of_slice(self, rows: slice, tile: Tile, least: Tensor, exclude: Exclude) -> tuple[Tensor, Tensor]:
        scores = self.scores(rows, tile)
        exclude(rows, scores)
        best = _best_of_groups(scores, self.groups)  # (r, groups)
        threshold = least[rows] - self.shift[rows] - tile.bound[rows]
        if best.shape[1] >= self.k:
            # k pairs of this tile have at least the k-th best group's score, give or take a rounding and the bound
            kth = best.topk(self.k, dim=1).values[:, -1].double()
            off = 2 * self.step * kth.abs() + 2 * tile.bound[rows] + tile.alike[rows]
            threshold = torch.maximum(threshold, kth - off)
        lowest = _down(threshold, scores.dtype)[:, None]
        row, group = ((best >= lowest) & (best > -torch.inf)).nonzero(as_tuple=True)
        columns = group[:, None] + torch.arange(0, scores.shape[1], best.shape[1], device=scores.device)[None, :]
        inside = columns < scores.shape[1]
        values = scores[row[:, None], columns.clamp(max=scores.shape[1] - 1)]
        keep = inside & (values >= lowest[row]) & (values > -torch.inf)
        return rows.start + row[:, None].expand_as(keep)[keep], columns[keep]


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
    """The largest number of a type that is not above the threshold, or the next below: comparing with it loses nothing."""
    rounded = threshold.to(kind)
    return torch.where(rounded.double() > threshold, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)
