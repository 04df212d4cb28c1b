"""The expansion that a wanted recall takes: a sweep over a sample of queries, held against exact search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cbmir.indexing.opened import OpenIndex
from cbmir.searching.searchers import ExactSearch, IndexSearch, no_codes

MOST = 4_096  # candidates kept during a walk
SAMPLE, SEED = 1_000, 0  # queries


def sample_of(keys: np.ndarray, *, seed: int = SEED, most: int = SAMPLE) -> np.ndarray:
    """Ascending keys, at most `most` of them at random."""
    if len(keys) <= most:
        return keys
    return np.sort(np.random.default_rng(seed).choice(keys, most, replace=False))


def find_expansion(
    index: OpenIndex,
    keys: np.ndarray,
    queries: np.ndarray,
    *,
    wanted: float,
    k: int,
    rerank: int,
    device: str,
    threads: int = 0,
) -> dict[str, Any]:
    """The least expansion with mean recall@k >= `wanted` over queries (n, dim) float32 -> a record for run.json.

    Recall@k of a query: the share of its k exact neighbors that are found (of those that it has, where the gallery is smaller). Doubled from
    rerank * k, below which the walk is as deep anyway, until it is reached, then halved in between. `reached` is false where MOST is not enough. threads: of the walks; 0: as many as cores.
    """
    gallery = index.keys
    k = min(k, len(gallery))
    truth = ExactSearch(index.stored, gallery, no_codes(), k=k, metric=index.metric, device=device).block(keys, queries)
    tried: dict[int, float] = {}

    def measure(expansion: int) -> float:
        search = IndexSearch(
            index, gallery, no_codes(), k=k, expansion=expansion, rerank=rerank, threads=threads, device=device
        )
        found = [search.block(keys[i : i + search.rows], queries[i : i + search.rows]) for i in _starts(keys, search)]
        near = np.concatenate([block[0] for block in found])
        tried[expansion] = recall(near, truth[0], truth[2])
        return tried[expansion]

    expansion = _least(measure, wanted, low=max(16, rerank * k))
    return {
        "wanted": wanted,
        "k": k,
        "rerank": rerank,
        "queries": len(keys),
        "seed": SEED,
        "expansion_search": expansion,
        "measured": round(tried[expansion], 5),
        "reached": tried[expansion] >= wanted,
        "tried": sorted(tried.items()),
    }


def recall(found: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> float:
    """Keys (n, k) found and true, the first counts (n,) of which are neighbors -> mean share of the true ones found; 1 where there is none."""
    shares = [
        len(np.intersect1d(row, true[:count])) / count
        for row, true, count in zip(found, truth, counts, strict=True)
        if count
    ]
    return float(np.mean(shares)) if shares else 1.0


def _starts(keys: np.ndarray, search: IndexSearch) -> range:
    return range(0, len(keys), search.rows)


def _least(measure: Callable[[int], float], wanted: float, *, low: int) -> int:
    """The least expansion that measures `wanted`, give or take an eighth of it; the largest tried where none does."""
    below, expansion = 0, low
    while measure(expansion) < wanted:
        if expansion >= MOST:
            return expansion
        below, expansion = expansion, min(MOST, 2 * expansion)
    while below and expansion - below > max(8, expansion // 8):
        middle = (below + expansion) // 2
        if measure(middle) < wanted:
            below = middle
        else:
            expansion = middle
    return expansion
