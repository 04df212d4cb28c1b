"""Equal rows: found as by a plain sort whatever is excluded, and without computing each pair."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.searching import equal, exact
from cbmir.searching.distance import METRICS, Block
from cbmir.searching.equal import first_of, without_surplus
from cbmir.searching.exact import NO_KEY, RunningTopK


def excluded(queries: Block, gallery: Block) -> np.ndarray:
    """(n, m): the query itself, and an equal code in any column."""
    same = queries.keys[:, None] == gallery.keys[None]
    for ours, theirs in zip(queries.codes.T, gallery.codes.T, strict=True):
        same |= (ours[:, None] == theirs[None]) & (ours[:, None] >= 0)
    return same


def plain(queries: Block, gallery: Block, *, k: int, metric: str) -> np.ndarray:
    """Keys (n, k) by sorting all distances of all pairs that are not excluded."""
    rows, columns = (places.ravel() for places in np.indices((len(queries.keys), len(gallery.keys))))
    distances = METRICS[metric].distances(queries, gallery, rows, columns).reshape(len(queries.keys), -1)
    out = np.full((len(queries.keys), k), NO_KEY)
    for row, (near, never) in enumerate(zip(distances, excluded(queries, gallery), strict=True)):
        order = np.lexsort((gallery.keys, near))
        found = gallery.keys[order[~never[order]]][:k]
        out[row, : len(found)] = found
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from(list(METRICS)), st.booleans(), st.booleans())
def test_the_neighbors_among_equal_rows_are_those_of_a_plain_sort(seed, k, metric, long, zeros):
    """Rows of five kinds, of which one may be zero, excluded by volume and by patient, cut and ordered in any way."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(-2, 3, (5, 3)).astype(np.float32)
    if zeros:
        kinds[0] = 0
    n = int(rng.integers(1, 120))
    volumes = np.sort(rng.integers(0, max(1, n // 6), n))
    codes = np.column_stack([volumes, np.where(rng.random(n) < 0.2, -1, volumes // 3)])
    vectors = kinds[rng.choice(5, n, p=[0.6, 0.1, 0.1, 0.1, 0.1])]
    order = rng.permutation(n)
    gallery = Block(np.arange(n)[order], vectors[order], codes[order])
    asked = rng.integers(0, n, 15)
    queries = Block(np.where(rng.random(15) < 0.5, asked, -1 - np.arange(15)), vectors[asked], codes[asked])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equal, "_MANY", 2)
        if long:
            patch.setattr(exact, "LONG", 2)
        running = RunningTopK(queries, k=k, metric=metric)
        edges = [0, *sorted(rng.integers(0, n + 1, 2)), n]
        for start, stop in itertools.pairwise(edges):
            here = slice(start, stop)
            running.add(Block(gallery.keys[here], gallery.vectors[here], gallery.codes[here]))
    np.testing.assert_array_equal(running.result()[0], plain(queries, gallery, k=k, metric=metric))


def test_the_first_rows_are_as_few_as_exclusions_allow():
    """Volumes of three rows each: a query excludes itself or a volume, at most 1 + 3 of them."""
    keys, volumes = np.arange(30)[::-1], np.repeat(np.arange(10), 3)[::-1, None]
    assert keys[first_of(keys, volumes, k=2)].tolist() == [0, 1, 2, 3, 4, 5]
    assert keys[first_of(keys, np.zeros((30, 0), int), k=2)].tolist() == [0, 1, 2]
    assert keys[first_of(keys, np.full((30, 1), -1), k=2)].tolist() == [0, 1, 2]
    assert len(first_of(keys, np.zeros((30, 1), int), k=2)) == 30  # all may be excluded at once: none can be left out
    assert len(first_of(keys[:0], volumes[:0], k=2)) == 0


def test_only_equal_rows_are_left_out():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 32)).astype(np.float32)
    tile = Block(np.arange(400), vectors)
    assert without_surplus(tile, k=5) is tile
    vectors[100:300] = vectors[7]
    thinned = without_surplus(Block(np.arange(400), vectors), k=5)
    assert thinned.keys.tolist() == [*range(105), *range(300, 400)]


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_thousands_of_blank_slices_are_not_compared_pair_by_pair(metric, value, monkeypatch):
    """8,000 blank rows, of volumes of 64 rows: few of them are computed for each of 500 blank queries."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((9_000, 16)).astype(np.float32)
    vectors[:8_000] = value
    codes = np.arange(9_000)[:, None] // 64
    pairs = []
    compute = METRICS[metric].distances

    class Counted(type(METRICS[metric])):
        def distances(self, left, right, rows, columns):
            pairs.append(len(rows))
            return compute(left, right, rows, columns)

    monkeypatch.setitem(METRICS, metric, Counted())
    queries, gallery = Block(np.arange(500), vectors[:500], codes[:500]), Block(np.arange(9_000), vectors, codes)
    running = RunningTopK(queries, k=10, metric=metric)
    for start in range(0, 9_000, 3_000):
        here = slice(start, start + 3_000)
        running.add(Block(gallery.keys[here], gallery.vectors[here], gallery.codes[here]))
    assert sum(pairs) < 500 * 600
    some = Block(queries.keys[::100], queries.vectors[::100], queries.codes[::100])
    np.testing.assert_array_equal(running.result()[0][::100], plain(some, gallery, k=10, metric=metric))
