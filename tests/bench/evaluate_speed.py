"""`cbmir evaluate` of 160,000 queries with 100 neighbors each, 161 labels, 4 modalities, 12 regions, against plain row loops in pandas.

First what the first paper gives: P@k at every k and level of relevance, per label, region and modality, micro and macro, with standard deviations, and kNN classification
with k among 100 chosen on 20,000 validation queries. Then everything else as well: fourteen metrics with chance and intervals. The loops
are the plainest correct ones, a selection for each query and k, over a sample of queries and scaled to all; they give no figure per slice.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from cbmir.store import Study
from tests.bench import drawn_study
from tests.bench.drawn_neighbors import draw_neighbors
from tests.bench.memory import watched

GALLERY, TEST, VAL, DEPTH = 1_000_000, 160_000, 20_000, 100
SAMPLE = 40
PUBLISHED = ("precision_at_k", "precision_at_k_capped")


def run(scratch: Path) -> None:
    study = Study(str(scratch / "evaluate"))
    drawn_study.make(study, gallery=GALLERY, queries=TEST + VAL, dim=4, spread=1.0, val=VAL)
    draw_neighbors(study, "exact", "test", depth=DEPTH)
    draw_neighbors(study, "exact-val", "val", depth=DEPTH)
    print(
        f"  {TEST:,} queries x {DEPTH} neighbors of {GALLERY:,} images, {drawn_study.LABELS} labels; {VAL:,} queries of val",
        flush=True,
    )
    took = {}
    section = ["--resamples", "0", *(flag for name in PUBLISHED for flag in ("--metric", name))]
    for name, flags in (("P@k and kNN", section), ("every metric, with 1,000 resamples", [])):
        began = time.perf_counter()
        peaks = watched("evaluate", "--study", study.address, *flags)
        took[name] = time.perf_counter() - began
        rows = study.require("metrics")["rows"]
        print(
            f"  evaluate, {name}: {took[name]:.1f} s, peak {peaks.driver / 1024:.2f} GiB, {rows:,} figures", flush=True
        )
    retrieval, on_val, on_test = plain_loops(study)
    total = retrieval * TEST + on_val * VAL + on_test * TEST
    print(
        f"  plain loops, scaled from {SAMPLE} queries: P@k {retrieval * TEST:,.0f} s, kNN on val {on_val * VAL:,.0f} s, on test "
        f"{on_test * TEST:,.0f} s; together {total / took['P@k and kNN']:,.0f}x the time of evaluate for the same figures"
    )


def plain_loops(study: Study) -> tuple[float, float, float]:
    """Seconds a query of: P@k for every k and level; kNN scores of every k (val); of one k (test). Row by row, as one writes it first."""
    columns = ["image_key", "split", "labels", "region", "modality"]
    manifest = pd.DataFrame(study.dataset("manifest").to_table(columns=columns).to_pylist()).set_index("image_key")
    manifest["label"] = manifest["labels"].str[0]
    gallery = manifest[manifest["split"] == "train"]
    counts = gallery["label"].value_counts()
    one_hot = pd.get_dummies(gallery["label"], dtype=np.float32)
    first = study.files("neighbors", drawn_study.ENCODER, "exact")[0]
    neighbors = pd.read_parquet(first).groupby("query_key")["neighbor_key"].apply(list).head(SAMPLE)
    began = time.perf_counter()
    rows = []
    for query, near in neighbors.items():
        asked = manifest.loc[query]
        for k in range(1, DEPTH + 1):
            found = gallery.loc[near[: min(k, counts[asked["label"]])]]
            same = {level: found[level] == asked[level] for level in ("label", "region", "modality")}
            same["modality_region"] = same["region"] & same["modality"]
            same["label_in_region"] = same["label"][same["region"]]
            rows += [
                {"k": k, "level": level, "label": asked["label"], "precision": hits.mean()}
                for level, hits in same.items()
            ]
    frame = pd.DataFrame(rows)
    frame.groupby(["level", "k"])["precision"].agg(["mean", "std"])
    frame.groupby(["level", "k", "label"])["precision"].agg(["mean", "std"])
    took = [(time.perf_counter() - began) / len(neighbors)]
    for ks in (range(1, DEPTH + 1), [DEPTH // 10]):
        began = time.perf_counter()
        for k in ks:
            predicted = [one_hot.loc[near[:k]].mean().idxmax() for near in neighbors]
            (manifest.loc[neighbors.index, "label"] == predicted).mean()
        took.append((time.perf_counter() - began) / len(neighbors))
    return took[0], took[1], took[2]
