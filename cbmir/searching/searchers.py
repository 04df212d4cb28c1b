"""The two ways to find neighbors: every vector compared, or candidates from a graph that are scored again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import numpy as np

from cbmir.errors import UserError
from cbmir.searching.distance import Block
from cbmir.searching.exact import NO_KEY, RunningTopK
from cbmir.searching.rescoring import rescored
from cbmir.vectors import Part

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # keys (n, k) int64, distances (n, k) float32, counts (n,)
DEEPEST = 8_192  # candidates a query: beyond, a full pass is cheaper, and a block's candidates would fill gigabytes
Codes = tuple[np.ndarray, np.ndarray]  # ascending manifest keys (m,), exclusion codes (m, c)


class Source(Protocol):
    """Vectors that can be streamed: a study's (vectors.Vectors), or those beside an index."""

    def tiles(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...


class Stored(Source, Protocol):
    def vectors(self, keys: np.ndarray) -> np.ndarray:
        """keys (m,) int64, -1 for none -> (m, dim) float32, anything for none."""

    def __len__(self) -> int: ...


class Codec(Protocol):
    def usable(self, vectors: np.ndarray) -> np.ndarray | bool:
        """Which queries have a place in the graph."""


class Index(Protocol):
    """What a search asks of an opened index (indexing/opened.py)."""

    metric: str
    codec: Codec
    stored: Stored

    def __len__(self) -> int: ...

    def candidates(self, queries: np.ndarray, depth: int, *, expansion: int, threads: int) -> np.ndarray:
        """(n, <= depth) keys of the nearest, -1 in empty places."""


class ExactSearch:
    """Every gallery vector against every query."""

    def __init__(
        self,
        vectors: Source,
        gallery: np.ndarray,
        codes: Codes,
        *,
        k: int,
        metric: str = "cos",
        device: str = "auto",
        part: Part | None = None,
    ) -> None:
        """part: those files of the gallery alone, as Vectors.parts cuts it."""
        self.vectors, self.gallery, self.codes, self.k, self.metric = vectors, gallery, codes, k, metric
        self.tiles = vectors.tiles if part is None else partial(vectors.tiles, part=part)
        self.device = torch_device(device)
        self.rows = self.rows_of(k)

    @staticmethod
    def rows_of(k: int) -> int:
        """Queries of a block: the gallery is read once for each."""
        return max(1_024, min(16_384, 20_000_000 // k))

    def block(self, keys: np.ndarray, queries: np.ndarray) -> Found:
        """keys (n,), queries (n, dim) -> their neighbors, ascending by (distance, key); keys need not be in the study."""
        asked = Block(keys, queries, codes_of(self.codes, keys))
        running = RunningTopK(asked, k=self.k, metric=self.metric, device=self.device)
        for tile_keys, tile in self.tiles(self.gallery):
            running.add(Block(tile_keys, tile, codes_of(self.codes, tile_keys)))
        return running.result()


class IndexSearch:
    """Candidates from a USearch graph, their distances from the stored vectors; exact over the gallery where the graph comes up short.

    The graph is asked for `rerank` * k candidates, or for more where some of them will be passed over: excluded ones and those outside the gallery are
    known only afterwards. The first `rerank` * k of those that are left are scored as exact search scores them, so that distances and their order
    do not depend on the graph's type. Rounds of growing depth go on while a query has fewer than k; where the depth would reach half of the graph
    or DEEPEST, and for zero vectors, which have no direction to walk in, every vector of the gallery is compared. So k neighbors come back
    wherever the gallery has k.
    """

    ROUNDS = (1, 4)
    rows = 1_024  # queries of a block
    PAIRS = 32_768  # scored at once

    def __init__(
        self,
        index: Index,
        gallery: np.ndarray,
        codes: Codes,
        *,
        k: int,
        expansion: int,
        rerank: int = 4,
        threads: int = 0,
        device: str = "auto",
    ) -> None:
        self.index, self.gallery, self.codes, self.k = index, gallery, codes, k
        self.expansion, self.rerank, self.threads = expansion, rerank, threads
        self.exact = ExactSearch(index.stored, gallery, codes, k=k, metric=index.metric, device=device)
        self.share = len(gallery) / max(1, len(index.stored))  # of all that the index was made of; 1: no filter

    def block(self, keys: np.ndarray, queries: np.ndarray) -> Found:
        """As ExactSearch.block."""
        found = (
            np.full((len(keys), self.k), NO_KEY, np.int64),
            np.full((len(keys), self.k), np.inf, np.float32),
            np.zeros(len(keys), np.int64),
        )
        usable = self.index.codec.usable(queries)
        pending = np.flatnonzero(np.broadcast_to(usable, keys.shape))
        by_hand = np.setdiff1d(np.arange(len(keys)), pending)
        asked = Block(keys, queries)
        for depth in self._depths():
            if len(pending):
                pending = pending[~self._walk(asked, pending, depth, found)]
        rest = np.concatenate([by_hand, pending])
        if len(rest):
            for mine, exact in zip(found, self.exact.block(keys[rest], queries[rest]), strict=True):
                mine[rest] = exact
        return found

    def _depths(self) -> list[int]:
        """How many candidates to ask for in each round; none where a full pass is cheaper."""
        if len(self.index) == 0:
            return []
        passes_over = self.share < 1 or self.codes[1].shape[1] > 0
        needed = candidates_needed(k=self.k, rerank=self.rerank, passes_over=passes_over) / self.share
        depths = [int(needed * factor) for factor in self.ROUNDS]
        limit = deepest(k=self.k, graph=len(self.index))
        return [depth for depth in depths if depth <= limit] or ([limit] if self.share == 1 else [])

    def _walk(self, asked: Block, rows: np.ndarray, depth: int, found: Found) -> np.ndarray:
        """One round for `rows`: fills their places in `found`, returns which of them found k."""
        near = self.index.candidates(asked.vectors[rows], depth, expansion=self.expansion, threads=self.threads)
        allowed = (near >= 0) & self._is_allowed(asked.keys[rows], near)
        full = allowed.sum(axis=1) >= self.k
        first = np.argsort(~allowed, axis=1, kind="stable")[:, : max(self.rerank, 1) * self.k]
        near, allowed = np.take_along_axis(near, first, 1), np.take_along_axis(allowed, first, 1)
        distances = np.empty(near.shape, np.float32)
        step = max(1, self.PAIRS // near.shape[1])
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            vectors = self.index.stored.vectors(near[here].ravel()).reshape(*near[here].shape, -1)
            distances[here] = rescored(
                self.index.metric, asked, rows[here], near[here], vectors, allowed[here], k=self.k
            )
        near = np.where(allowed, near, NO_KEY)
        order = np.lexsort((near, distances))[:, : self.k]
        width = order.shape[1]
        found[0][rows, :width] = np.take_along_axis(near, order, 1)
        found[1][rows, :width] = np.take_along_axis(distances, order, 1)
        found[2][rows] = np.minimum(allowed.sum(axis=1), self.k)
        return full

    def _is_allowed(self, keys: np.ndarray, near: np.ndarray) -> np.ndarray:
        """(n, depth): neither the query itself, nor outside the gallery, nor excluded by a common value."""
        allowed = near != keys[:, None]
        if self.share < 1:
            place = np.minimum(np.searchsorted(self.gallery, near), len(self.gallery) - 1)
            allowed &= self.gallery[place] == near
        mine = codes_of(self.codes, keys)
        if mine.shape[1]:
            theirs = codes_of(self.codes, near.ravel()).reshape(*near.shape, -1)
            for c in range(mine.shape[1]):
                allowed &= ~((theirs[:, :, c] == mine[:, c][:, None]) & (mine[:, c] >= 0)[:, None])
        return allowed


def candidates_needed(*, k: int, rerank: int, passes_over: bool) -> int:
    """How many candidates an index is asked for first, of a gallery that it holds whole; its walks keep as many at least.

    passes_over: whether some of them may be excluded.
    """
    return max(rerank * k, (k + 1) * (2 if passes_over else 1))


def deepest(*, k: int, graph: int) -> int:
    """The most candidates that a graph of so many vectors is asked for."""
    return max(k + 1, min(DEEPEST, graph // 2))


def codes_of(codes: Codes, keys: np.ndarray) -> np.ndarray:
    """Rows (m, c) of the exclusion codes for keys (m,), in their order; unknown keys exclude nothing (-1)."""
    known, values = codes
    if values.shape[1] == 0 or len(known) == 0:
        return np.full((len(keys), values.shape[1]), -1, np.int64)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where((known[place] == keys)[:, None], values[place], -1)


def no_codes() -> Codes:
    """Nothing is excluded."""
    return np.zeros(0, np.int64), np.zeros((0, 0), np.int64)


def torch_device(asked: str) -> str:
    """'auto' -> 'cuda' where torch sees one, else 'cpu'."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU; expected one; use --device cpu, or see cbmir doctor")
    return asked if asked != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
