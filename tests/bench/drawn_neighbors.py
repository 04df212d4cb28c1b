"""Neighbors of a drawn study as a search leaves them, without a search: any number of queries in seconds."""

from __future__ import annotations

import numpy as np

from cbmir.search import as_table
from cbmir.store import Study, fingerprint, run_record
from tests.bench import drawn_study

HIT = 0.5  # share of neighbors that are of the query's own label, at rank 1; fewer further away


def draw_neighbors(
    study: Study, name: str, split: str, *, depth: int, seed: int = 0, hit: float = HIT, index: str = "exact"
) -> None:
    """neighbors/drawn/<name> of all images of a split in those of split train: each neighbor once a query, distances ascending."""
    rng = np.random.default_rng(seed)
    manifest = study.dataset("manifest").to_table(columns=["image_key", "split", "labels"])
    keys, splits = manifest["image_key"].to_numpy(), np.array(manifest["split"].to_pylist())
    labels = np.unique(
        manifest["labels"].combine_chunks().flatten().to_numpy(zero_copy_only=False), return_inverse=True
    )[1]
    gallery, queries = np.flatnonzero(splits == "train"), np.flatnonzero(splits == split)
    by_label = [gallery[labels[gallery] == label] for label in range(labels.max() + 1)]
    parts = ("neighbors", drawn_study.ENCODER, name)
    likely = hit * np.exp(-np.arange(depth) / depth)
    rows = 0
    for part, block in enumerate(np.array_split(queries, max(1, len(queries) // 10_000))):
        found = np.stack([_drawn(rng, gallery, by_label[labels[query]], likely) for query in block])
        distances = np.broadcast_to(np.arange(depth, dtype=np.float32), found.shape)
        table = as_table(keys[block], keys[found], distances, np.full(len(block), depth))
        study.write_table(table, *parts, f"part-{part:05d}.parquet")
        rows += table.num_rows
    parameters = {"index": index, "k": depth, "gallery": "split = 'train'", "queries": f"split = '{split}'", "exclude_same": [],
                  "metric": "cos", "expansion_search": None, "rerank": None}  # fmt: skip
    inputs = {
        "embeddings": study.require("embeddings", f"encoder={drawn_study.ENCODER}")["fingerprint"],
        "manifest": study.require("manifest")["fingerprint"],
        "seed": str(seed),
    }
    asked = fingerprint(split)
    record = run_record("search", parameters=parameters, inputs=inputs, rows=rows, compared=asked, question=asked)
    study.write_json(record, *parts, "run.json")


def _drawn(rng: np.random.Generator, gallery: np.ndarray, own: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """len(likely) different places of the gallery, each of them of the query's own label with the chance `likely`."""
    while True:
        found = gallery[_apart(rng, len(gallery), len(likely))]
        hits = rng.random(len(likely)) < likely
        if hits.sum() <= len(own):
            found[hits] = own[_apart(rng, len(own), int(hits.sum()))]
        if len(set(found.tolist())) == len(found):
            return found


def _apart(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """`count` different numbers below n in any order, without shuffling all n."""
    steps = rng.integers(1, max(2, n // max(1, count) + 1), count)
    return rng.permutation((rng.integers(n) + np.cumsum(steps)) % n)
