"""Orders in which a gallery's images join nested samples: any prefix is a sample, and a longer one holds the shorter ones.

An order follows from the seed, the keys and what is told of them, whatever the order of the rows. An image's rank among others is a hash of its key
and the seed, so that a gallery that grows keeps the random order of what it had.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SHIFTS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of SplitMix64 (Steele, Lea and Flood 2014)


def random_order(keys: np.ndarray, *, seed: int) -> np.ndarray:
    """keys (n,) int64, each once -> the same keys in random order."""
    keys = np.asarray(keys, np.int64)
    return keys[np.lexsort((keys, _drawn(keys, seed)))]


def stratified_order(keys: np.ndarray, labels: pa.Array | pa.ChunkedArray, *, seed: int) -> np.ndarray:
    """keys (n,) int64, labels (n,) list<text> -> the keys so that each prefix holds each stratum in the gallery's proportions.

    An image's stratum is the rarest of its labels (the first in the alphabet of several); images without a label are one, too. Of a stratum with
    n_s of n images, a prefix of m has fewer than one more or less than m n_s / n. So its first image comes in the first n / n_s, rounded up.
    """
    keys = np.asarray(keys, np.int64)
    strata = _rarest(labels)
    names, numbers = np.unique(strata, return_inverse=True)
    rank = np.lexsort((keys, _drawn(keys, seed), numbers))  # by stratum, within it at random
    counts = np.bincount(numbers, minlength=len(names))
    starts = np.cumsum(counts) - counts
    turns = _turns(counts.tolist(), [_hashed(name, seed) for name in names])
    within = np.empty(len(keys), np.int64)  # how many of its stratum came before
    within[np.argsort(turns, kind="stable")] = np.arange(len(keys)) - np.repeat(starts, counts)
    return keys[rank[starts[turns] + within]]


@dataclass(frozen=True)
class PatientOrder:
    """Images in order, patient by patient."""

    keys: np.ndarray  # (n,) int64
    ends: np.ndarray  # (patients,) int64 ascending: lengths of the prefixes that hold whole patients

    def sizes(self, asked: Sequence[int]) -> tuple[int, ...]:
        """For each size asked for (1 .. n), the smallest of whole patients that is no smaller."""
        return tuple(self.ends[np.searchsorted(self.ends, asked)].tolist())


def patient_order(keys: np.ndarray, patients: pa.Array | pa.ChunkedArray, *, seed: int) -> PatientOrder:
    """keys (n,) int64, patients (n,) text -> patients in random order, and of each all images; an image without patient is one of its own."""
    keys = np.asarray(keys, np.int64)
    names = pc.unique(pc.drop_null(patients))
    number = pc.fill_null(pc.index_in(patients, value_set=names), -1).to_numpy(zero_copy_only=False)
    alone = _drawn(keys, seed)
    hashes = np.array([_hashed(name, seed) for name in names.to_pylist()] or [0], np.uint64)
    of_patient = np.where(number >= 0, hashes[number], alone)
    tie = np.where(number >= 0, -1, keys)  # two images that are alone are never one patient
    order = np.lexsort((keys, alone, tie, of_patient))
    of_patient, tie = of_patient[order], tie[order]
    last = np.append((of_patient[1:] != of_patient[:-1]) | (tie[1:] != tie[:-1]), [True] * bool(len(keys)))
    return PatientOrder(keys[order], np.flatnonzero(last) + 1)


def _drawn(keys: np.ndarray, seed: int) -> np.ndarray:
    """(n,) uint64: a hash of each key and the seed."""
    mixed = keys.astype(np.uint64) + np.uint64(_hashed("", seed))
    for shift, factor in _SHIFTS:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _hashed(text: str, seed: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little")


def _rarest(labels: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) text: the label of each image that the fewest have, '' where there is none."""
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.combine_chunks()
    rows = pc.list_parent_indices(labels).to_numpy()
    names, numbers, counts = np.unique(
        pc.list_flatten(labels).to_numpy(zero_copy_only=False).astype(str), return_inverse=True, return_counts=True
    )
    rarity = np.lexsort((names, counts))
    place = np.empty(len(names), np.int64)
    place[rarity] = np.arange(len(names))
    least = np.full(len(labels), len(names), np.int64)
    np.minimum.at(least, rows, place[numbers])
    return np.append(names[rarity].astype(object), "")[least].astype(str)


def _turns(counts: list[int], ties: list[int]) -> np.ndarray:
    """Which stratum each of the sum(counts) places is of, each within one of its share of every prefix.

    The i-th image of a stratum with c of n may come from place (i - 1) n / c on and must come before i n / c; of those that may, the one that must
    come first is taken. These are the windows of a fair schedule on one processor (Baruah et al. 1996), which that rule always keeps.
    """
    n = sum(counts)
    waiting = [(0, tie, stratum, 0) for stratum, tie in enumerate(ties)]  # (may come, tie, stratum, images before)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int, int]] = []  # (must come before, ...)
    out = np.empty(n, np.int64)
    for place in range(n):
        while waiting and waiting[0][0] <= place:
            _, tie, stratum, before = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(before + 1) * n // counts[stratum]), tie, stratum, before))
        _, tie, stratum, before = heapq.heappop(ready)
        out[place] = stratum
        if before + 1 < counts[stratum]:
            heapq.heappush(waiting, ((before + 1) * n // counts[stratum], tie, stratum, before + 1))
    return out
