"""Rounded copies of vectors, whose products are several times faster than those of float32, and how far off such a product is.

From every gallery vector the same centre m is taken, c = g - m, because q . g = q . c + q . m and the second term is one number a query.
Embeddings of one model lie in a narrow cone, so that c is much shorter than g, and errors shrink with it. With q~ and c~ the rounded copies,

    |q~ . c~ - q . c| <= |q~ - q| |c| + |q~| |c~ - c| <= |q~ - q| (|c| + |c~ - c|) + |c~ - c|                   (Cauchy and Schwarz, |q| = 1)

where all norms are measured, of the vectors at hand. They are multiplied by 1.01, for the float32 that they are measured in.

Floats (bfloat16, or float32 itself) take the largest of the norms of all rows. A sum of dim products in float32, in any order, adds at most
dim u / (1 - dim u) |q~| |c~| with u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1); twice u is taken, for
units that truncate. Products come back rounded to the type of the copies.

Bytes are whole numbers of steps, one step for a query and one for a tile, and products of them, in int32, are exact. Rounding to them is coarser,
so that the bound is taken for each pair: it is itself a product, of (|q~ - q|, 1) and (|c| + |c~ - c|, |c~ - c|), and its factors are
appended to the vectors as further numbers, rounded up. A product of bytes is then never below the score, and above it by twice the bound at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cbmir.searching.distance import CACHED, Scaled, chunks

U = 2.0**-24  # half a unit in the last place of float32
_MARGIN = 1.01
_MOST = 127  # a byte
_SPAN = 64  # largest of a gallery vector's appended numbers: leaves the query's between coarse and too large
_WIDEST = 100_000  # numbers of a vector whose products of bytes surely fit in int32
_SAMPLE = 1_024  # rows that the step of a tile is taken from


@dataclass(frozen=True)
class Rounded:
    """Queries and a tile in the type of the first pass: a score is product * unit, less q . m."""

    queries: Tensor  # (n, width)
    gallery: Tensor  # (m, width), valid until the next tile
    unit: Tensor  # (n,) float64
    above: Tensor  # (n,) float64: no score is above its product by more
    below: Tensor  # (n,) float64: nor below
    longest: float  # largest |c|
    last: float  # the rounding of a product to its own type, as a share of it

    def product(self, rows: slice, columns: slice, out: Tensor) -> Tensor:
        """(r, c) in `out`, flat and long enough."""
        left, right = self.queries[rows], self.gallery[columns].T
        scores = out[: len(left) * right.shape[1]].view(len(left), right.shape[1])
        return (torch._int_mm if left.dtype == torch.int8 else torch.mm)(left, right, out=scores)


class Copies(Protocol):
    """Queries in some type, and how a tile is written in it."""

    result: torch.dtype  # of a product

    def tile(self, gallery: Scaled, centre: Tensor) -> Rounded | None:
        """None: these vectors do not fit the type."""


class Floats:
    """Of queries `unit` (n, dim) float32."""

    def __init__(self, unit: Tensor, kind: torch.dtype) -> None:
        self.result = kind
        self._queries = unit.to(kind)
        lost = [torch.linalg.vector_norm(self._queries[s].float() - unit[s], dim=1) for s in chunks(unit)]
        self._off = float(torch.cat(lost).max()) if len(unit) else 0.0
        self._copy = torch.empty(0, dtype=kind, device=unit.device)

    def tile(self, gallery: Scaled, centre: Tensor) -> Rounded:
        m, dim = gallery.rows.shape
        self._copy, copy = _room(self._copy, m, dim)
        lengths, lost = (torch.zeros(m, device=centre.device) for _ in range(2))
        for here in chunks(gallery.rows):
            some = torch.addcmul(-centre, gallery.rows[here], gallery.scale()[here, None])
            copy[here] = some
            lengths[here] = torch.linalg.vector_norm(some, dim=1)
            if self.result != torch.float32:
                lost[here] = torch.linalg.vector_norm(copy[here].float().sub_(some), dim=1)
        longest, off = _MARGIN * float(lengths.max()), _MARGIN * float(lost.max())
        bound = _MARGIN * self._off * (longest + off) + off
        bound += 2 * dim * U / (1 - 2 * dim * U) * (1 + self._off) * (longest + off)
        bounds = torch.full((len(self._queries),), bound, dtype=torch.float64, device=centre.device)
        last = 2.0**-8 if self.result == torch.bfloat16 else U
        return Rounded(self._queries, copy, torch.ones_like(bounds), bounds, bounds, longest, last)


class Bytes:
    """Of queries `unit` (n, dim) float32."""

    result = torch.int32

    def __init__(self, unit: Tensor) -> None:
        n, self._dim = unit.shape
        self._times = -(-self._dim // 64)  # each appended number stands so often: a byte alone would be too small
        self._queries = torch.zeros((n, self._dim + 2 * self._times), dtype=torch.int8, device=unit.device)
        peaks = unit.abs().amax(dim=1).double() if n else torch.zeros(0, dtype=torch.float64)
        self._steps = torch.where(peaks > 0, peaks / _MOST, 1.0)
        self._off = torch.zeros_like(peaks)
        for here in chunks(unit):
            exact = unit[here].double() / self._steps[here, None]
            whole = exact.round()
            self._queries[here, : self._dim] = whole
            self._off[here] = _MARGIN * (whole - exact).norm(dim=1) * self._steps[here]
        self._copy = torch.empty(0, dtype=torch.int8, device=unit.device)
        self._work = torch.empty((2, CACHED, self._dim), device=unit.device)

    def tile(self, gallery: Scaled, centre: Tensor) -> Rounded | None:
        m, dim = gallery.rows.shape
        if dim > _WIDEST:
            return None
        self._copy, copy = _room(self._copy, m, dim + 2 * self._times)
        step = _step(gallery, centre)
        scale, shift = gallery.scale() / step, -centre / step
        lengths = torch.empty((2, m), device=centre.device)  # |c| + |c~ - c|, |c~ - c|, in steps
        for here in chunks(gallery.rows):
            rows = gallery.rows[here]
            some, whole = self._work[:, : len(rows)]
            torch.addcmul(shift, rows, scale[here, None], out=some)
            torch.linalg.vector_norm(some, dim=1, out=lengths[0, here])
            copy[here, :dim] = torch.round(some, out=whole).clamp_(-_MOST, _MOST)
            torch.linalg.vector_norm(some.sub_(whole), dim=1, out=lengths[1, here])
        longest = _MARGIN * step * float(lengths[0].max())
        lengths[0] += lengths[1]
        slack = self._append(copy, _MARGIN * lengths)
        if slack is None:
            return None
        unit = self._steps * step
        return Rounded(self._queries, copy, unit, torch.zeros_like(unit), 2 * slack * unit, longest, 0.0)

    def _append(self, copy: Tensor, lengths: Tensor) -> Tensor | None:
        """The bound's factors, to queries and `copy`; returns the largest bound of each query (n,) in its units. None: they are too large for bytes."""
        largest = lengths.double().amax(dim=1).clamp_min(1e-30)
        theirs = (lengths.T / largest.float() * _SPAN).ceil_()  # (m, 2)
        parts = torch.stack([self._off, torch.ones_like(self._off)], dim=1)
        ours = (parts * largest / (_SPAN * self._times) / self._steps[:, None]).ceil()  # (n, 2)
        if not bool((ours <= _MOST).all()):
            return None
        copy[:, self._dim :] = theirs.repeat_interleave(self._times, dim=1)
        self._queries[:, self._dim :] = ours.repeat_interleave(self._times, dim=1)
        return self._times * (ours * theirs.amax(dim=0)).sum(dim=1)


def _step(gallery: Scaled, centre: Tensor) -> float:
    """One step of a tile: the largest number of a sample is 127. Larger ones are cut off, which counts as rounding."""
    some = slice(None, None, max(1, len(gallery.rows) // _SAMPLE))
    peak = float(torch.addcmul(-centre, gallery.rows[some], gallery.scale()[some, None]).abs().max())
    return peak / _MOST if peak > 0 else 1.0


def _room(held: Tensor, m: int, width: int) -> tuple[Tensor, Tensor]:
    """Memory for (m, width), that which is held where it is enough: new pages cost more than what is written to them."""
    if held.numel() < m * width:
        held = held.new_empty(m * width)
    return held, held[: m * width].view(m, width)
