"""`python -m tests.bench.scale [--sizes N,N] [--evaluation] [--directory DIR]`: index, search and evaluation at up to 1.6 million vectors, by the jobs that people submit.

Drawn vectors (vectors.py: a mixture of 1,000 clusters that overlap, in 32 directions, on a common offset, and a tenth of noise in all of them); 161
labels; 10,000 queries. Each step is a process of its own: its wall time, and the peak of its resident memory, mapped files included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cbmir.store import Study, versions
from tests.bench.__main__ import processor
from tests.bench.drawn_neighbors import draw_neighbors
from tests.bench.drawn_study import ENCODER, make

SIZES, QUERIES, DIM, K, SPREAD = (100_000, 400_000, 1_600_000), 10_000, 512, 100, 1.5
ROOT = Path(__file__).resolve().parents[2]
INDEXES = {  # name -> flags of cbmir index
    "bf16": ["--dtype", "bf16", "--recall", "0.95"],
    "i8-pca128": ["--dtype", "i8", "--pca", "128", "--recall", "0.95"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), metavar="N,N")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--indexes", default=",".join(INDEXES), metavar="NAME,NAME", help=", ".join(INDEXES))
    parser.add_argument("--evaluation", action="store_true", help="only evaluation, of neighbors that are drawn, too")
    parser.add_argument("--directory", help="on a disk with 12 GB free (default: a temporary one)")
    asked = parser.parse_args()
    made = versions()
    print(
        f"machine: {os.cpu_count()} cores, {processor()}; torch {made['torch']}, usearch {made['usearch']}, python {made['python']}"
    )
    print(f"{asked.queries:,} queries, {DIM} numbers each, k = {K}")
    for size in map(int, asked.sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="cbmir-scale-", dir=asked.directory) as directory:
            if asked.evaluation:
                evaluation(size, asked.queries, asked.indexes.split(","), Path(directory))
            else:
                one_size(size, asked.queries, asked.indexes.split(","), Path(directory))


def evaluation(size: int, queries: int, indexes: list[str], directory: Path) -> None:
    """The last step alone: it reads manifest and neighbors, and no vector."""
    study = Study(str(directory / "study"))
    make(study, gallery=size, queries=queries, dim=4, spread=SPREAD)
    for seed, name in enumerate(["exact", *indexes]):
        draw_neighbors(study, name, "test", depth=K, seed=seed, index=name)
    print(f"\n{size:,} images, {queries:,} queries, {1 + len(indexes)} searches", flush=True)
    step("evaluate", "evaluate", "--study", study.address)


def one_size(size: int, queries: int, indexes: list[str], directory: Path) -> None:
    study = Study(str(directory / "study"))
    began = time.perf_counter()
    make(study, gallery=size, queries=queries, dim=DIM, spread=SPREAD)
    print(f"\n{size:,} vectors, drawn in {time.perf_counter() - began:.0f} s", flush=True)
    common = ["--study", study.address]
    encoder = ["--encoder", ENCODER]
    step("search exact", "search", *common, *encoder, "--index", "exact", "-k", str(K))
    for name in indexes:
        step(f"index {name}", "index", *common, *encoder, "--index", name, *INDEXES[name])
        step(f"search {name}", "search", *common, *encoder, "--index", name, "-k", str(K))
        run = study.require("index", ENCODER, name)
        print(
            f"    graph {run['graph_bytes'] / 1e6:,.0f} MB, all files {run['size_bytes'] / 1e6:,.0f} MB; recall@{run['recall']['k']} "
            f"{run['recall']['measured']:.3f} at expansion {run['expansion_search']}, {run['recall']['queries']:,} queries of the sample",
            flush=True,
        )
    step("evaluate", "evaluate", *common)
    figures(study)


def step(name: str, job: str, *flags: str) -> None:
    """Run a job to its end and say how long it took and how much memory it held."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *flags], cwd=ROOT, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{name} ended with {process.returncode}: {log.read()[-2_000:]}")
    print(f"    {name:<18}{time.perf_counter() - began:8.1f} s{_gib(usage):8.2f} GiB", flush=True)


def _gib(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1 << 20)


def figures(study: Study) -> None:
    """What the evaluation says of recall and precision, and how many queries a second a search has answered."""
    metrics = study.dataset("metrics").to_table().to_pylist()
    for index in study.names("neighbors", ENCODER):
        run = study.require("neighbors", ENCODER, index)
        told = {
            (row["metric"], row["k"]): row["value"]
            for row in metrics
            if row["index"] == index
            and row["slice_by"] == "all"
            and row["average"] == "micro"
            and row["relevance"] in ("label", "", None)
        }
        recalls = ", ".join(
            f"recall@{k} {value:.4f}" for (name, k), value in sorted(told.items(), key=str) if name == "ann_recall"
        )
        print(
            f"    {index:<12}{run['queries'] / run['seconds']:9,.0f} queries/s; P@1 {told['precision_at_k', 1]:.4f}, P@10 "
            f"{told['precision_at_k', 10]:.4f}{'; ' + recalls if recalls else ''}",
            flush=True,
        )


if __name__ == "__main__":
    main()
