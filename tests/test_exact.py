"""Exact search against independent implementations, and against every way to cut a gallery."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from cbmir.searching import exact
from cbmir.searching.distance import METRICS, Block, Scaled
from cbmir.searching.exact import NO_KEY, RunningTopK
from cbmir.searching.rounding import Bytes, Floats
from cbmir.searching.scoring import FirstPass


def search(
    queries: Block,
    gallery: Block,
    *,
    k: int,
    cuts: list[int] | None = None,
    half: bool = True,
    coarse: bool = True,
    metric: str = "cos",
):
    running = RunningTopK(queries, k=k, half=half, coarse=coarse, metric=metric)
    edges = [0, *sorted(cuts or []), len(gallery.keys)]
    for start, stop in itertools.pairwise(edges):
        running.add(Block(gallery.keys[start:stop], gallery.vectors[start:stop], gallery.codes[start:stop]))
    return running.result()


def drawn(rng: np.random.Generator, n: int, dim: int, *, first_key: int = 1) -> Block:
    return Block(np.arange(first_key, first_key + n), rng.standard_normal((n, dim)).astype(np.float32))


@pytest.mark.parametrize("metric, theirs", [("cos", "cosine"), ("l2", "euclidean")])
def test_same_neighbors_and_distances_as_scikit_learn(metric, theirs):
    rng = np.random.default_rng(0)
    gallery, queries = drawn(rng, 500, 24), drawn(rng, 40, 24, first_key=10_000)
    keys, distances, counts = search(queries, gallery, k=7, metric=metric)
    oracle = NearestNeighbors(n_neighbors=7, metric=theirs, algorithm="brute").fit(gallery.vectors.astype(np.float64))
    expected_distances, expected_rows = oracle.kneighbors(queries.vectors.astype(np.float64))
    np.testing.assert_array_equal(keys, gallery.keys[expected_rows])
    np.testing.assert_allclose(distances, expected_distances, atol=1e-6)
    assert counts.tolist() == [7] * 40


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_result_does_not_depend_on_how_the_gallery_is_cut_or_ordered(data):
    """Small integers make exact ties, copies and zero vectors common: the hard case for a merge."""
    dim = data.draw(st.integers(1, 4))
    n = data.draw(st.integers(1, 30))
    row = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim)
    vectors = np.array(data.draw(st.lists(row, min_size=n, max_size=n)), np.float32).reshape(n, dim)
    queries = Block(
        np.arange(100, 103), np.array(data.draw(st.lists(row, min_size=3, max_size=3)), np.float32).reshape(3, dim)
    )
    gallery = Block(np.arange(1, n + 1), vectors)
    k = data.draw(st.integers(1, 12))
    whole = search(queries, gallery, k=k, half=False, coarse=False)
    cuts = data.draw(st.lists(st.integers(0, n), max_size=4))
    order = np.array(data.draw(st.permutations(range(n))))
    cut = search(queries, Block(gallery.keys[order], vectors[order]), k=k, cuts=cuts)
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_equals_a_plain_sort_by_distance_then_key(seed, k):
    rng = np.random.default_rng(seed)
    gallery = Block(np.arange(1, 41), rng.integers(-2, 3, (40, 3)).astype(np.float32))
    queries = Block(np.array([1000]), rng.integers(-2, 3, (1, 3)).astype(np.float32))
    keys, distances, _ = search(queries, gallery, k=k, cuts=[13, 27])
    all_distances = METRICS["cos"].distances(queries, gallery, np.zeros(40, int), np.arange(40))
    order = np.lexsort((gallery.keys, all_distances))[:k]
    np.testing.assert_array_equal(keys[0], gallery.keys[order])
    np.testing.assert_array_equal(distances[0], all_distances[order])


def test_near_ties_below_float32_product_precision_are_ordered_by_true_distance():
    """Vectors that differ by one part in 10^6: a float32 matrix product cannot order them, the second pass must."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal(256)
    steps = rng.permutation(np.arange(200))
    vectors = np.stack([base + 1e-6 * step * np.roll(base, 1) for step in steps]).astype(np.float32)
    gallery, queries = Block(np.arange(1, 201), vectors), Block(np.array([999]), base.astype(np.float32)[None])
    keys, _, _ = search(queries, gallery, k=10, cuts=[50, 120])
    v, q = vectors.astype(np.float64), queries.vectors[0].astype(np.float64)
    cosine = v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q)
    true = np.clip(1 - cosine, 0, 2).astype(np.float32)
    np.testing.assert_array_equal(keys[0], gallery.keys[np.lexsort((gallery.keys, true))[:10]])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_large_and_small_norms_do_not_matter(scale):
    rng = np.random.default_rng(2)
    gallery, queries = drawn(rng, 60, 8), drawn(rng, 5, 8, first_key=500)
    plain = search(queries, gallery, k=9)[0]
    scaled = search(Block(queries.keys, queries.vectors * np.float32(scale)), gallery, k=9)[0]
    np.testing.assert_array_equal(plain, scaled)


