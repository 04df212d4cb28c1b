"""Exact search against faiss-cpu's IndexFlatIP and USearch's exact mode: same vectors, same threads, same neighbors, in turn.

Ours takes the vectors as they are stored, tile by tile, and its time holds everything that is done to them; faiss has normalised them and copied
them into its index beforehand. `make bench` installs faiss-cpu: nothing but benchmarks needs it. Where there is a GPU, it is timed, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cbmir.searching.distance import Block
from cbmir.searching.exact import RunningTopK
from tests.bench.vectors import drawn, unit

SIZES, QUERIES, DIM, K, REPEATS = (100_000, 400_000), (2_000, 10_000), 512, 10, 3
USEARCH_QUERIES = 100  # it is slow
TILE = 16_384
BLANK = 0.6  # share of equal rows among galleries and queries, as slices of volumes have them
TIE = 1e-6  # two neighbors whose cosines are closer may change places: float32 cannot tell them apart


def run(scratch: Path) -> None:
    try:
        import faiss
    except ImportError:
        print("  skipped: no faiss here; pip install faiss-cpu")
        return
    threads = len(os.sched_getaffinity(0))
    faiss.omp_set_num_threads(threads)
    torch.set_num_threads(threads)
    print(
        f"  {DIM} numbers each, k = {K}, {threads} threads; medians of {REPEATS} in turn; vectors, queries, queries/s"
    )
    for size in SIZES:
        gallery = drawn(size, DIM, seed=0)
        for asked in QUERIES:
            compare(gallery, drawn(asked, DIM, seed=1), faiss, threads)
    blanks(drawn(SIZES[0], DIM, seed=0), drawn(QUERIES[0], DIM, seed=1))


def blanks(gallery: np.ndarray, queries: np.ndarray) -> None:
    """Slices without anything on them are equal, and no bound tells them apart."""
    rng = np.random.default_rng(2)
    for value in (0.0, 0.5):
        ratios = []
        some = [vectors.copy() for vectors in (gallery, queries)]
        for vectors in some:
            vectors[rng.random(len(vectors)) < BLANK] = value
        for _ in range(REPEATS):
            began = time.perf_counter()
            ours(gallery, queries, half=None)
            between = time.perf_counter()
            ours(*some, half=None)
            ratios.append((time.perf_counter() - between) / (between - began))
        print(
            f"  {BLANK:.0%} of all rows and queries {value}: {np.median(ratios):5.2f} times as long as where all differ",
            flush=True,
        )


def compare(gallery: np.ndarray, queries: np.ndarray, faiss, threads: int) -> None:
    unit_gallery, unit_queries = unit(gallery), unit(queries)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(unit_gallery)
    searches: dict[str, Callable[[], np.ndarray]] = {
        "cbmir": lambda: ours(gallery, queries, half=None),
        "cbmir, float32": lambda: ours(gallery, queries, half=False),
        "faiss": lambda: flat.search(unit_queries, K)[1],
        "USearch": lambda: usearch(unit_gallery, unit_queries[:USEARCH_QUERIES], threads),
    }
    if torch.cuda.is_available():
        searches["cbmir, GPU"] = lambda: ours(gallery, queries, half=None, device="cuda")
    rates: dict[str, list[float]] = {name: [] for name in searches}
    found = {}
    for _ in range(REPEATS):
        for name, search in searches.items():
            began = time.perf_counter()
            found[name] = search()
            rates[name].append(len(found[name]) / (time.perf_counter() - began))
    mine = np.array(rates["cbmir"])
    for name, others in rates.items():
        n = len(found[name])
        wrong = differences(found["cbmir"][:n], found[name], unit_gallery, unit_queries[:n])
        print(
            f"  {len(gallery):>9,}  {len(queries):>6,}  {name:<16}{np.median(others):9,.0f}  cbmir is {np.median(mine / others):5.2f} times as fast; "
            f"neighbors that differ by more than a tie: {wrong}",
            flush=True,
        )


def ours(gallery: np.ndarray, queries: np.ndarray, *, half: bool | None, device: str = "cpu") -> np.ndarray:
    """Rows (n, k) of the nearest."""
    running = RunningTopK(Block(-1 - np.arange(len(queries)), queries), k=K, half=half, device=device)
    for start in range(0, len(gallery), TILE):
        tile = gallery[start : start + TILE]
        running.add(Block(np.arange(start, start + len(tile)), tile))
    return running.result()[0]


def usearch(gallery: np.ndarray, queries: np.ndarray, threads: int) -> np.ndarray:
    from usearch.index import MetricKind, search

    return search(gallery, queries, K, MetricKind.Cos, exact=True, threads=threads).keys.astype(np.int64)


def differences(one: np.ndarray, other: np.ndarray, gallery: np.ndarray, queries: np.ndarray) -> int:
    """Places where two results name different vectors whose cosines are apart by more than TIE."""
    row, place = np.nonzero(one != other)
    cosine = [
        np.einsum("ij,ij->i", gallery[found[row, place]], queries[row], dtype=np.float64) for found in (one, other)
    ]
    return int((np.abs(cosine[0] - cosine[1]) > TIE).sum())
