"""Exact neighbors by tiled matrix product.

Two passes over each tile. First scoring.py names every pair that a rounding-error bound cannot exclude from the first k. Then each of these
candidates' distance is computed in float64 from the stored vectors and rounded once to float32. The result therefore does not depend on how the gallery
was cut, on the number of threads, or on where in a tile a vector stood, and equal vectors have equal distances. Where one distance is shared by thousands
of rows (equal ones, and all of them for a zero query), equal.py says which of them can matter.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from cbmir.searching.distance import METRICS, Block, Scaled, chunks, has_plain_squares
from cbmir.searching.equal import first_of, without_surplus
from cbmir.searching.rounding import U
from cbmir.searching.scoring import Exclude, FirstPass, kinds, never

NO_KEY = np.iinfo(np.int64).max  # key of an empty place: sorts last

LONG = 16_384  # numbers of a vector, beyond which all pairs are computed in float64
_GRID = (
    2.0**40
)  # their distances are whole multiples of 2^-40: sums of other orders differ beyond that, and what is equal has to come out equal
_ALMOST = 1e-3  # distance of two vectors, as a share of the longer one's length
_COLUMNS = 64  # of a tile at once, where every pair is computed


class RunningTopK:
    """The k nearest so far of a block of queries; `add` takes gallery tiles in any order."""

    def __init__(
        self,
        queries: Block,
        *,
        k: int,
        metric: str = "cos",
        device: str = "cpu",
        half: bool | None = None,
        coarse: bool | None = None,
    ) -> None:
        """metric: 'cos', 'ip' or 'l2' (distance.py). half, coarse: whether the first pass is in bfloat16, and whether it begins with bytes; None:
        where that is fast. The result is the same.
        """
        self.queries = queries
        self.k = k
        self.metric = METRICS[metric]
        self.device = torch.device(device)
        self._weight = self.metric.weight(queries)
        if self._weight is not None:
            self._weight = self._weight.to(self.device)
        self._lengths_differ = metric != "cos"  # of a tile's rows: else they are 1, or 0
        self._is_long = queries.vectors.shape[1] > LONG
        if not self._is_long:
            rounding = partial(self.metric.rounding, queries)
            copies = kinds(self.device, half, coarse)
            self._first = FirstPass(
                queries.unit(self.device), k=k, kinds=copies, rounding=rounding, weight=self._weight
            )
        self._plain = has_plain_squares(queries)
        self._zeros = np.flatnonzero(queries.norms.numpy() == 0) if self.metric.zero_is_alike else np.zeros(0, np.int64)
        n = len(queries.keys)
        self.distances = np.full((n, k), np.inf, np.float32)
        self.keys = np.full((n, k), NO_KEY, np.int64)
        self._least = torch.full((n,), -torch.inf, dtype=torch.float64, device=self.device)  # score of the k-th
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # rows, keys, distances not merged yet
        self._waiting = 0

    def add(self, gallery: Block) -> None:
        """Take the gallery tile into account."""
        if len(gallery.keys) == 0:
            return
        if len(self._zeros):
            self._add_for_zeros(gallery)
        gallery = without_surplus(gallery, k=self.k)
        if self._is_long:
            self._add_long(gallery)
            return
        if self._weight is not None and not (self._plain and has_plain_squares(gallery)):
            self._add_without_scores(gallery)
            return
        tile = self.metric.tile(gallery, self.device)
        for found, places, alike in self._first.candidates(tile, self._least, self._excluder(gallery)):
            rows, columns = self._close(tile, found, places, alike)
            self._take(rows, gallery.keys[columns], self.metric.distances(self.queries, gallery, rows, columns))

    def _add_for_zeros(self, gallery: Block) -> None:
        """The first rows by key, for queries that are zero: every row is at one distance from them."""
        rows = first_of(gallery.keys, gallery.codes, k=self.k)
        first = Block(gallery.keys[rows], gallery.vectors[rows], gallery.codes[rows])
        excluded = torch.zeros((len(self._zeros), len(rows)))
        zeros = Block(
            self.queries.keys[self._zeros], self.queries.vectors[self._zeros], self.queries.codes[self._zeros]
        )
        _excluder(zeros, first)(slice(0, len(zeros.keys)), slice(0, len(rows)), excluded)
        queries, columns = np.nonzero((excluded == 0).numpy())
        self._take(self._zeros[queries], first.keys[columns], self.metric.distances(zeros, first, queries, columns))

    def _take(self, rows: np.ndarray, keys: np.ndarray, distances: np.ndarray) -> None:
        self._new.append((rows, keys, distances))
        self._waiting += len(rows)
        if (
            self._waiting > self.distances.size // 4
        ):  # to sort each time would cost more than what an older k-th lets through
            self._merge()

    def _add_long(self, gallery: Block) -> None:
        """Products of all pairs in float64, in parts of the vectors: bounds of rounding grow with their length, and would exclude nothing."""
        n, exclude = len(self.queries.keys), self._excluder(gallery)
        mine, theirs = torch.from_numpy(self.queries.vectors), torch.from_numpy(gallery.vectors)
        products = torch.zeros((n, len(gallery.keys)), dtype=torch.float64)
        for start in range(0, mine.shape[1], LONG):
            part = slice(start, start + LONG)
            products.addmm_(mine[:, part].double(), theirs[:, part].double().T)
        distances = self.metric.of_products(products, self.queries.norms, gallery.norms)
        exact = (torch.round(distances * _GRID) / _GRID).float().numpy()
        self._near_zero(gallery, exact)
        excluded = torch.zeros((n, len(gallery.keys)), device=self.device)
        exclude(slice(0, n), slice(0, len(gallery.keys)), excluded)
        rows, columns = np.nonzero((excluded == 0).cpu().numpy() & (exact <= self.distances[:, -1:]))
        self._new.append((rows, gallery.keys[columns], exact[rows, columns]))
        self._merge()

    def _near_zero(self, gallery: Block, distances: np.ndarray) -> None:
        """Euclidean distances of vectors that are almost equal, pair by pair: a difference of squares says nothing of them."""
        if self.metric.name == "l2":
            lengths = torch.maximum(self.queries.norms[:, None], gallery.norms[None, :]).numpy()
            rows, columns = np.nonzero(distances < _ALMOST * lengths)
            distances[rows, columns] = self.metric.distances(self.queries, gallery, rows, columns)

    def _add_without_scores(self, gallery: Block) -> None:
        """Every pair in float64: squares of these lengths are no float32, and scores of them say nothing."""
        n, exclude = len(self.queries.keys), self._excluder(gallery)
        for start in range(0, len(gallery.keys), _COLUMNS):
            columns = slice(start, min(start + _COLUMNS, len(gallery.keys)))
            scores = torch.zeros((n, columns.stop - start), device=self.device)
            exclude(slice(0, n), columns, scores)
            rows, places = (pair.cpu().numpy() for pair in torch.nonzero(scores == 0, as_tuple=True))
            distances = self.metric.distances(self.queries, gallery, rows, places + start)
            self._new.append((rows, gallery.keys[places + start], distances))
            self._merge()

    def _close(self, tile: Scaled, rows: Tensor, columns: Tensor, alike: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Those candidates that a product in float32 cannot exclude either; its bound is that of rounding.py without rounded copies."""
        roundoff = 1.01 * U
        dim = tile.rows.shape[1]
        score = torch.empty(len(rows), dtype=torch.float64, device=self.device)
        off = torch.full_like(score, (3 * dim + 32) * roundoff)
        for here in chunks(rows):
            r, pairs = rows[here], tile.rows.index_select(0, columns[here])
            if self._lengths_differ:
                squares = (pairs * pairs).sum(dim=1).double()
                off[here] *= squares.sqrt()
            score[here] = pairs.mul_(self._first.unit.index_select(0, r)).sum(dim=1)
            if self._weight is not None:
                score[here] -= self._weight[r] * squares
                off[here] += (dim + 16) * roundoff * self._weight[r] * squares
        if tile.factors is not None:
            score *= tile.factors[columns]
        least = torch.maximum(self._least, _kth(rows, score - off, self.k, len(self._least)) - alike)
        keep = score + off >= least[rows]
        return rows[keep].cpu().numpy(), columns[keep].cpu().numpy()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """keys (n, k) int64, distances (n, k) float32 ascending, counts (n,): how many of the k places are filled."""
        self._merge()
        return self.keys, self.distances, (self.keys != NO_KEY).sum(axis=1)

    def _excluder(self, gallery: Block) -> Exclude:
        """As `_excluder` below; queries that are zero have had their rows already."""
        zeros, others = self._zeros, _excluder(self.queries, gallery, self.device)

        def exclude(rows: slice, columns: slice, scores: Tensor) -> None:
            others(rows, columns, scores)
            mine = zeros[np.searchsorted(zeros, rows.start) : np.searchsorted(zeros, rows.stop)]
            if len(mine):
                scores[torch.from_numpy(mine - rows.start).to(self.device)] = never(scores.dtype)

        return exclude

    def _merge(self) -> None:
        """The first k of what is known and what is new, by (distance, key)."""
        n = len(self.queries.keys)
        rows = np.concatenate([np.repeat(np.arange(n), self.k), *(new[0] for new in self._new)])
        keys = np.concatenate([self.keys.ravel(), *(new[1] for new in self._new)])
        distances = np.concatenate([self.distances.ravel(), *(new[2] for new in self._new)])
        order, sorted_rows = _in_order(rows, distances, keys)
        starts = np.searchsorted(sorted_rows, np.arange(n))
        first = order[starts[:, None] + np.arange(self.k)[None, :]]  # each row holds at least k entries
        self.keys, self.distances = keys[first], distances[first]
        known = torch.from_numpy(np.isfinite(self.distances[:, -1]))
        least = torch.where(known, self.metric.least(self.queries, self.distances[:, -1]), -torch.inf)
        self._least.copy_(least)
        self._new, self._waiting = [], 0