def test_a_query_never_finds_itself_but_finds_its_copy():
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    gallery = Block(np.array([5, 6, 7]), vectors)
    keys, distances, counts = search(Block(np.array([5]), vectors[:1]), gallery, k=3)
    assert keys[0, :2].tolist() == [6, 7]
    assert distances[0, :2].tolist() == [0.0, 1.0]
    assert counts[0] == 2
    assert keys[0, 2] == NO_KEY


def test_codes_exclude_pairs_and_minus_one_excludes_nothing():
    vectors = np.eye(4, dtype=np.float32)
    codes = np.array([[1], [1], [2], [-1]])
    gallery = Block(np.arange(1, 5), vectors, codes)
    queries = Block(np.array([50, 51]), vectors[:2], np.array([[1], [-1]]))
    keys, _, counts = search(queries, gallery, k=4, cuts=[2])
    assert set(keys[0, : counts[0]]) == {3, 4}
    assert set(keys[1, : counts[1]]) == {1, 2, 3, 4}


def test_a_zero_vector_is_at_distance_one_from_everything():
    gallery = Block(np.array([1, 2]), np.array([[0, 0], [1, 0]], np.float32))
    keys, distances, _ = search(Block(np.array([9]), np.zeros((1, 2), np.float32)), gallery, k=2)
    assert distances[0].tolist() == [1.0, 1.0]
    assert keys[0].tolist() == [1, 2]


# --- rounded copies ----------------------------------------------------------------------------------------------------

COPIES = {
    "bytes": Bytes,
    "bfloat16": partial(Floats, kind=torch.bfloat16),
    "float32": partial(Floats, kind=torch.float32),
}


