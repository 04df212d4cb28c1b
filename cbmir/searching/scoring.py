"""The first pass of exact search: which pairs of a query and a gallery vector may be among the first k.

Scores are computed from rounded copies (rounding.py, which derives how far off they may be); what the bound cannot exclude is a candidate, and the
second pass (exact.py) computes its distance in float64. A score is q . g - w h with a query's direction q (norm 1), a gallery vector g, and, for
Euclidean distance, a weight w of the query and a height h = |g|^2 (distance.py).

To the bound of the copies is added that writing q, g, c and w h in float32 is within (dim + 16) u of each, u = 2^-24, most of it for the norms that q
and g are divided by. The threshold is rounded down to the type of the products: rounding is monotonic, so nothing above the threshold falls below it.
Where w h is taken off afterwards, the rounding of the product, 2^-8 C in bfloat16, is part of the bound.

The coarsest copies that the processor multiplies fast come first. Where they let through so many candidates that finer ones would have been
cheaper (vectors with a few numbers far larger than the others), the search goes on with those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cbmir.searching.distance import Scaled
from cbmir.searching.rounding import Bytes, Copies, Floats, Rounded, U

_WHOLE = 128  # queries whose scores with all of a tile are held at once; on a GPU:
_WHOLE_GPU = 1_024
_PART = (1_024, 2_048)  # queries and columns whose scores stay in a processor's cache
_PAIRS = 65_536  # candidates handed on at once
_DEAR = 256  # products that cost as much as one candidate
Rounding = Callable[[float], Tensor]  # largest norm in a tile -> (n,): how far apart scores of one distance may be
Exclude = Callable[
    [slice, slice, Tensor], None
]  # (queries, columns, their scores): writes `never` where a pair must not be
Kind = Callable[[Tensor], Copies]  # of queries (n, dim) float32


def _none(longest: float) -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def never(kind: torch.dtype) -> float | int:
    """The score of a pair that must not be."""
    return -torch.inf if kind.is_floating_point else torch.iinfo(kind).min


def kinds(device: torch.device, half: bool | None = None, coarse: bool | None = None) -> list[Kind]:
    """Of copies, from coarse to fine: bytes and bfloat16 where they are asked for, or, if nothing is asked, where they are several times faster."""
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    if coarse is None:
        coarse = half is None and bool(able.get("avx512_vnni") or able.get("amx_int8"))
    if half is None:
        half = bool(device.type == "cuda" or able.get("avx512_bf16") or able.get("amx_bf16"))
    return [Bytes] * coarse + [partial(Floats, kind=torch.bfloat16 if half else torch.float32)]


@dataclass(frozen=True)
class Tile:
    """A tile of the gallery in rounded copies, and what its scores are compared with."""

    rounded: Rounded
    heights: Tensor | None  # (m,) float32
    unit: Tensor  # (n,) float64: a score is this times what `scores` returns, less the query's shift
    above: Tensor  # (n,) float64: no score is higher by more
    below: Tensor  # (n,) float64: or lower
    alike: Tensor  # (n,) float64: scores less apart than this may be one distance, which is then ordered by key


class FirstPass:
    """Candidates of queries `unit` (n, dim) float32, of norm 1 or 0, tile by tile of a gallery; `weight` (n,) float64 or None."""

    def __init__(
        self, unit: Tensor, *, k: int, kinds: list[Kind], rounding: Rounding = _none, weight: Tensor | None = None
    ) -> None:
        self.k = k
        self.unit = unit
        self.weight = weight
        self.rounding = rounding
        self._finer = list(kinds)
        self._change()
        self._found = self._multiplied = 0
        self.centre: Tensor | None = None  # (dim,), of the first tile
        self.shift: Tensor | None = None  # (n,) float64: q . m

    def candidates(self, gallery: Scaled, least: Tensor, exclude: Exclude) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows and columns of all pairs whose score may be >= `least` (n,) float64 and among the first k of this tile, some at a time.

        Third, how far apart scores of one distance may be, (n,). `least` may rise meanwhile.
        """
        if self.centre is None:
            self.centre = gallery.scale() @ gallery.rows / len(gallery.rows)
            self.shift = self.unit.double() @ self.centre.double()
        tile = self.tile(gallery)
        held: list[tuple[Tensor, Tensor]] = []
        for rows, columns in self._parts(len(gallery.rows), known=bool((least > -torch.inf).all())):
            held.append(self._of_part(rows, columns, tile, least, exclude))
            if sum(len(found) for found, _ in held) >= _PAIRS:
                yield *_joined(held), tile.alike
                held = []
            if self._finer and self._found > self._multiplied // _DEAR + 16 * self.k * len(self.unit):
                self._change()
                tile = self.tile(gallery)
        if held:
            yield *_joined(held), tile.alike

    def tile(self, gallery: Scaled) -> Tile:
        """What the candidates of a tile are found with."""
        rounded = self._copies.tile(gallery, self.centre)
        if rounded is None:
            self._change()
            return self.tile(gallery)
        dim, norm = self.unit.shape[1], float(self.centre.norm())
        written = 2 * (dim + 16) * U * (rounded.longest + norm)
        above, below, unit = rounded.above + written, rounded.below + written, rounded.unit
        heights = None
        if self.weight is not None:
            heights = gallery.rows.double().square_().sum(dim=1).float()
            off = rounded.last * (rounded.longest + below)
            off += 8 * U * (rounded.longest + below + self.weight * heights.double().max())
            above, below, unit = above + off, below + off, torch.ones_like(unit)
        alike = self.rounding(rounded.longest + norm).to(above).expand_as(above)
        return Tile(rounded, heights, unit, 1.01 * above, 1.01 * below, alike)

    def scores(self, rows: slice, columns: slice, tile: Tile) -> Tensor:
        """(r, c) in units of the tile, less the queries' shift; overwritten by the next call."""
        r, m = min(rows.stop, len(self.unit)) - rows.start, len(tile.rounded.gallery)
        needed = r * (min(columns.stop, m) - columns.start)
        if self._scores.numel() < needed:
            self._scores = torch.empty(needed, dtype=self._copies.result, device=self.unit.device)
        scores = tile.rounded.product(rows, columns, self._scores)
        if tile.heights is None:
            return scores
        scores = scores * tile.rounded.unit[rows, None].float()
        return scores.float().addr_(self.weight[rows].float(), tile.heights[columns], alpha=-1)

    def _change(self) -> None:
        """To the next kind of copies."""
        self._copies = self._finer.pop(0)(self.unit)
        self._scores = torch.empty(0, dtype=self._copies.result, device=self.unit.device)

    def _parts(self, columns: int, *, known: bool) -> Iterator[tuple[slice, slice]]:
        """What is multiplied at once: all columns while no threshold is known, which is then that of the best of all."""
        if self.unit.device.type != "cpu":
            r, c = _WHOLE_GPU, columns
        else:
            r, c = _PART if known else (_WHOLE, columns)
        for start in range(0, columns, c):
            for row in range(0, len(self.unit), r):
                yield slice(row, min(row + r, len(self.unit))), slice(start, min(start + c, columns))

    def _of_part(
        self, rows: slice, columns: slice, tile: Tile, least: Tensor, exclude: Exclude
    ) -> tuple[Tensor, Tensor]:
        scores = self.scores(rows, columns, tile)
        exclude(rows, columns, scores)
        best = _best_of_groups(scores, max(scores.shape[1] // 64, 64, 1 << (4 * self.k - 1).bit_length()))
        unit, above = tile.unit[rows], tile.above[rows]
        threshold = (least[rows] - self.shift[rows] - above) / unit
        hits = best >= _down(threshold, scores.dtype)[:, None]
        if best.shape[1] >= self.k and int(hits.count_nonzero()) > 2 * self.k * len(best):
            # k pairs of this tile have at least the k-th best group's score, give or take a rounding and the bound
            kth = best.topk(self.k, dim=1).values[:, -1].double().clamp_min(torch.finfo(torch.float64).min)
            off = 2 * tile.rounded.last * kth.abs() + (above + tile.below[rows] + tile.alike[rows]) / unit
            threshold = torch.maximum(threshold, kth - off)
            hits = best >= _down(threshold, scores.dtype)[:, None]
        lowest = _down(threshold, scores.dtype)
        row, group = hits.nonzero(as_tuple=True)
        column = group[:, None] + torch.arange(0, scores.shape[1], best.shape[1], device=scores.device)[None, :]
        place = row[:, None] * scores.shape[1] + column.clamp(max=scores.shape[1] - 1)
        keep = (column < scores.shape[1]) & (scores.view(-1).take(place) >= lowest[row, None])
        row, column = row[:, None].expand_as(keep)[keep], column[keep]
        self._multiplied += scores.numel()
        self._found += len(row)
        return rows.start + row, columns.start + column


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
    """The largest number of a type that is not above the threshold, or the next below, and above `never`: comparing with it loses nothing."""
    if not kind.is_floating_point:
        limits = torch.iinfo(kind)
        return threshold.floor().clamp(limits.min + 1, limits.max).to(kind)
    threshold = threshold.clamp_min(torch.finfo(kind).min)
    rounded = threshold.to(kind)
    return torch.where(rounded.double() > threshold, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([rows for rows, _ in parts]), torch.cat([columns for _, columns in parts])
