"""`python -m tests.bench.scale_study [--gallery N] [--directory DIR]`: the study of index sizes over 400,000 drawn vectors, by the job that people submit.

Vectors and labels as in scale.py. First exact search of eight nested sizes and five seeds, then an index of each sample as well, for one seed: what the first has
done is not done again. Wall time of each, and of its tasks the peak of resident memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import duckdb

from cbmir.store import Study, versions
from tests.bench.__main__ import processor
from tests.bench.drawn_study import ENCODER, make
from tests.bench.scale import DIM, QUERIES, SPREAD, step

GALLERY, SEEDS = 400_000, 5
PARTS = (200, 100, 40, 20, 10, 4, 2)  # of the gallery: its sizes but the whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", type=int, default=GALLERY)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--directory", help="on a disk with 4 GB free (default: a temporary one)")
    asked = parser.parse_args()
    made = versions()
    print(
        f"machine: {os.cpu_count()} cores, {processor()}; torch {made['torch']}, usearch {made['usearch']}, ray {made['ray']}, python {made['python']}"
    )
    with tempfile.TemporaryDirectory(prefix="cbmir-scale-", dir=asked.directory) as directory:
        study = Study(str(Path(directory) / "study"))
        began = time.perf_counter()
        make(study, gallery=asked.gallery, queries=asked.queries, dim=DIM, spread=SPREAD)
        print(
            f"{asked.gallery:,} vectors x {DIM}, {asked.queries:,} queries, drawn in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        sizes = ",".join(str(asked.gallery // part) for part in PARTS) + ",all"
        flags = ["--study", study.address, "--encoder", ENCODER, "--sizes", sizes, "--k", "1,3,5,10"]
        step(f"exact, {asked.seeds} seeds", "study_index_size", *flags, "--seeds", str(asked.seeds))
        step("again, all done", "study_index_size", *flags, "--seeds", str(asked.seeds))
        step(
            "index, 1 seed",
            "study_index_size",
            *flags,
            "--seeds",
            "1",
            "--index",
            "exact,i8",
            "--dtype",
            "i8",
            "--pca",
            "128",
            "--recall",
            "0.95",
        )
        told(study)


def told(study: Study) -> None:
    """Samples, costs and fits, as the study has them."""
    names = {dataset: f"'{study.path(dataset)}/*.parquet'" for dataset in ("scaling", "scaling_costs", "fits")}
    print(
        duckdb.sql(
            f"""SELECT c.index, c.sample_size AS size, count(*) AS seeds, round(avg(s.value), 4) AS p_at_1, round(stddev(s.value), 4) AS over_seeds,
                round(avg(c.recall), 4) AS recall, max(c.expansion_search) AS expansion, round(median(c.build_seconds), 1) AS build_s,
                round(median(1000 * c.search_seconds / c.n_queries), 3) AS ms_a_query, round(max(c.graph_bytes) / 1e6, 1) AS graph_mb,
                round(max(c.peak_bytes) / 2 ** 30, 2) AS peak_gib
                FROM {names["scaling_costs"]} AS c JOIN {names["scaling"]} AS s USING (index, sampling, seed, sample_size)
                WHERE s.metric = 'precision_at_k' AND s.k = 1 AND s.relevance = 'label' AND s.slice_by = 'all' AND s.average = 'micro'
                GROUP BY ALL ORDER BY ALL"""
        ).df().to_string(index=False)
    )  # fmt: skip
    print(
        duckdb.sql(
            f"""SELECT index, model, is_chosen AS chosen, gallery_size, round(value, 4) AS p_at_1, round(ci_low, 4) AS low, round(ci_high, 4) AS high
                FROM {names["fits"]} WHERE metric = 'precision_at_k' AND k = 1 AND relevance = 'label' AND slice_by = 'all' AND average = 'micro'
                AND is_extrapolation AND index = 'exact' ORDER BY model, gallery_size"""
        ).df().to_string(index=False),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
