"""The same neighbors however the work is cut: parts of the gallery, tiles, blocks, threads, tasks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.index import IndexOptions, build_index
from cbmir.search import SearchOptions, search
from cbmir.searching.distance import Block
from cbmir.searching.exact import RunningTopK
from cbmir.searching.searchers import ExactSearch, no_codes
from cbmir.searching.spread import merged
from cbmir.vectors import Vectors
from tests.studies import make_study
from tests.test_search import collection, neighbors


def tied(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 of small integers: copies, ties and zeros everywhere."""
    return rng.integers(-2, 3, (n, dim)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    parts=st.integers(1, 7),
    k=st.integers(1, 12),
    metric=st.sampled_from(["cos", "ip", "l2"]),
)
def test_parts_of_a_gallery_merge_to_the_whole(seed, parts, k, metric):
    rng = np.random.default_rng(seed)
    keys, vectors = rng.permutation(np.arange(1, 41)), tied(rng, 40, 3)
    queries = Block(np.arange(100, 105), tied(rng, 5, 3))

    def found(rows):
        running = RunningTopK(queries, k=k, metric=metric)
        running.add(Block(keys[rows], vectors[rows]))
        return running.result()

    whole = found(np.arange(40))
    cut = np.array_split(rng.permutation(40), parts)
    for a, b in zip(whole, merged(k, *map(found, cut)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def study(tmp_path):
    rows, _ = collection(500)
    rng = np.random.default_rng(1)
    vectors = {row["image_id"]: tied(rng, 1, 6)[0] for row in rows}
    return make_study(tmp_path / "study", rows, vectors, files=9)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 3, 64, 1_000])
def test_every_tile_size_and_thread_count_gives_the_same(study, threads, rows):
    vectors = Vectors(study, "pixels32")
    gallery = vectors.keys(np.sort(study.dataset("manifest").to_table()["image_key"].to_numpy()))
    keys, queries = vectors.load(gallery[::10])
    plain = ExactSearch(vectors, gallery, no_codes(), k=9).block(keys, queries)
    searcher = ExactSearch(vectors, gallery, no_codes(), k=9)
    searcher.tiles = lambda wanted: vectors.tiles(wanted, rows=rows)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        other = searcher.block(keys, queries)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
def test_seven_tasks_find_what_one_process_finds(study, metric, ray_session):
    options = {"k": 20, "metric": metric, "exclude_same": ("patient_id",)}
    search(study, "pixels32", "exact", SearchOptions(**options))
    run, _ = search(study, "pixels32", "exact", SearchOptions(**options, tasks=7, save_as="seven"))
    assert neighbors(study, "seven") == neighbors(study, "exact")
    assert run["compared"] == study.run_of("neighbors", "pixels32", "exact")["compared"]


def test_more_tasks_than_files_and_a_part_with_no_gallery(study, ray_session):
    options = {"k": 3, "gallery": "image_id LIKE 'hand/1%'"}
    search(study, "pixels32", "exact", SearchOptions(**options))
    search(study, "pixels32", "exact", SearchOptions(**options, tasks=12, save_as="twelve"))
    assert neighbors(study, "twelve") == neighbors(study, "exact")


def test_tasks_share_the_queries_of_an_index(study, ray_session, monkeypatch):
    monkeypatch.setattr("cbmir.searching.searchers.IndexSearch.rows", 20)
    build_index(study, "pixels32", "hnsw", IndexOptions(shards=2))
    search(study, "pixels32", "hnsw", SearchOptions(k=10))
    search(study, "pixels32", "hnsw", SearchOptions(k=10, tasks=3, save_as="three"))
    assert neighbors(study, "three") == neighbors(study, "hnsw")


def test_queries_one_by_one_find_what_all_at_once_find(study):
    vectors = Vectors(study, "pixels32")
    gallery = vectors.keys(np.sort(study.dataset("manifest").to_table()["image_key"].to_numpy()))
    keys, queries = vectors.load(gallery[:30])
    search_all = ExactSearch(vectors, gallery, no_codes(), k=5)
    together = search_all.block(keys, queries)
    for i in range(0, 30, 7):
        for a, b in zip(together, search_all.block(keys[i : i + 1], queries[i : i + 1]), strict=True):
            np.testing.assert_array_equal(a[i : i + 1], b)
