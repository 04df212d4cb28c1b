"""An index of one sample, built, tuned and searched, and let go: its neighbors and its costs are what is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cbmir.index import EXPANSION
from cbmir.indexing.local import build_local
from cbmir.indexing.opened import OpenIndex
from cbmir.indexing.opening import opened
from cbmir.indexing.tune import find_expansion, sample_of
from cbmir.sampled.memory import PeakMemory
from cbmir.sampled.options import TUNED, ScalingOptions
from cbmir.schemas import NEIGHBORS
from cbmir.search import as_table
from cbmir.searching.searchers import Codes, IndexSearch
from cbmir.vectors import Vectors


@dataclass(frozen=True)
class Walked:
    """What one index found at one expansion, and what it cost."""

    index: str
    neighbors: pa.Table
    expansion: int
    build_seconds: float
    search_seconds: float
    graph_bytes: int
    peak_bytes: int | None


def walk_sample(
    vectors: Vectors,
    keys: np.ndarray,
    queries: np.ndarray,
    codes: Codes,
    *,
    wanted: tuple[str, ...],
    options: ScalingOptions,
) -> Iterator[Walked]:
    """keys (m,), queries (n,) ascending -> neighbors by an index of these keys: at the fixed expansion, and at that which the recall takes.

    wanted: names of the index and of itself tuned, or one of them.
    """
    with tempfile.TemporaryDirectory(prefix="cbmir-") as directory, PeakMemory() as memory:
        began = time.perf_counter()
        made = build_local(
            directory, vectors, keys, metric=options.metric, dtype=options.index.dtype, pca=options.index.pca,
            connectivity=options.index.connectivity, expansion_add=options.index.expansion_add, threads=options.cpus_per_task,
        )  # fmt: skip
        built = time.perf_counter() - began
        index = opened(directory, made, f"{wanted[0]} of a sample")
        for called in wanted:
            expansion = (
                _tuned(index, vectors, queries, options)
                if called.endswith(TUNED)
                else options.index.expansion_search or EXPANSION
            )
            search = IndexSearch(
                index, keys, codes, k=options.walk_depth, expansion=expansion, rerank=options.index.rerank, threads=options.cpus_per_task,
                device=options.device,
            )  # fmt: skip
            neighbors, seconds = _searched(search, vectors, queries)
            yield Walked(called, neighbors, expansion, built, seconds, index.run["graph_bytes"], memory.peak())


def _tuned(index: OpenIndex, vectors: Vectors, queries: np.ndarray, options: ScalingOptions) -> int:
    keys, asking = vectors.load(sample_of(queries))
    at = options.index
    found = find_expansion(
        index,
        keys,
        asking,
        wanted=options.recall,
        k=min(at.recall_at, options.walk_depth),
        rerank=at.rerank,
        device=options.device,
        threads=options.cpus_per_task,
    )
    return found["expansion_search"]


def _searched(search: IndexSearch, vectors: Vectors, queries: np.ndarray) -> tuple[pa.Table, float]:
    """Neighbors of all queries, and the seconds of the searches alone."""
    tables, seconds = [NEIGHBORS.empty_table()], 0.0
    for keys, tile in vectors.tiles(queries, rows=search.rows):
        began = time.perf_counter()
        found = search.block(keys, tile)
        seconds += time.perf_counter() - began
        tables.append(as_table(keys, *found))
    return pa.concat_tables(tables), seconds