def _excluder(queries: Block, gallery: Block, device: torch.device | str = "cpu") -> Exclude:
    """A function that writes `never` where a pair must not be neighbors: the query itself, and rows with an equal code."""
    order = np.argsort(gallery.keys)
    place = np.minimum(np.searchsorted(gallery.keys, queries.keys, sorter=order), len(order) - 1)
    itself = order[place]
    found = np.flatnonzero(gallery.keys[itself] == queries.keys)
    codes = [
        (torch.from_numpy(queries.codes[:, c]).to(device), torch.from_numpy(gallery.codes[:, c]).to(device))
        for c in range(queries.codes.shape[1])
    ]

    def exclude(rows: slice, columns: slice, scores: Tensor) -> None:
        mine = found[np.searchsorted(found, rows.start) : np.searchsorted(found, rows.stop)]
        mine = mine[(itself[mine] >= columns.start) & (itself[mine] < columns.stop)]
        if len(mine):
            places = torch.from_numpy(np.stack([mine - rows.start, itself[mine] - columns.start])).to(device)
            scores[places[0], places[1]] = never(scores.dtype)
        for ours, theirs in codes:
            own = ours[rows, None]
            scores.masked_fill_((own == theirs[None, columns]) & (own >= 0), never(scores.dtype))

    return exclude


def _kth(rows: Tensor, scores: Tensor, k: int, n: int) -> Tensor:
    """The k-th largest score (n,) of each row; -inf where it has fewer."""
    out = torch.full((n,), -torch.inf, dtype=torch.float64, device=scores.device)
    counts = torch.bincount(rows, minlength=n)
    enough = counts >= k
    among = enough[rows]
    rows, scores, counts = rows[among], scores[among], counts[enough]
    order = torch.argsort(scores, descending=True)
    order = order[torch.argsort(rows[order], stable=True)]
    out[enough] = scores[order[counts.cumsum(0) - counts + k - 1]]
    return out


def _in_order(rows: np.ndarray, distances: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of entries by (row, distance, key), and the rows in that order."""
    bits = (distances + np.float32(0)).view(
        np.uint32
    )  # bits of floats ascend as they do, once those below zero are turned over
    bits = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    both = rows.astype(np.uint64) << np.uint64(32) | bits
    order = np.argsort(both)
    both = both[order]
    same = both[1:] == both[:-1]
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        among = order[tied]
        order[tied] = among[np.lexsort((keys[among], both[tied]))]
    return order, (both >> np.uint64(32)).astype(np.int64)
