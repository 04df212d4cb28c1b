"""The two ways to find neighbors: every vector compared, or a walk through a USearch graph."""

from __future__ import annotations

import numpy as np

from cbmir.errors import UserError
from cbmir.searching.distance import Block
from cbmir.searching.exact import NO_KEY, RunningTopK
from cbmir.vectors import Vectors

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # keys (n, k) int64, distances (n, k) float32, counts (n,)
Codes = tuple[np.ndarray, np.ndarray]  # ascending manifest keys (m,), exclusion codes (m, c)


class ExactSearch:
    """Every gallery vector against every query."""

    def __init__(self, vectors: Vectors, gallery: np.ndarray, codes: Codes, *, k: int, device: str = "auto") -> None:
        self.vectors, self.gallery, self.codes, self.k = vectors, gallery, codes, k
        self.device = torch_device(device)
        self.rows = max(1_024, min(16_384, 20_000_000 // k))  # queries of a block: the gallery is read once for each

    def block(self, keys: np.ndarray, queries: np.ndarray) -> Found:
        """keys (n,), queries (n, dim) -> their neighbors, ascending by (distance, key); keys need not be in the study."""
        running = RunningTopK(Block(keys, queries, codes_of(self.codes, keys)), k=self.k, device=self.device)
        for tile_keys, tile in self.vectors.tiles(self.gallery):
            running.add(Block(tile_keys, tile, codes_of(self.codes, tile_keys)))
        return running.result()


class IndexSearch:
    """Through a USearch graph; exact over the gallery for the queries that the graph cannot fill.

    Excluded neighbors and those outside the gallery are passed over after the walk, so more than k are asked for, in
    rounds of growing depth; where the depth would reach half of the graph or DEEPEST, and for zero vectors, which have
    no direction to walk in, the search is exact instead. So k neighbors come back wherever the gallery has k.
    """

    ROUNDS = (1, 4)
    rows = 1_024  # queries of a block
    DEEPEST = 8_192  # candidates a query: beyond, a full pass is cheaper, and a block's candidates would fill gigabytes

    def __init__(
        self,
        graph,
        vectors: Vectors,
        gallery: np.ndarray,
        codes: Codes,
        *,
        k: int,
        expansion: int,
        device: str = "auto",
    ) -> None:
        self.graph, self.gallery, self.codes, self.k, self.expansion = graph, gallery, codes, k, expansion
        self.exact = ExactSearch(vectors, gallery, codes, k=k, device=device)
        self.share = min(1.0, len(gallery) / max(1, len(graph)))

    def block(self, keys: np.ndarray, queries: np.ndarray) -> Found:
        """As ExactSearch.block; distances are the graph's own, computed in its dtype."""
        found = (
            np.full((len(keys), self.k), NO_KEY, np.int64),
            np.full((len(keys), self.k), np.inf, np.float32),
            np.zeros(len(keys), np.int64),
        )
        pending = np.flatnonzero(np.einsum("ij,ij->i", queries, queries) > 0)
        by_hand = np.setdiff1d(np.arange(len(keys)), pending)
        for depth in self._depths():
            if len(pending):
                full = self._walk(keys, queries, pending, depth, found)
                pending = pending[~full]
        rest = np.concatenate([by_hand, pending])
        if len(rest):
            for mine, exact in zip(found, self.exact.block(keys[rest], queries[rest]), strict=True):
                mine[rest] = exact
        return found

    def _depths(self) -> list[int]:
        """How many candidates to ask for in each round; none where a full pass is cheaper."""
        if len(self.graph) == 0:
            return []
        needed = (self.k + 1) * (2 if self.share < 1 or self.codes[1].shape[1] else 1) / self.share
        depths = [int(needed * factor) for factor in self.ROUNDS]
        limit = max(self.k + 1, min(self.DEEPEST, len(self.graph) // 2))
        worth_it = [depth for depth in depths if depth <= limit]
        return [min(depth, len(self.graph)) for depth in worth_it]

    def _walk(self, keys: np.ndarray, queries: np.ndarray, rows: np.ndarray, depth: int, found: Found) -> np.ndarray:
        """One round for `rows`: fills their places in `found`, returns which of them found k."""
        self.graph.expansion_search = max(self.expansion, depth)
        matches = self.graph.search(np.ascontiguousarray(queries[rows]), depth)
        near = np.atleast_2d(matches.keys).astype(np.int64)
        distances = np.atleast_2d(matches.distances).astype(np.float32)
        counts = matches.counts if len(rows) > 1 else np.array([len(matches)])  # a lone query comes back 1-D, unpadded
        allowed = np.arange(near.shape[1])[None, :] < counts[:, None]  # the rest is padded with key 0
        allowed &= self._is_allowed(keys[rows], near)
        distances = np.where(allowed, np.clip(distances, 0.0, 2.0), np.inf)
        near = np.where(allowed, near, NO_KEY)
        order = np.lexsort((near, distances))[:, : self.k]
        width = order.shape[1]
        found[0][rows, :width] = np.take_along_axis(near, order, 1)
        found[1][rows, :width] = np.take_along_axis(distances, order, 1)
        found[2][rows] = np.minimum(allowed.sum(axis=1), self.k)
        return found[2][rows] == self.k

    def _is_allowed(self, keys: np.ndarray, near: np.ndarray) -> np.ndarray:
        """(n, depth): neither the query itself, nor outside the gallery, nor excluded by a common value."""
        allowed = near != keys[:, None]
        if self.share < 1:
            allowed &= np.isin(near, self.gallery)
        mine = codes_of(self.codes, keys)
        theirs = codes_of(self.codes, near.ravel()).reshape(*near.shape, -1)
        for c in range(mine.shape[1]):
            allowed &= ~((theirs[:, :, c] == mine[:, c][:, None]) & (mine[:, c] >= 0)[:, None])
        return allowed


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
