"""Approximate search at equal recall: an index of cbmir, with re-ranking, against faiss-cpu's HNSW and hnswlib; same vectors, same threads, in turn.

Of each, the least expansion that reaches a recall@10 is found first; then all of them are timed at it. `make bench` installs both: nothing but this
needs them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cbmir.indexing.codec import Codec
from cbmir.indexing.graph import open_graph
from cbmir.indexing.opened import OpenIndex
from cbmir.indexing.rows import Rows, Together
from cbmir.indexing.shard import Shape, build
from cbmir.indexing.tune import recall
from cbmir.searching.searchers import ExactSearch, IndexSearch, no_codes
from tests.bench.vectors import drawn, unit

SIZES, QUERIES, DIM, K, REPEATS = (100_000,), 4_000, 512, 10, 3
SPREAD = 1.5  # clusters that overlap, as classes do: a recall of 0.9 takes an expansion of about 80
LEVELS = (0.90, 0.95, 0.99)
M, EXPANSION_ADD = 16, 128
OURS = {  # type of the graph, principal axes, candidates a neighbor
    "cbmir bf16": ("bf16", None, 2),
    "cbmir i8": ("i8", None, 2),
    "cbmir i8, 128 axes": ("i8", 128, 4),
}


@dataclass
class Engine:
    """Something built, that answers all queries at an expansion with keys (n, K)."""

    name: str
    seconds: float  # of building
    megabytes: float
    search: Callable[[int], np.ndarray]


def run(scratch: Path) -> None:
    try:
        import faiss
        import hnswlib
    except ImportError as error:
        print(f"  skipped: {error}; pip install faiss-cpu hnswlib")
        return
    threads = len(os.sched_getaffinity(0))
    faiss.omp_set_num_threads(threads)
    torch.set_num_threads(threads)
    print(
        f"  {QUERIES:,} queries, {DIM} numbers each, k = {K}, {threads} threads, {M} edges a node (twice that at the bottom), "
        f"{EXPANSION_ADD} candidates while building; medians of {REPEATS} in turn"
    )
    for size in SIZES:
        compare(size, scratch, faiss, hnswlib, threads)


def compare(size: int, scratch: Path, faiss, hnswlib, threads: int) -> None:
    gallery, queries = drawn(size, DIM, seed=0, spread=SPREAD), drawn(QUERIES, DIM, seed=1, spread=SPREAD)
    keys = np.arange(1, size + 1)
    asked = -1 - np.arange(QUERIES)
    truth = ExactSearch(Together([Rows(keys, gallery)]), keys, no_codes(), k=K).block(asked, queries)
    engines = [ours(name, gallery, keys, asked, queries, scratch) for name in OURS]
    unit_gallery, unit_queries = unit(gallery), unit(queries)
    engines += [
        by_faiss(unit_gallery, unit_queries, faiss),
        by_hnswlib(unit_gallery, unit_queries, hnswlib, threads),
    ]
    for engine in engines:
        print(
            f"  {size:>9,}  {engine.name:<20} built in {engine.seconds:6.1f} s, {engine.megabytes:7,.0f} MB", flush=True
        )
    for level in LEVELS:
        at = {engine.name: least(engine, truth, level) for engine in engines}
        rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for _ in range(REPEATS):
            for engine in engines:
                began = time.perf_counter()
                engine.search(at[engine.name][0])
                rates[engine.name].append(QUERIES / (time.perf_counter() - began))
        for name, (expansion, found) in at.items():
            note = "" if found >= level else " (not reached)"
            print(
                f"  {size:>9,}  recall {level:.2f}  {name:<20}{np.median(rates[name]):8,.0f} queries/s at expansion {expansion:>4}, "
                f"recall {found:.3f}{note}",
                flush=True,
            )


def least(engine: Engine, truth, level: float) -> tuple[int, float]:
    """The least expansion that reaches a recall, and that recall."""
    low, high, found = 0, 16, 0.0
    while (found := recall(engine.search(high), truth[0], truth[2])) < level and high < 2_048:
        low, high = high, 2 * high
    while found >= level and high - low > max(2, high // 32):
        middle = (low + high) // 2
        there = recall(engine.search(middle), truth[0], truth[2])
        low, high, found = (low, middle, there) if there >= level else (middle, high, found)
    return high, found


def ours(
    name: str, gallery: np.ndarray, keys: np.ndarray, asked: np.ndarray, queries: np.ndarray, scratch: Path
) -> Engine:
    """As `cbmir index` and `cbmir search` do it: with the stored vectors in a file beside the graph."""
    dtype, axes, rerank = OURS[name]
    stem = str(scratch / f"{len(keys)}-{name.replace(' ', '-').replace(',', '')}")
    began = time.perf_counter()
    codec = Codec.fitted(gallery[:: len(gallery) // 16_384 + 1], metric="cos", dtype=dtype, pca=axes)
    shape = Shape(DIM, "float32", codec, M, EXPANSION_ADD)
    tiles = ((keys[i : i + 4_096], gallery[i : i + 4_096]) for i in range(0, len(keys), 4_096))
    told = build(shape, tiles, stem, lambda rows: None)
    seconds = time.perf_counter() - began
    graph = open_graph(shape.graph(), f"{stem}.usearch", rows=told["rows"], named=name)
    index = OpenIndex([graph], Together([Rows.opened(stem, rows=told["stored"], named=name)]), codec, {})

    def search(expansion: int) -> np.ndarray:
        walks = IndexSearch(index, keys, no_codes(), k=K, expansion=expansion, rerank=rerank)
        return np.concatenate(
            [
                walks.block(asked[i : i + walks.rows], queries[i : i + walks.rows])[0]
                for i in range(0, QUERIES, walks.rows)
            ]
        )

    return Engine(name, seconds, Path(f"{stem}.usearch").stat().st_size / 1e6, search)


def by_faiss(gallery: np.ndarray, queries: np.ndarray, faiss) -> Engine:
    index = faiss.IndexHNSWFlat(DIM, M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EXPANSION_ADD
    began = time.perf_counter()
    index.add(gallery)
    seconds = time.perf_counter() - began

    def search(expansion: int) -> np.ndarray:
        index.hnsw.efSearch = expansion
        return index.search(queries, K)[1] + 1

    return Engine("faiss HNSW", seconds, len(faiss.serialize_index(index)) / 1e6, search)


def by_hnswlib(gallery: np.ndarray, queries: np.ndarray, hnswlib, threads: int) -> Engine:
    index = hnswlib.Index("ip", DIM)
    index.init_index(len(gallery), M=M, ef_construction=EXPANSION_ADD)
    index.set_num_threads(threads)
    began = time.perf_counter()
    index.add_items(gallery, np.arange(1, len(gallery) + 1))
    seconds = time.perf_counter() - began

    def search(expansion: int) -> np.ndarray:
        index.set_ef(max(expansion, K))
        return index.knn_query(queries, K)[0].astype(np.int64)

    return Engine("hnswlib", seconds, index.index_file_size() / 1e6, search)