def brute(queries: Block, gallery: Block, *, k: int, metric: str) -> np.ndarray:
    """Keys (n, k) by a plain sort of all distances, each of which agrees with a plain formula."""
    q, g = (x.vectors.astype(np.float64) for x in (queries, gallery))
    sizes = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(g, axis=1)[None, :]
    cosine = np.divide(q @ g.T, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    plain, near = {
        "cos": (np.clip(1 - cosine, 0, 2), 1e-6),
        "ip": (1 - q @ g.T, 1e-6 * (1 + sizes)),
        "l2": (np.linalg.norm(q[:, None] - g[None], axis=2), 1e-6 * np.sqrt(1 + sizes)),
    }[metric]
    rows, columns = (x.ravel() for x in np.indices(plain.shape))
    distances = METRICS[metric].distances(queries, gallery, rows, columns).reshape(plain.shape)
    assert (np.abs(distances - plain) <= near + 1e-6 * np.abs(plain)).all()
    return np.stack([gallery.keys[np.lexsort((gallery.keys, row))[:k]] for row in distances])


def hard(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim): a narrow cone with clusters, vectors that differ by parts in a thousand to parts in ten million, copies, and norms of all sizes."""
    cone = rng.standard_normal(dim) * rng.uniform(0, 8)
    middles = cone + rng.standard_normal((max(1, n // 20), dim))
    step = 10.0 ** rng.uniform(-7, 0, (n, 1))
    vectors = middles[rng.integers(0, len(middles), n)] + step * rng.standard_normal((n, dim))
    copies = rng.random(n) < 0.2
    vectors[copies] = vectors[rng.integers(0, n, copies.sum())]
    vectors[rng.random(n) < 0.02] = 0
    return (vectors * 10.0 ** rng.uniform(-6, 6, (n, 1))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dim=st.sampled_from([1, 2, 7, 32, 200]),
    k=st.sampled_from([1, 3, 10, 70]),
    metric=st.sampled_from(list(METRICS)),
    coarse=st.booleans(),
)
@example(seed=273, dim=2, k=1, metric="ip", coarse=False)  # distances so large that unequal products are one float32
def test_rounded_copies_find_the_same_neighbors(seed, dim, k, metric, coarse):
    rng = np.random.default_rng(seed)
    gallery = Block(rng.permutation(np.arange(1, 801)), hard(rng, 800, dim))
    queries = Block(np.arange(10_000, 10_012), hard(rng, 12, dim))
    queries.vectors[:4] = gallery.vectors[:4]
    queries = Block(queries.keys, queries.vectors)
    cuts = rng.integers(0, 800, rng.integers(0, 4)).tolist()
    keys, distances, counts = search(queries, gallery, k=k, cuts=cuts, metric=metric, coarse=coarse)
    others = search(queries, gallery, k=k, half=False, coarse=False, metric=metric)
    for mine, other in zip((keys, distances, counts), others, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(keys, brute(queries, gallery, k=k, metric=metric))


def everything(n: int) -> torch.Tensor:
    """A threshold that nothing is below."""
    return torch.full((n,), -torch.inf, dtype=torch.float64)


def allow(rows: slice, columns: slice, scores: torch.Tensor) -> None:
    """Excludes no pair."""


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dim=st.sampled_from([1, 8, 64, 130, 512]),
    copies=st.sampled_from(list(COPIES)),
    shape=st.sampled_from(["aligned", "hard", "outlier"]),
    weighted=st.booleans(),
)
def test_no_score_is_farther_off_than_the_bound(seed, dim, copies, shape, weighted):
    """Aligned: numbers just beside the middle between two of bfloat16, whose roundings all pull a score the same way."""
    rng = np.random.default_rng(seed)
    vectors = hard(rng, 40, dim)
    if shape == "aligned":
        vectors = 2.0 ** rng.integers(-3, 1, (40, dim)) * (1 + 2.0**-8 * (1 - 2.0**-10) * rng.choice([-1, 1], (40, 1)))
    if shape == "outlier":
        vectors[rng.random(vectors.shape) < 0.01] *= 1e3
    unit = Block(np.arange(40), vectors.astype(np.float32)).unit(torch.device("cpu"))
    weight = torch.full((8,), 0.5, dtype=torch.float64) if weighted else None
    kinds = [COPIES[copies], COPIES["float32"]] if copies == "bytes" else [COPIES[copies]]
    first = FirstPass(unit[:8], k=3, kinds=kinds, weight=weight)
    gallery = Scaled(unit[8:] * 4, torch.full((32,), 0.25)) if not weighted else Scaled(unit[8:])
    list(first.candidates(gallery, everything(8), allow))
    if shape == "aligned":  # a centre would put the roundings out of line
        first.centre = torch.zeros_like(first.centre)
    tile = first.tile(gallery)
    computed = first.scores(slice(0, 8), slice(0, 32), tile).double() * tile.unit[:, None]
    true = unit[:8].double() @ (unit[8:].double() - first.centre.double()).T
    rounding = tile.rounded.last * true.abs() * (not weighted)  # that of the product itself, which the threshold shares
    if weighted:
        true -= 0.5 * (unit[8:].double() ** 2).sum(dim=1)
    for off, bound in ((true - computed, tile.above), (computed - true, tile.below)):
        assert (off <= 1.01 * rounding + (1 + tile.rounded.last) * bound[:, None]).all()


def test_the_bound_of_bfloat16_is_reached_and_not_passed():
    """All numbers of both vectors just below the middle between two of bfloat16: all are rounded down, and the vectors are parallel."""
    vector = torch.full((1, 63), (1 + 2.0**-8 * (1 - 2.0**-10)) / 8)
    rounded = Floats(vector, torch.bfloat16).tile(Scaled(vector), torch.zeros(63))
    off = vector.double() @ vector.double().T - rounded.queries.double() @ rounded.gallery.double().T
    assert 0.95 * rounded.above < off < rounded.above


def test_bytes_multiply_without_error():
    """The bound of bytes takes for granted that products of the largest of them are whole numbers, of as many as there may be."""
    most = torch.full((40, 4_096), 127, dtype=torch.int8)
    assert (torch._int_mm(most, -most[:30].T) == -127 * 127 * 4_096).all()
    assert (torch._int_mm(most[:1, :3], most[:1, :3].T) == 127 * 127 * 3).all()


@pytest.mark.parametrize("copies, most", [("bytes", 150), ("bfloat16", 40), ("float32", 40)])
def test_few_pairs_are_scored_twice(copies, most):
    """What the first pass lets through is a small multiple of k; the bound would otherwise be safe and useless."""
    rng = np.random.default_rng(5)
    base, cone = rng.standard_normal((32, 256)), 2 * rng.standard_normal(256)
    vectors = (rng.standard_normal((20_000, 32)) @ base + cone).astype(np.float32)
    unit = Block(np.arange(20_000), vectors).unit(torch.device("cpu"))
    first = FirstPass(unit[:200], k=10, kinds=[COPIES[copies]])
    found = sum(len(rows) for rows, _, _ in first.candidates(Scaled(unit[200:]), everything(200), allow))
    assert 10 <= found / 200 < most


@pytest.mark.parametrize("metric", list(METRICS))
def test_vectors_that_bytes_cannot_hold_are_searched_in_finer_copies(metric):
    """A few numbers a thousand times larger than the others: in bytes, all others are zero."""
    rng = np.random.default_rng(6)
    vectors = rng.standard_normal((9_000, 48)).astype(np.float32)
    vectors[:, :2] = rng.choice([-1_000, 1_000], (9_000, 2))
    gallery, queries = Block(np.arange(8_000), vectors[:8_000]), Block(np.arange(8_000, 9_000), vectors[8_000:])
    running = RunningTopK(queries, k=3, half=True, coarse=True, metric=metric)
    running.add(gallery)
    assert isinstance(running._first._copies, Floats)
    np.testing.assert_array_equal(running.result()[0][:20], brute(of(queries, 20), gallery, k=3, metric=metric))


def of(block: Block, n: int) -> Block:
    """The first n rows."""
    return Block(block.keys[:n], block.vectors[:n])


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("k", [10, 100])
def test_later_tiles_are_looked_at_in_parts(metric, k):
    """More queries and columns than a part holds, nearer vectors last, queries among them, exclusion by code."""
    rng = np.random.default_rng(7)
    vectors = drawn(rng, 6_000, 24).vectors * np.linspace(2, 1, 6_000, dtype=np.float32)[:, None] + np.float32(1)
    vectors[-50:] = vectors[0]
    codes = rng.integers(-1, 5, (6_000, 1))
    gallery, queries = Block(np.arange(6_000), vectors, codes), Block(np.arange(1_300), vectors[:1_300], codes[:1_300])
    found = search(queries, gallery, k=k, cuts=[500], metric=metric)
    others = search(queries, gallery, k=k, cuts=[2_000, 3_000], half=False, coarse=False, metric=metric)
    for mine, other in zip(found, others, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert not (found[0] == queries.keys[:, None]).any()
    ours = codes[:1_300]
    assert not ((codes[found[0], 0] == ours) & (ours >= 0)).any()
    free = np.flatnonzero(ours[:, 0] < 0)[:10]
    expected = brute(Block(queries.keys[free], queries.vectors[free]), gallery, k=k + 1, metric=metric)
    for row, key, near in zip(free, queries.keys[free], expected, strict=True):
        np.testing.assert_array_equal(found[0][row], near[near != key][:k])


def test_vectors_so_wide_that_sums_of_bytes_overflow_are_searched_in_finer_copies():
    """All numbers of equal size: each is 127 in bytes, and 2^31 is passed at 133,144 of them."""
    rng = np.random.default_rng(8)
    some = rng.choice([-1.0, 1.0], (20, 140_000)).astype(np.float32)
    query = some[:1].copy()
    some[0, :5] *= -1
    gallery, queries = Block(np.arange(1, 41), np.concatenate([some, -some])), Block(np.array([0]), query)
    running = RunningTopK(queries, k=2, coarse=True)
    running.add(gallery)
    np.testing.assert_array_equal(running.result()[0], brute(queries, gallery, k=2, metric="cos"))
    assert running.result()[0][0, 0] == 1


@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
@pytest.mark.parametrize("tile", [7, 50])
def test_long_vectors_are_compared_in_float64(metric, tile, monkeypatch):
    """Beyond LONG numbers every pair is computed; the neighbors are those of a sort in float64, ties by key, however the gallery is cut."""
    monkeypatch.setattr(exact, "LONG", 40)
    rng = np.random.default_rng(3)
    gallery = rng.standard_normal((50, 130)).astype(np.float32)
    gallery[10], gallery[11], gallery[12] = gallery[3], gallery[3], 0
    queries = np.concatenate([gallery[3:5], rng.standard_normal((6, 130)), np.zeros((1, 130))]).astype(np.float32)
    running = RunningTopK(Block(-1 - np.arange(len(queries)), queries), k=9, metric=metric)
    for start in range(0, 50, tile):
        running.add(Block(np.arange(start, min(start + tile, 50)), gallery[start : start + tile]))
    keys, distances, counts = running.result()
    q, g = queries.astype(np.float64), gallery.astype(np.float64)
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(g, axis=1)[None]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = {
            "cos": np.where(lengths > 0, 1 - q @ g.T / lengths, 1.0),
            "ip": 1 - q @ g.T,
            "l2": np.sqrt(((q[:, None] - g[None]) ** 2).sum(axis=2)),
        }[metric]
    expected = np.round(expected, 9)
    order = np.lexsort((np.broadcast_to(np.arange(50), expected.shape), expected))[:, :9]
    np.testing.assert_array_equal(keys, order)
    np.testing.assert_allclose(distances, np.take_along_axis(expected, order, 1), rtol=1e-6, atol=1e-8)
    assert (counts == 9).all()
    if metric != "ip":
        assert (distances[0, :3] == distances[0, 0]).all()
