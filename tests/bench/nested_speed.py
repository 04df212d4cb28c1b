"""Exact neighbors in eight nested sizes of a gallery: one pass (searching/nested.py) against one exact search a size, in turn, equal to the bit.

Both read the same Parquet files. Two series of sizes: in equal steps, and 1, 2, 5, 10 thousand ..., where the small sizes cost little either way.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from cbmir.sampling import random_order
from cbmir.searching.nested import NestedSearch, Sample
from cbmir.searching.searchers import ExactSearch, no_codes
from cbmir.store import Study
from cbmir.vectors import Vectors
from tests.bench.drawn_study import ENCODER, make
from tests.bench.vectors import SPREAD, drawn

GALLERY, QUERIES, DIM, K, REPEATS = 100_000, 2_000, 512, 10, 3
SERIES = {
    "equal steps": tuple(GALLERY * i // 8 for i in range(1, 9)),
    "1-2-5": tuple(GALLERY * i // 100 for i in (1, 2, 5, 10, 20, 50, 75, 100)),
}


def run(scratch: Path) -> None:
    study = Study(str(scratch / "nested"))
    make(study, gallery=GALLERY, queries=1, dim=DIM, spread=SPREAD)
    vectors = Vectors(study, ENCODER)
    manifest = study.dataset("manifest").to_table(columns=["image_key", "split"]).to_pandas()
    order = random_order(manifest["image_key"][manifest["split"] == "train"].to_numpy(), seed=0)
    keys, queries = -1 - np.arange(QUERIES), drawn(QUERIES, DIM, seed=1)
    print(f"  {GALLERY:,} x {DIM}, {QUERIES:,} queries, k = {K}; medians of {REPEATS} in turn; seconds")
    for name, sizes in SERIES.items():
        compare(name, vectors, Sample(order, sizes), keys, queries)


def compare(name: str, vectors: Vectors, sample: Sample, keys: np.ndarray, queries: np.ndarray) -> None:
    def one_pass() -> list:
        return NestedSearch(vectors, [sample], no_codes(), k=K).block(keys, queries)[0]

    def one_each() -> list:
        prefixes = (np.sort(sample.order[:size]) for size in sample.sizes)
        return [ExactSearch(vectors, prefix, no_codes(), k=K).block(keys, queries) for prefix in prefixes]

    times: dict = {one_pass: [], one_each: []}
    found = {}
    for _ in range(REPEATS):
        for search, seconds in times.items():
            began = time.perf_counter()
            found[search] = search()
            seconds.append(time.perf_counter() - began)
    pairs = zip(found[one_pass], found[one_each], strict=True)
    equal = all(np.array_equal(a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    nested, single = np.array(times[one_pass]), np.array(times[one_each])
    print(
        f"  {name:<12} one pass {np.median(nested):6.2f}, a search a size {np.median(single):6.2f}; "
        f"ratio {np.median(single / nested):5.2f}; results {'equal' if equal else 'DIFFER'}",
        flush=True,
    )
