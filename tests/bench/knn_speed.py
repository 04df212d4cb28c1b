"""kNN classification of 160,000 drawn queries with 100 neighbors each and 161 labels, k chosen among 100 on 20,000 more."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from cbmir.classifying.pairs import knn_figures
from cbmir.evaluating.searches import find_searches
from cbmir.store import Study
from tests.bench import drawn_study
from tests.bench.drawn_neighbors import draw_neighbors

GALLERY, TEST, VAL, DEPTH = 100_000, 160_000, 20_000, 100


def run(scratch: Path) -> None:
    study = Study(str(scratch / "knn"))
    drawn_study.make(study, gallery=GALLERY, queries=TEST + VAL, dim=4, spread=1.0, val=VAL)
    for name, split in (("exact", "test"), ("exact-val", "val")):
        draw_neighbors(study, name, split, depth=DEPTH)
    began = time.perf_counter()
    table, lines = knn_figures(study, find_searches(study))
    took = time.perf_counter() - began
    assert lines == []
    chosen = next(row for row in table.to_pylist() if row["chosen"] and row["split"] == "test")
    print(
        f"  {TEST:,} queries x {DEPTH} neighbors, {drawn_study.LABELS} labels, k among {DEPTH} on {VAL:,} queries, "
        f"{len(os.sched_getaffinity(0))} cores: {took:.1f} s, k = {chosen['k']}; "
        f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    )
