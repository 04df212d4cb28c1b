"""Exact search for few queries at a time, over vectors that stay in memory.

A search over millions of queries prepares each tile of the gallery for all of them; for one query the preparation would be most of the
work. Here a product in float32 names the rows that its rounding error cannot exclude, and only these go to the exact search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

MOST_HELD = 1 << 30  # bytes of vectors; a larger gallery is read again for every batch
_PLAIN = (1e-15, 1e15)  # norms whose squares are float32 numbers

Tiles = Iterable[tuple[np.ndarray, np.ndarray]]  # keys (m,) int64, vectors (m, dim) float32


class Searcher(Protocol):
    """What finds neighbors."""

    def block(self, keys: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """keys (n,), queries (n, dim) float32 -> neighbors' keys (n, k), distances (n, k) ascending, counts (n,)."""


class Source:
    """Tiles in the place of a study's vectors."""

    def __init__(self, tiles: Callable[[], Tiles]) -> None:
        self._tiles = tiles

    def tiles(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `Vectors.tiles`; what is wanted is known."""
        yield from self._tiles()


class Held:
    """A gallery's vectors in memory; `read` gives its tiles from the study."""

    def __init__(self, read: Callable[[], Tiles]) -> None:
        self._read = read
        self._tiles: list[tuple[np.ndarray, np.ndarray, torch.Tensor]] | None = None

    def load(self) -> list[tuple[np.ndarray, np.ndarray, torch.Tensor]]:
        """Keys (m,), vectors (m, dim) and inverse norms (m,) of each tile, read the first time."""
        if self._tiles is None:
            self._tiles = [(keys, vectors, _inverse_norms(vectors)) for keys, vectors in self._writable()]
        return self._tiles

    def _writable(self) -> Tiles:
        for keys, vectors in self._read():
            yield keys, vectors if vectors.flags.writeable else vectors.copy()  # torch warns of memory that is a file's


class HeldSearch:
    """The neighbors that an exact search by cosine finds; exact: tiles -> that search, for the same k."""

    def __init__(self, held: Held, exact: Callable[[Source], Searcher], *, k: int) -> None:
        self.held, self.exact, self.k = held, exact, k

    def block(self, keys: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As an exact search over all of the vectors."""
        return self.exact(Source(lambda: self._shortlist(queries))).block(keys, queries)

    def _shortlist(self, queries: np.ndarray) -> Tiles:
        """The rows that may be among the k nearest of any query, as one tile.

        A product of float32 vectors of length dim, divided by their norms, is off by (dim + 5) roundings of 2^-24 at most, in any order of
        summation; so a row that is more than twice that below the k-th best is not nearer than any of these k. Twice as much is allowed,
        which also covers distances that become one when they are rounded.
        """
        unit = torch.from_numpy(np.ascontiguousarray(queries)) * _inverse_norms(queries)[:, None]  # (n, dim)
        tiles = self.held.load()
        scores = [(torch.from_numpy(vectors) @ unit.T) * norms[:, None] for _, vectors, norms in tiles]  # (m, n)
        if not all(bool(score.isfinite().all()) for score in scores):
            return [(keys, vectors) for keys, vectors, _ in tiles]
        together = torch.cat(scores)
        kth = together.topk(min(self.k, len(together)), dim=0).values[-1]  # (n,)
        lowest = kth - 4 * (queries.shape[1] + 5) * 2.0**-24
        chosen = [(score >= lowest).any(dim=1).numpy() for score in scores]
        parts = [(keys[rows], vectors[rows]) for (keys, vectors, _), rows in zip(tiles, chosen, strict=True)]
        return [(np.concatenate([keys for keys, _ in parts]), np.concatenate([vectors for _, vectors in parts]))]


def _inverse_norms(vectors: np.ndarray) -> torch.Tensor:
    """(n, dim) -> (n,) float32: 1 / norm, 0 for a vector of zeros, NaN where a norm is no number that squares can be summed in."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    inverse = np.full(len(norms), np.nan)
    plain = (norms > _PLAIN[0]) & (norms < _PLAIN[1])
    inverse[plain], inverse[norms == 0] = 1 / norms[plain], 0.0
    return torch.from_numpy(inverse.astype(np.float32))
