"""kNN classification of 160,000 drawn queries with 100 neighbors each and 161 labels, k chosen among 100 on 20,000 more."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np

from cbmir.classifying.pairs import knn_figures
from cbmir.evaluate import find_searches
from cbmir.search import as_table
from cbmir.store import Study, fingerprint, run_record
from tests.bench import drawn_study

GALLERY, TEST, VAL, DEPTH = 100_000, 160_000, 20_000, 100
HIT = 0.05  # share of neighbors that are drawn among the images of the query's own label


def run(scratch: Path) -> None:
    study = Study(str(scratch / "knn"))
    drawn_study.make(study, gallery=GALLERY, queries=TEST + VAL, dim=4, spread=1.0, val=VAL)
    for name, split in (("exact", "test"), ("exact-val", "val")):
        draw_neighbors(study, name, split)
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


def draw_neighbors(study: Study, name: str, split: str) -> None:
    """Neighbors of all images of a split, as a search leaves them."""
    rng = np.random.default_rng(0)
    manifest = study.dataset("manifest").to_table(columns=["image_key", "split", "labels"])
    keys, splits = manifest["image_key"].to_numpy(), np.array(manifest["split"].to_pylist())
    labels = np.unique(
        manifest["labels"].combine_chunks().flatten().to_numpy(zero_copy_only=False), return_inverse=True
    )[1]
    gallery, queries = np.flatnonzero(splits == "train"), np.flatnonzero(splits == split)
    by_label = [gallery[labels[gallery] == label] for label in range(labels.max() + 1)]
    parts = ("neighbors", drawn_study.ENCODER, name)
    rows = 0
    for part, block in enumerate(np.array_split(queries, max(1, len(queries) // 10_000))):
        found = np.stack([_drawn(rng, gallery, by_label[labels[query]]) for query in block])
        distances = np.broadcast_to(np.arange(DEPTH, dtype=np.float32), found.shape)
        table = as_table(keys[block], keys[found], distances, np.full(len(block), DEPTH))
        study.write_table(table, *parts, f"part-{part:05d}.parquet")
        rows += table.num_rows
    parameters = {"index": "exact", "k": DEPTH, "gallery": "split = 'train'", "queries": f"split = '{split}'", "exclude_same": [],
                  "metric": "cos", "expansion_search": None, "rerank": None}  # fmt: skip
    inputs = {
        "embeddings": study.require("embeddings", f"encoder={drawn_study.ENCODER}")["fingerprint"],
        "manifest": study.require("manifest")["fingerprint"],
    }
    record = run_record("search", parameters=parameters, inputs=inputs, rows=rows, compared=fingerprint(split))
    study.write_json(record, *parts, "run.json")


def _drawn(rng: np.random.Generator, gallery: np.ndarray, own: np.ndarray) -> np.ndarray:
    """DEPTH places of the gallery, about HIT of them of the query's own label; one that is drawn twice stays so."""
    anywhere = gallery[rng.integers(0, len(gallery), DEPTH)]
    return np.where(rng.random(DEPTH) < HIT, own[rng.integers(0, len(own), DEPTH)], anywhere) if len(own) else anywhere
