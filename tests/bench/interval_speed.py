"""Intervals and comparisons of a study as the first paper's: 160,000 queries of 60,000 patients, 161 skewed labels, 10 encoders.

Each in a process of its own, for its peak memory: resamples, then intervals encoder by encoder; and all pairs of encoders with intervals and permutation tests.
"""

from __future__ import annotations

import itertools
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from cbmir.statistics.bootstrap import Resamples
from cbmir.statistics.figures import Figures
from cbmir.statistics.paired import compare

QUERIES, PATIENTS, LABELS, REGIONS, MODALITIES = 160_000, 60_000, 161, 8, 4
ENCODERS, COLUMNS, COMPARED = 10, 12, 4
RESAMPLES, PERMUTATIONS = 1_000, 10_000


def run(scratch: Path) -> None:
    print(f"  {QUERIES:,} queries, {PATIENTS:,} patients, {LABELS} labels, {ENCODERS} encoders", flush=True)
    for measured in (intervals, comparisons):
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as alone:
            print(f"  {alone.submit(measured).result()}", flush=True)


def intervals() -> str:
    """Every encoder's intervals, from the same resamples."""
    figures, patients, label = drawn()
    rng = np.random.default_rng(1)
    spent = 0.0
    began = time.perf_counter()
    resamples = Resamples(patients, RESAMPLES)
    spent += time.perf_counter() - began
    for encoder in range(ENCODERS):
        values = scores(rng, label, encoder, COLUMNS)
        began = time.perf_counter()
        low, high = resamples.intervals(values, figures)
        spent += time.perf_counter() - began
        if not (low <= high).all():
            raise RuntimeError("an interval is missing")
    what = f"{ENCODERS} x {COLUMNS} columns, {figures.count} figures, {RESAMPLES:,} resamples"
    return f"intervals:   {what}: {spent:.1f} s, peak {_peak():.2f} GiB"


def comparisons() -> str:
    """Every pair of encoders, with intervals and permutation tests."""
    figures, patients, label = drawn()
    rng = np.random.default_rng(1)
    values = np.stack([scores(rng, label, encoder, COMPARED) for encoder in range(ENCODERS)])
    pairs = list(itertools.combinations(range(ENCODERS), 2))
    began = time.perf_counter()
    found = compare(values, pairs, figures, Resamples(patients, RESAMPLES), permutations=PERMUTATIONS)
    spent = time.perf_counter() - began
    if np.isnan(found.p).any():
        raise RuntimeError("a p is missing")
    what = f"{len(pairs)} pairs x {COMPARED} columns, {figures.count} figures, {PERMUTATIONS:,} permutations"
    return f"comparisons: {what}: {spent:.1f} s, peak {_peak():.2f} GiB"


def drawn() -> tuple[Figures, np.ndarray, np.ndarray]:
    """Figures over all queries and by label, region and modality, micro and macro; patients (n,) and labels (n,) of the queries."""
    rng = np.random.default_rng(0)
    share = 1.0 / np.arange(1, LABELS + 1)
    label = rng.choice(LABELS, QUERIES, p=share / share.sum())
    region = np.where(rng.random(QUERIES) < 0.8, label % REGIONS, rng.integers(0, REGIONS, QUERIES))
    modality = np.where(rng.random(QUERIES) < 0.8, label % MODALITIES, rng.integers(0, MODALITIES, QUERIES))
    everything, one = np.zeros(QUERIES, np.int64), np.zeros(QUERIES, np.int64)
    slices = [everything, label, region, modality]
    pieces, first = [], 0
    for sliced, cell in [*((s, one) for s in slices), *((s, label) for s in (everything, region, modality))]:
        pieces.append((first + sliced, cell, np.arange(QUERIES)))
        first += int(sliced.max()) + 1
    figures = Figures(*(np.concatenate(part) for part in zip(*pieces, strict=True)))
    return figures, rng.integers(0, PATIENTS, QUERIES), label


def scores(rng: np.random.Generator, label: np.ndarray, encoder: int, columns: int) -> np.ndarray:
    """(n, columns): tenths, better for some labels and encoders."""
    right = 0.3 + 0.4 * (label % 5)[:, None] / 5 + 0.02 * encoder
    return rng.binomial(10, right, (len(label), columns)) / 10


def _peak() -> float:
    """Highest resident memory of this process, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
