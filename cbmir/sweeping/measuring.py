"""One point of a sweep, measured: the neighbors of all queries, and how many queries a second it answers.

Timings are of a sample of the queries, whose vectors are in memory. The pass over all queries that stores their neighbors comes first, so that what is
timed is warm: code loaded, graph and vectors in memory as far as they fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import numpy as np

from cbmir.searching.searchers import Source
from cbmir.searching.spread import Searcher, in_turn
from cbmir.vectors import Vectors

MOST_HELD = 2 * 2**30  # bytes of a gallery's vectors that exact search finds in memory; of a larger one it reads files


class Held:
    """A gallery's vectors in memory, in tiles."""

    def __init__(self, vectors: Vectors, gallery: np.ndarray) -> None:
        self._tiles = list(vectors.tiles(gallery))

    def tiles(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `Vectors.tiles`; what is wanted is the gallery."""
        yield from self._tiles


def gallery_source(vectors: Vectors, gallery: np.ndarray) -> Source:
    """What exact search reads a gallery from: memory where it fits, else the study's files."""
    return Held(vectors, gallery) if 4 * len(gallery) * vectors.dim <= MOST_HELD else vectors


@dataclass(frozen=True)
class Timed:
    """Queries whose search is timed."""

    keys: np.ndarray  # (n,) int64
    vectors: np.ndarray  # (n, dim) float32
    rounds: int

    def seconds(self, searcher: Searcher) -> list[float]:
        """Of each round over all of them, in the blocks that the searcher takes."""
        return [self._round(searcher) for _ in range(self.rounds)]

    def _round(self, searcher: Searcher) -> float:
        starts = range(0, len(self.keys), searcher.rows)
        blocks = ((self.keys[i : i + searcher.rows], self.vectors[i : i + searcher.rows]) for i in starts)
        began = time.perf_counter()
        for _ in in_turn(searcher, blocks):
            pass
        return time.perf_counter() - began


def speed(timed: Timed, seconds: list[float]) -> dict[str, Any]:
    """What run.json says of the rounds."""
    return {
        "timed_queries": len(timed.keys),
        "seconds_by_round": [round(each, 6) for each in seconds],
        "queries_per_second": len(timed.keys) / median(seconds),
    }


@cache
def processor() -> str:
    """What computes here, as the system calls it: timings of two machines are no points of one sweep."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        import platform

        return platform.processor() or "unknown"
