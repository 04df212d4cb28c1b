"""A finished index, opened for search: its graphs mapped into memory, its stored vectors beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cbmir.indexing.codec import Codec
from cbmir.indexing.graph import walk
from cbmir.indexing.rows import Together


@dataclass(eq=False)
class OpenIndex:
    """Shards searched as one."""

    graphs: list
    stored: Together
    codec: Codec
    run: dict[str, Any]

    def __bool__(self) -> bool:
        return True  # also where all its vectors are zeros

    def __len__(self) -> int:
        return sum(len(graph) for graph in self.graphs)

    @property
    def metric(self) -> str:
        return self.codec.metric

    @property
    def keys(self) -> np.ndarray:
        """Ascending keys (n,) int64 of all that the index was made of."""
        return np.sort(np.concatenate([np.zeros(0, np.int64), *(rows.keys for rows in self.stored.shards)]))

    def candidates(self, queries: np.ndarray, depth: int, *, expansion: int, threads: int = 0) -> np.ndarray:
        """queries (n, dim) float32 -> keys (n, <= depth) int64 of the nearest by what the graphs hold; -1: an empty place."""
        encoded = self.codec.encode(queries)
        found = [
            walk(graph, encoded, min(depth, len(graph)), expansion=expansion, threads=threads)
            for graph in self.graphs
            if len(graph)
        ]
        keys = np.concatenate([near for near, _ in found], axis=1)
        distances = np.concatenate([far for _, far in found], axis=1)
        keys = np.where(np.isfinite(distances), keys, -1)
        if len(found) > 1:
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :depth]
            keys = np.take_along_axis(keys, nearest, axis=1)
        return keys
