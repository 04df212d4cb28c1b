"""All sizes in one pass against one exact search a size, and against a plain sort."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.errors import UserError
from cbmir.searching import nested
from cbmir.searching.distance import METRICS, Block
from cbmir.searching.exact import NO_KEY
from cbmir.searching.nested import NestedSearch, Sample
from cbmir.searching.searchers import ExactSearch, codes_of, no_codes
from cbmir.vectors import Vectors
from tests.studies import make_study
from tests.test_search import collection

N, DIM = 60, 3


class Held:
    """Vectors in memory, streamed in tiles of a few rows, in an order of their own."""

    def __init__(self, keys: np.ndarray, vectors: np.ndarray, rows: int) -> None:
        self.keys, self.vectors, self.rows = keys, vectors, rows

    def tiles(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        chosen = np.flatnonzero(np.isin(self.keys, wanted))
        for start in range(0, len(chosen), self.rows):
            rows = chosen[start : start + self.rows]
            yield self.keys[rows], self.vectors[rows]


def tied(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 of small integers: copies, ties and zeros everywhere."""
    return rng.integers(-2, 3, (n, dim)).astype(np.float32)


def assert_same(ours, theirs) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


def plain(gallery: Block, queries: Block, *, k: int, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By a plain sort of all pairs that do not exclude each other."""
    keys, distances = np.full((len(queries.keys), k), NO_KEY), np.full((len(queries.keys), k), np.inf, np.float32)
    counts = np.zeros(len(queries.keys), np.int64)
    for row, key in enumerate(queries.keys):
        every = np.arange(len(gallery.keys))
        away = METRICS[metric].distances(queries, gallery, np.full(len(every), row), every)
        alike = ((gallery.codes == queries.codes[row]) & (queries.codes[row] >= 0)).any(axis=1)
        order = [i for i in np.lexsort((gallery.keys, away)) if gallery.keys[i] != key and not alike[i]][:k]
        counts[row] = len(order)
        keys[row, : len(order)], distances[row, : len(order)] = gallery.keys[order], away[order]
    return keys, distances, counts


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.sets(st.integers(1, N), min_size=1, max_size=6),
    more=st.sets(st.integers(1, N), min_size=1, max_size=3),
    k=st.integers(1, 70),
    metric=st.sampled_from(list(METRICS)),
    excluding=st.booleans(),
    tile=st.sampled_from([1, 7, 1_000]),
    held=st.sampled_from([0, 20, 1_000]),
)
def test_each_size_of_each_sample_is_an_exact_search_of_that_prefix(
    seed, sizes, more, k, metric, excluding, tile, held
):
    """Two samples at once; queries are among the gallery; ties, copies, zeros; k beyond the smallest size."""
    rng = np.random.default_rng(seed)
    gallery, vectors = rng.permutation(np.arange(1, N + 1)), tied(rng, N, DIM)
    codes = (np.arange(1, N + 1), rng.integers(-1, 4, (N, 2))) if excluding else no_codes()
    source = Held(gallery, vectors, rows=11)
    queries, asked = gallery[:9], vectors[:9]
    samples = [Sample(rng.permutation(gallery), tuple(sorted(each))) for each in (sizes, more)]
    before = nested.TILE, nested.HELD
    nested.TILE, nested.HELD = tile, held * 4 * DIM
    try:
        found = NestedSearch(source, samples, codes, k=k, metric=metric, device="cpu").block(queries, asked)
    finally:
        nested.TILE, nested.HELD = before
    assert [len(each) for each in found] == [len(sample.sizes) for sample in samples]
    for sample, of_sample in zip(samples, found, strict=True):
        for size, ours in zip(sample.sizes, of_sample, strict=True):
            prefix = np.sort(sample.order[:size])
            exact = ExactSearch(source, prefix, codes, k=k, metric=metric, device="cpu").block(queries, asked)
            assert_same(ours, exact)
            rows = np.isin(gallery, prefix)
            block = Block(gallery[rows], vectors[rows], codes_of(codes, gallery[rows]))
            assert_same(ours, plain(block, Block(queries, asked, codes_of(codes, queries)), k=k, metric=metric))


@pytest.mark.parametrize("metric", list(METRICS))
def test_sizes_of_a_study_in_many_files(tmp_path, metric):
    rows, _ = collection(500)
    rng = np.random.default_rng(1)
    study = make_study(tmp_path / "study", rows, {row["image_id"]: rng.standard_normal(24) for row in rows}, files=7)
    vectors = Vectors(study, "pixels32")
    gallery = vectors.keys(np.sort(study.dataset("manifest").to_table()["image_key"].to_numpy()))
    keys, queries = vectors.load(gallery[::9])
    sample = Sample(rng.permutation(gallery), (5, 60, 61, 250, len(gallery)))
    (found,) = NestedSearch(vectors, [sample], no_codes(), k=12, metric=metric).block(keys, queries)
    for size, ours in zip(sample.sizes, found, strict=True):
        exact = ExactSearch(vectors, np.sort(sample.order[:size]), no_codes(), k=12, metric=metric)
        assert_same(ours, exact.block(keys, queries))
    counts = [ours[2] for ours in found]
    assert (counts[0] <= 5).all()
    assert (counts[-1] == 12).all()


@pytest.mark.parametrize("sizes", [(), (0, 3), (3, 2), (2, 2), (3, 11)])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(UserError, match=r"expected ascending ones from 1 to 10"):
        Sample(np.arange(1, 11), sizes)
