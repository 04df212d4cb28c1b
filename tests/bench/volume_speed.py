"""Volumes: concatenated vectors searched exactly, with the memory that takes, and late interaction against a plain loop over pairs of slices.

1,188 gallery and 298 query volumes of 64 slices, 1,280 numbers a slice, as AdrenalMNIST3D has them under an encoder of that width. The loop goes over the
query's slices, the volumes and their slices, one distance at a time; it is timed on a part and counted up.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from cbmir.querying.volume_inputs import stored_volumes
from cbmir.store import Study
from cbmir.volume_lookup import VolumeLookup
from cbmir.volume_search import search_volumes
from cbmir.volumes import make_volumes
from cbmir.volumetric.options import ReductionOptions, VolumeSearchOptions
from cbmir.volumetric.place import volumes_of
from cbmir.volumetric.slices import Slices
from tests.bench.drawn_study import ENCODER, make
from tests.bench.memory import watched
from tests.bench.vectors import SPREAD

GALLERY, QUERIES, SLICES, DIM, K = 1_188, 298, 64, 1_280, 100
WARM, ASKED = 2, 20  # volumes that are looked up, behind some that do not count
TIMED_SECONDS = 5.0  # of the plain loop


def run(scratch: Path) -> None:
    study = Study(str(scratch / "volumes"))
    make(study, gallery=GALLERY * SLICES, queries=QUERIES * SLICES, dim=DIM, spread=SPREAD, slices=SLICES)
    print(f"  {GALLERY:,} gallery and {QUERIES:,} query volumes of {SLICES} slices, {DIM:,} numbers a slice, k = {K}")
    began = time.perf_counter()
    make_volumes(study, [ENCODER], ReductionOptions(("mean", f"concat{SLICES}")), say=lambda line: None)
    print(
        f"  mean and concat{SLICES}, {GALLERY + QUERIES:,} volumes, files and Ray included: {time.perf_counter() - began:.1f} s"
    )
    concatenated(study)
    pair = loop(study)
    for candidates in (None, K):
        late(study, candidates, pair)
    asked(study)


def concatenated(study: Study) -> None:
    """Exact search of all slices' numbers, in a process of its own."""
    volumes = volumes_of(study).address
    began = time.perf_counter()
    peaks = watched(
        "search", "--study", volumes, "--encoder", f"{ENCODER}~concat{SLICES}", "--index", "exact", every=0.1
    )
    seconds = time.perf_counter() - began
    print(
        f"  exact search of {SLICES * DIM:,} numbers: {seconds:.1f} s with its start, {peaks.driver / 1024:.2f} GiB at most"
    )


def loop(study: Study) -> float:
    """Seconds that one pair of slices takes in the plain loop."""
    slices = Slices(volumes_of(study), ENCODER)
    loaded = slices.load(slices.keys(np.unique(slices.volume))[:40])
    rows = loaded.vectors / np.linalg.norm(loaded.vectors, axis=1, keepdims=True)
    volumes = [rows[start : start + count] for start, count in zip(loaded.starts, loaded.counts, strict=True)]
    pairs, began = 0, time.perf_counter()
    for mine in rows:
        nearest = []
        for volume in volumes:
            best = 2.0
            for theirs in volume:
                best = min(best, 1.0 - mine @ theirs)
            nearest.append(best)
            pairs += len(volume)
        if time.perf_counter() - began > TIMED_SECONDS:
            break
    return (time.perf_counter() - began) / pairs


def late(study: Study, candidates: int | None, pair: float) -> None:
    options = VolumeSearchOptions(("late",), k=K, candidates=candidates, overwrite=True)
    (found,) = search_volumes(study, ENCODER, options, say=lambda line: None)
    compared = candidates or GALLERY
    plain = pair * QUERIES * SLICES * compared * SLICES
    what = "every volume" if candidates is None else f"{candidates} candidates by the mean vector"
    print(
        f"  late interaction of {what}: {found['seconds']:.1f} s, files included; the plain loop over the same pairs {plain:,.0f} s "
        f"({pair * 1e6:.2f} us a pair); ratio {plain / found['seconds']:,.0f}"
    )


def asked(study: Study) -> None:
    """`cbmir query --volume` behind its loading, one volume at a time."""
    began = time.perf_counter()
    lookup = VolumeLookup(study, ENCODER)
    lookup.load()
    loaded = time.perf_counter() - began
    names = volumes_of(study).dataset("manifest").to_table(columns=["volume_id", "split"]).to_pylist()
    queries = stored_volumes([row["volume_id"] for row in names if row["split"] == "test"][: WARM + ASKED], None)
    spent = []
    for query in queries:
        began = time.perf_counter()
        (answer,) = lookup.answers([query], k=10)
        assert len(answer.neighbors) == 10
        spent.append(time.perf_counter() - began)
    print(
        f"  one volume of {SLICES} slices among {GALLERY:,}, with its 10 nearest and the slices that match: {1000 * np.median(spent[WARM:]):.0f} ms "
        f"(loaded in {loaded:.1f} s)"
    )
