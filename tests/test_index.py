"""Indexes: what is built, opened, refused, brought up to date and taken back, and how near its neighbors are to the exact ones."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cbmir.doctor import examine
from cbmir.errors import UserError
from cbmir.holding import held
from cbmir.index import IndexOptions, build_index, damage, index_line, open_index
from cbmir.indexing.forget import forget, holds
from cbmir.indexing.rows import Rows, Together
from cbmir.indexing.tune import recall
from cbmir.removal import RemoveOptions, remove
from cbmir.schemas import image_key
from cbmir.search import SearchOptions, search
from cbmir.searching.distance import Block
from cbmir.searching.rescoring import rescored
from cbmir.searching.searchers import ExactSearch, IndexSearch, no_codes
from cbmir.store import Study, fingerprint
from cbmir.vectors import Vectors
from tests.studies import make_study
from tests.test_search import collection, neighbors


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", *collection(), files=3)


def test_index_records_what_decides_it_and_opens_with_its_expansion(study):
    run, built = build_index(study, "pixels32", "hnsw", IndexOptions(dtype="f16", connectivity=8, expansion_search=77))
    assert built
    assert run["rows"] == 180
    assert run["parameters"] == {
        "gallery": "split = 'train'", "metric": "cos", "dtype": "f16", "pca": None, "connectivity": 8, "expansion_add": 128, "expansion_search": 77,
        "recall": None, "recall_at": 10, "rerank": 4, "shards": 1,
    }  # fmt: skip
    index = open_index(study, "pixels32", "hnsw")
    assert (len(index), index.run["expansion_search"]) == (180, 77)
    assert (
        build_index(study, "pixels32", "hnsw", IndexOptions(dtype="f16", connectivity=8, expansion_search=77))[1]
        is False
    )
    with pytest.raises(UserError, match="dtype f16 there, bf16 now"):
        build_index(study, "pixels32", "hnsw", IndexOptions(connectivity=8, expansion_search=77))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("exact", IndexOptions(), "--index exact: not a name for an index"),
        ("../x", IndexOptions(), "not a name for an index"),
        ("h", IndexOptions(dtype="f64"), "--dtype f64; expected one of: f32, f16, bf16, i8"),
        ("h", IndexOptions(connectivity=1), "--connectivity 1; expected 2 or more"),
        ("h", IndexOptions(gallery="split = 'x'"), "the gallery is empty"),
    ],
)
def test_index_misuse(study, name, options, message):
    with pytest.raises(UserError, match=message):
        build_index(study, "pixels32", name, options)
    assert not study.exists("index")


@pytest.mark.parametrize("file", ["shard-00000.usearch", "shard-00000.vectors.npy", "shard-00000.keys.npy"])
def test_a_truncated_or_missing_file_is_refused(study, file):
    build_index(study, "pixels32", "hnsw", IndexOptions())
    path = Path(study.path("index", "pixels32", "hnsw", file))
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(
        UserError, match=rf"{file} has 200 bytes, run.json says {len(whole):,}; rebuild it with --overwrite"
    ):
        open_index(study, "pixels32", "hnsw")
    path.unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        open_index(study, "pixels32", "hnsw")


def test_a_graph_with_other_bytes_is_refused_by_its_checksum(study):
    build_index(study, "pixels32", "hnsw", IndexOptions())
    path = Path(study.path("index", "pixels32", "hnsw", "shard-00000.usearch"))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"has checksum \w{12}, run.json says \w{12}.*rebuild it"):
        open_index(study, "pixels32", "hnsw")


@pytest.mark.parametrize("file", ["shard-00000.usearch", "shard-00000.vectors.npy", "shard-00000.keys.npy"])
def test_doctor_reads_every_file_of_an_index(study, file):
    build_index(study, "pixels32", "hnsw", IndexOptions())
    assert damage(study, "pixels32", "hnsw") is None
    path = Path(study.path("index", "pixels32", "hnsw", file))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert f"{file} has checksum" in damage(study, "pixels32", "hnsw")
    found = [line for line in examine(study) if "checksum" in line]
    assert len(found) == 1
    assert found[0].startswith("act   index hnsw of pixels32")


def test_an_index_of_another_layout_or_older_than_the_embeddings_is_refused(study):
    run, _ = build_index(study, "pixels32", "hnsw", IndexOptions())
    study.write_json(run | {"layout": 1}, "index", "pixels32", "hnsw", "run.json")
    with pytest.raises(UserError, match=r"another version of cbmir \(layout 1, here 2\); rebuild it"):
        open_index(study, "pixels32", "hnsw")
    assert build_index(study, "pixels32", "hnsw", IndexOptions())[1]
    run = study.run_of("embeddings", "encoder=pixels32")
    study.write_json(run | {"fingerprint": "0" * 16}, "embeddings", "encoder=pixels32", "run.json")
    with pytest.raises(UserError, match="older than the embeddings"):
        open_index(study, "pixels32", "hnsw")
    study.write_json(run | {"dim": 17}, "embeddings", "encoder=pixels32", "run.json")
    with pytest.raises(UserError, match="holds vectors of 16, the study has 17"):
        open_index(study, "pixels32", "hnsw")


# --- brought up to date ------------------------------------------------------------------------------------------------


def grown(root: Path, *, first: int, last: int, without: set[int] = frozenset(), changed: set[int] = frozenset()):
    """A study of images first..last-1 of one drawn collection, at the same place: as after new data, withdrawals and another version of an image."""
    rows, vectors = collection(400, seed=3)
    ids = [f"hand/{i}" for i in range(first, last) if i not in without]
    rows = [row for row in rows if row["image_id"] in ids]
    vectors = {i: -v if int(i.removeprefix("hand/")) in changed else v for i, v in vectors.items() if i in ids}
    if root.exists():
        old = Study(str(root))
        for dataset in ("manifest", "embeddings", "failures"):
            old.delete(dataset)
    study = make_study(root, rows, vectors, files=4)
    for dataset in (("manifest",), ("embeddings", "encoder=pixels32")):  # hand-made ones all have the same fingerprint
        run = study.run_of(*dataset)
        study.write_json(run | {"fingerprint": fingerprint(sorted(ids), sorted(changed))}, *dataset, "run.json")
    return study, vectors


def contents(study, name: str) -> dict[int, bytes]:
    """Of an opened index, every key with its stored vector, after looking that graph and files hold the same keys."""
    index = open_index(study, "pixels32", name)
    keys = index.keys
    inside = np.sort(np.concatenate([np.asarray(graph.keys, np.int64) for graph in index.graphs]))
    np.testing.assert_array_equal(inside, keys)
    return dict(zip(keys.tolist(), map(bytes, index.stored.vectors(keys)), strict=True))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["f32", "i8"])
def test_new_gone_and_changed_images_are_taken_over_without_building_again(
    tmp_path, shards, dtype, monkeypatch, ray_session
):
    options = IndexOptions(gallery="true", dtype=dtype, shards=shards)
    study, _ = grown(tmp_path / "s", first=0, last=300)
    build_index(study, "pixels32", "hnsw", options)
    study, vectors = grown(tmp_path / "s", first=0, last=400, without={5, 17, 250}, changed={9, 100})
    with pytest.raises(UserError, match="older than the embeddings; bring it up to them with: cbmir index"):
        open_index(study, "pixels32", "hnsw")
    built = []
    monkeypatch.setattr("cbmir.indexing.update.build", lambda *a: built.append(a))
    run, made = build_index(study, "pixels32", "hnsw", options)
    assert made
    assert not built
    assert (run["change"]["added"], run["change"]["removed"]) == (100 + 2, 3 + 2)
    assert contents(study, "hnsw") == {image_key(i): np.asarray(v, np.float32).tobytes() for i, v in vectors.items()}
    assert build_index(study, "pixels32", "hnsw", options)[1] is False
    compared(study, vectors)


def compared(study, vectors: dict[str, np.ndarray]) -> None:
    """An index that was changed finds what a plain sort finds: it is asked for more candidates than it could miss."""
    index = open_index(study, "pixels32", "hnsw")
    ids = sorted(vectors)[:40]
    queries = np.stack([vectors[i] for i in ids]).astype(np.float32)
    search = IndexSearch(index, index.keys, no_codes(), k=5, expansion=400, rerank=8)
    keys, distances, _ = search.block(np.array([image_key(i) for i in ids]), queries)
    assert np.isin(keys, [image_key(i) for i in vectors]).all()
    for row, i in enumerate(ids):
        others = [j for j in vectors if j != i]
        g = np.stack([vectors[j] for j in others]).astype(float)
        q = queries[row].astype(float)
        true = np.sort((1 - g @ q / np.linalg.norm(g, axis=1) / np.linalg.norm(q)).astype(np.float32))[:5]
        np.testing.assert_allclose(distances[row], true, atol=1e-6)


def test_a_shard_that_loses_much_is_built_again_and_others_are_linked(tmp_path, ray_session):
    study, _ = grown(tmp_path / "s", first=0, last=300)
    options = IndexOptions(gallery="true", shards=3)
    build_index(study, "pixels32", "hnsw", options)
    names = [f"shard-{n:05d}.usearch" for n in range(3)]
    inodes = [Path(study.path("index", "pixels32", "hnsw", name)).stat().st_ino for name in names]
    first = open_index(study, "pixels32", "hnsw").stored.shards[0].keys
    lost = {i for i in range(300) if image_key(f"hand/{i}") in set(first[: len(first) // 2].tolist())}
    study, vectors = grown(tmp_path / "s", first=0, last=300, without=lost)
    run, _ = build_index(study, "pixels32", "hnsw", options)
    assert run["change"]["shards"] == {"kept": 2, "changed": 0, "rebuilt": 1}
    after = [Path(study.path("index", "pixels32", "hnsw", name)).stat().st_ino for name in names]
    assert after[0] != inodes[0]
    assert after[1:] == inodes[1:]
    assert len(contents(study, "hnsw")) == len(vectors)


# --- withdrawn images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_forgotten_images_leave_no_byte_of_their_vectors_behind(tmp_path, dtype, share):
    rng = np.random.default_rng(0)
    rows = [{"image_id": f"a/{i}"} for i in range(600)]
    vectors = {row["image_id"]: rng.standard_normal(32).astype(np.float32) for row in rows}
    vectors["a/3"] = np.zeros(32, np.float32)
    study = make_study(tmp_path / "s", rows, vectors)
    build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true", dtype=dtype))
    index = open_index(study, "pixels32", "hnsw")
    gone = [f"a/{i}" for i in range(round(600 * share))]
    keys = np.array([image_key(i) for i in gone])
    written = {i: traces(index, vectors[i]) for i in gone if vectors[i].any()}
    assert holds(study, "pixels32", "hnsw", keys) == len(gone)
    before = files_of_index(study)
    assert all(any(trace in data for data in before) for found in written.values() for trace in found)
    del index
    forget(study, "pixels32", "hnsw", keys)
    after = files_of_index(study)
    assert not [i for i, found in written.items() if any(trace in data for data in after for trace in found)]
    assert not [i for i in gone if any(image_key(i).to_bytes(8, "little") in data for data in after)]
    assert not [i for i in gone if any(str(image_key(i)).encode() in data for data in after)]
    assert holds(study, "pixels32", "hnsw", keys) == 0
    rest = {i: v for i, v in vectors.items() if i not in gone}
    index = open_index(study, "pixels32", "hnsw")
    np.testing.assert_array_equal(index.keys, np.sort([image_key(i) for i in rest]))
    compared(study, rest)


def test_a_removal_takes_images_out_of_an_index_and_leaves_it_current(tmp_path):
    """The whole way, by `cbmir remove`: the index is not built again, and searches go on."""
    rows, vectors = collection(300)
    study = make_study(tmp_path / "s", rows, vectors, files=3)
    build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true"))
    said: list[str] = []
    assert remove(study, RemoveOptions(where="patient_id = 'p14'"), say=said.append) == 3
    assert "none holds them" in " ".join(said)
    gone = [row["image_id"] for row in rows if row["patient_id"] == "p14"]
    index = open_index(study, "pixels32", "hnsw")
    assert len(gone) == 3
    assert len(index) == 299 - 3
    assert index.run["change"]["shards"] == {"kept": 0, "changed": 1, "rebuilt": 0}
    shards = Path(study.path("index", "pixels32", "hnsw")).glob("shard-*")
    assert index.run["size_bytes"] == sum(path.stat().st_size for path in shards)
    assert build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true"))[1] is False
    search(study, "pixels32", "hnsw", SearchOptions(k=5, gallery="true"))
    assert not {image_key(i) for i in gone} & {key for near in neighbors(study, "hnsw").values() for key, _ in near}


def traces(index, vector: np.ndarray) -> list[bytes]:
    """The bytes of a vector as the files hold it: stored, and in the graph."""
    encoded = index.codec.encode(vector[None])
    if index.codec.dtype == "bf16":
        encoded = torch.from_numpy(encoded).to(torch.bfloat16).view(torch.int16).numpy()
    elif index.codec.dtype == "f16":
        encoded = encoded.astype(np.float16)
    return [vector.tobytes(), encoded.tobytes()]


def files_of_index(study) -> list[bytes]:
    return [p.read_bytes() for p in sorted(Path(study.path("index")).rglob("*")) if p.is_file()]


# --- neighbors ---------------------------------------------------------------------------------------------------------


def brute(vectors: dict[str, np.ndarray], queries: list[str], metric: str, *, k: int) -> list[list[int]]:
    """Keys of the nearest others by a plain formula in float64."""
    ids = sorted(vectors)
    g = np.stack([vectors[i] for i in ids]).astype(float)
    found = []
    for query in queries:
        q = vectors[query].astype(float)
        far = {
            "cos": 1 - g @ q / np.linalg.norm(g, axis=1) / np.linalg.norm(q),
            "ip": 1 - g @ q,
            "l2": np.linalg.norm(g - q, axis=1),
        }[metric]
        order = np.argsort(far)
        found.append([image_key(ids[j]) for j in order if ids[j] != query][:k])
    return found


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
def test_every_metric_type_and_number_of_shards_finds_the_exact_neighbors(tmp_path, metric, dtype, shards, ray_session):
    """Vectors of very different lengths far from the origin; the graph is asked for more than it can miss, so what is lost is lost by its type."""
    rng = np.random.default_rng(2)
    lengths = rng.uniform(0.5, 2, (400, 1))
    drawn = (40 * rng.standard_normal(24) + 5 * lengths * rng.standard_normal((400, 24))).astype(np.float32)
    rows = [{"image_id": f"a/{i}"} for i in range(400)]
    vectors = {row["image_id"]: vector for row, vector in zip(rows, drawn, strict=True)}
    study = make_study(tmp_path / "s", rows, vectors, files=5)
    build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true", metric=metric, dtype=dtype, shards=shards))
    index = open_index(study, "pixels32", "hnsw")
    assert len(index.graphs) == shards
    ids = sorted(vectors)[:50]
    search = IndexSearch(index, index.keys, no_codes(), k=8, expansion=400, rerank=6)
    keys, distances, counts = search.block(np.array([image_key(i) for i in ids]), np.stack([vectors[i] for i in ids]))
    assert keys.tolist() == brute(vectors, ids, metric, k=8)
    exact = ExactSearch(Vectors(study, "pixels32"), index.keys, no_codes(), k=8, metric=metric)
    for mine, other in zip((keys, distances, counts), exact.block(np.array([image_key(i) for i in ids]), np.stack([vectors[i] for i in ids])), strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, other)


def test_scoring_more_candidates_again_makes_int8_safe(tmp_path):
    rng = np.random.default_rng(3)
    base = rng.standard_normal((40, 64))
    drawn = (base[rng.integers(0, 40, 2_000)] + 0.05 * rng.standard_normal((2_000, 64))).astype(np.float32)
    rows = [{"image_id": f"a/{i}"} for i in range(2_000)]
    vectors = {row["image_id"]: vector for row, vector in zip(rows, drawn, strict=True)}
    study = make_study(tmp_path / "s", rows, vectors)
    build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true", dtype="i8", rerank=1))
    index = open_index(study, "pixels32", "hnsw")
    ids = sorted(vectors)[:100]
    asked = np.array([image_key(i) for i in ids]), np.stack([vectors[i] for i in ids])
    true = np.array(brute(vectors, ids, "cos", k=10))
    shares = {}
    for rerank in (1, 4):
        search = IndexSearch(index, index.keys, no_codes(), k=10, expansion=512, rerank=rerank)
        shares[rerank] = recall(search.block(*asked)[0], true, np.full(100, 10))
    assert shares[1] < 0.95
    assert shares[4] > 0.99


@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
def test_principal_axes_hold_the_neighbors_of_vectors_that_lie_in_few_directions(tmp_path, metric):
    """Vectors in 8 of 64 directions, and a little in all: a graph of 8 axes finds them, one of 2 does not; distances are whole either way."""
    rng = np.random.default_rng(6)
    inner = rng.standard_normal((1_000, 8)) @ rng.standard_normal((8, 64))
    drawn = (inner + 10 + 0.01 * rng.standard_normal((1_000, 64))).astype(np.float32)
    rows = [{"image_id": f"a/{i}"} for i in range(1_000)]
    vectors = {row["image_id"]: vector for row, vector in zip(rows, drawn, strict=True)}
    study = make_study(tmp_path / "s", rows, vectors, files=3)
    ids = sorted(vectors)[:60]
    asked = np.array([image_key(i) for i in ids]), np.stack([vectors[i] for i in ids])
    true = np.array(brute(vectors, ids, metric, k=10))
    shares = {}
    for axes in (2, 9):
        build_index(study, "pixels32", f"pca{axes}", IndexOptions(gallery="true", metric=metric, dtype="i8", pca=axes))
        index = open_index(study, "pixels32", f"pca{axes}")
        assert index.graphs[0].ndim == axes
        search = IndexSearch(index, index.keys, no_codes(), k=10, expansion=400, rerank=4)
        shares[axes] = recall(search.block(*asked)[0], true, np.full(60, 10))
    assert shares[2] < 0.9
    assert shares[9] > 0.99


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("metric", ["cos", "l2"])
def test_lengths_whose_squares_are_no_float32_are_scored_again_all_the_same(metric, scale):
    rng = np.random.default_rng(7)
    vectors = (rng.standard_normal((300, 16)) * scale).astype(np.float32)
    keys = np.arange(1, 301)
    rows = Rows(keys, vectors)
    found = rescored(metric, Block(-keys[:5], vectors[:5]), np.arange(5), np.tile(keys, (5, 1)), np.tile(rows.at(np.arange(300)), (5, 1, 1)), np.ones((5, 300), bool), k=4)  # fmt: skip
    near = np.take_along_axis(np.tile(keys, (5, 1)), np.lexsort((np.tile(keys, (5, 1)), found))[:, :4], 1)
    exact = ExactSearch(Together([rows]), keys, no_codes(), k=4, metric=metric).block(-keys[:5], vectors[:5])
    np.testing.assert_array_equal(near, exact[0])


def test_a_build_that_was_killed_before_it_was_tuned_is_tuned_by_the_next_one(study, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cbmir.index.find_expansion", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(study, "pixels32", "hnsw", IndexOptions(recall=0.9))
    run, made = build_index(study, "pixels32", "hnsw", IndexOptions(recall=0.9))
    assert made
    assert run["recall"]["reached"]
    assert build_index(study, "pixels32", "hnsw", IndexOptions(recall=0.9))[1] is False


def test_the_expansion_for_a_recall_is_found_and_recorded(tmp_path):
    rng = np.random.default_rng(4)
    rows = [{"image_id": f"a/{i}", "split": "train" if i < 8_000 else "test"} for i in range(8_300)]
    vectors = {row["image_id"]: rng.standard_normal(48).astype(np.float32) for row in rows}
    study = make_study(tmp_path / "s", rows, vectors)
    options = {"connectivity": 6, "expansion_add": 16, "rerank": 1}
    run, _ = build_index(study, "pixels32", "hnsw", IndexOptions(**options, recall=0.9))
    found = run["recall"]
    assert found["reached"]
    assert (found["queries"], found["queries_from"], found["k"]) == (300, "outside the gallery", 10)
    index = open_index(study, "pixels32", "hnsw")
    ids = [f"a/{i}" for i in range(8_000, 8_300)]
    keys, queries = np.array([image_key(i) for i in ids]), np.stack([vectors[i] for i in ids])
    gallery = {i: v for i, v in vectors.items() if int(i[2:]) < 8_000}
    true = np.array([brute(gallery | {i: vectors[i]}, [i], "cos", k=10)[0] for i in ids])

    def measured(expansion):
        search = IndexSearch(index, index.keys, no_codes(), k=10, expansion=expansion, rerank=1)
        return recall(search.block(keys, queries)[0], true, np.full(300, 10))

    assert measured(run["expansion_search"]) == pytest.approx(found["measured"], abs=1e-5)
    assert measured(run["expansion_search"]) >= 0.9 > measured(run["expansion_search"] // 2)
    assert "recall@10 0.9" in index_line("pixels32", "hnsw", run, True)
    again, made = build_index(study, "pixels32", "hnsw", IndexOptions(**options, recall=0.5))
    assert made
    assert again["change"]["shards"] == {"kept": 1, "changed": 0, "rebuilt": 0}
    assert again["expansion_search"] < run["expansion_search"]


def test_a_recall_out_of_reach_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("cbmir.indexing.tune.MOST", 32)
    rng = np.random.default_rng(5)
    rows = [{"image_id": f"a/{i}"} for i in range(3_000)]
    study = make_study(tmp_path / "s", rows, {r["image_id"]: rng.standard_normal(64) for r in rows})
    run, _ = build_index(study, "pixels32", "hnsw", IndexOptions(connectivity=2, expansion_add=4, recall=1.0, rerank=1))
    assert not run["recall"]["reached"]
    assert run["recall"]["queries_from"] == "the gallery"
    assert "short of 1.0: raise --rerank" in index_line("pixels32", "hnsw", run, True)


@pytest.mark.parametrize(
    "found, truth, counts, expected",
    [
        ([[1, 2]], [[1, 2]], [2], 1.0),
        ([[1, 2], [5, 6]], [[2, 3], [6, 5]], [2, 2], 0.75),
        ([[1, 9]], [[1, 9]], [1], 1.0),  # one neighbor is all there is
        ([[9, 9]], [[9, 9]], [0], 1.0),
    ],
)
def test_recall_by_hand(found, truth, counts, expected):
    assert recall(np.array(found), np.array(truth), np.array(counts)) == expected


# --- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_no_number_is_refused_by_its_key(tmp_path, bad):
    rows, vectors = collection(60)
    vectors["hand/8"] = np.where(np.arange(16) == 3, bad, vectors["hand/8"]).astype(np.float32)
    study = make_study(tmp_path / "s", rows, vectors)
    message = f"1 vectors with NaN or infinity, the first of image_key {image_key('hand/8')}"
    with pytest.raises(UserError, match=message):
        build_index(study, "pixels32", "hnsw", IndexOptions())
    assert not study.exists("index", "pixels32", "hnsw")
    with pytest.raises(UserError, match=message):
        search(study, "pixels32", "exact", SearchOptions(k=3))
    assert not study.exists("neighbors")


def test_large_numbers_whose_squares_overflow_are_no_infinity(tmp_path):
    rows, vectors = collection(60)
    study = make_study(tmp_path / "s", rows, {i: v * np.float32(1e30) for i, v in vectors.items()})
    search(study, "pixels32", "exact", SearchOptions(k=3))
    run, _ = build_index(study, "pixels32", "hnsw", IndexOptions())
    assert run["rows"] == 45


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metric": "dot"}, "--metric dot; expected one of: cos, ip, l2"),
        ({"recall": 0.9, "expansion_search": 64}, "give one of them"),
        ({"recall": 1.5}, "--recall 1.5; expected a share"),
        ({"rerank": 0}, "--rerank 0; expected 1 or more"),
        ({"pca": 17}, "--pca 17; the vectors of pixels32 have 16 numbers"),
        ({"pca": 0}, "--pca 0; expected 1 or more"),
        ({"shards": 0}, "--shards 0; expected 1 or more"),
    ],
)
def test_more_misuse(study, options, message):
    with pytest.raises(UserError, match=message):
        build_index(study, "pixels32", "h", IndexOptions(**options))
    assert not study.exists("index")


def test_a_search_by_another_metric_than_the_index_has_is_refused(study):
    build_index(study, "pixels32", "far", IndexOptions(metric="l2"))
    with pytest.raises(UserError, match=r"--metric cos: index far was built for l2"):
        search(study, "pixels32", "far", SearchOptions(k=3, metric="cos"))
    run, _ = search(study, "pixels32", "far", SearchOptions(k=3))
    exact, _ = search(study, "pixels32", "exact", SearchOptions(k=3, metric="l2", save_as="exact-l2"))
    other, _ = search(study, "pixels32", "exact", SearchOptions(k=3))
    assert run["compared"] == exact["compared"] != other["compared"]


# --- one writer at a time ----------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from cbmir.holding import held
from cbmir.store import Study
with held(Study(sys.argv[1]), "index", "pixels32", "hnsw"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_process_waits_and_says_for_whom(study, killed):
    """Whether the first one ends or is killed, nothing stays locked."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, study.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:  # closes its pipes and waits for it
        assert other.stdout.readline() == "held\n"
        said: list[str] = []
        built: list[bool] = []

        def build():
            with held(study, "index", "pixels32", "hnsw", say=said.append) as waited:
                built.append(waited)

        thread = threading.Thread(target=build)
        thread.start()
        thread.join(0.5)
        assert not built
        assert len(said) == 1
        assert f"index/pixels32/hnsw is held by process {other.pid} on {socket.gethostname()}" in said[0]
        other.kill() if killed else other.stdin.close()
        thread.join(20)
        assert built == [True]
    assert not list(Path(study.path(".locks")).iterdir())


def test_two_processes_build_one_index_once(study):
    command = [
        sys.executable,
        "-m",
        "cbmir",
        "index",
        "--study",
        study.address,
        "--encoder",
        "pixels32",
        "--index",
        "two",
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("already built" in line for line in lines) == [False, True]


# --- object stores -----------------------------------------------------------------------------------------------------


def test_an_index_on_an_object_store_is_built_opened_updated_and_emptied(s3, ray_session):
    rows, vectors = collection(300)
    study = make_study(s3.address("study"), rows, vectors, files=4)
    options = IndexOptions(gallery="true", shards=2)
    build_index(study, "pixels32", "hnsw", options)
    assert len(open_index(study, "pixels32", "hnsw")) == 299
    run = study.run_of("manifest")
    study.write_json(run | {"fingerprint": "other"}, "manifest", "run.json")
    assert build_index(study, "pixels32", "hnsw", options)[0]["change"]["added"] == 0
    keys = np.array([image_key("hand/7")])
    assert holds(study, "pixels32", "hnsw", keys) == 1
    forget(study, "pixels32", "hnsw", keys)
    assert holds(study, "pixels32", "hnsw", keys) == 0
    assert len(open_index(study, "pixels32", "hnsw")) == 298
    assert not study.files(".locks", suffix="")


def test_a_shard_that_loses_everything_stays_as_an_empty_one(tmp_path, ray_session):
    study, _ = grown(tmp_path / "s", first=0, last=300)
    build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true", shards=3))
    lost = set(open_index(study, "pixels32", "hnsw").stored.shards[1].keys.tolist())
    study, vectors = grown(
        tmp_path / "s", first=0, last=300, without={i for i in range(300) if image_key(f"hand/{i}") in lost}
    )
    build_index(study, "pixels32", "hnsw", IndexOptions(gallery="true", shards=3))
    assert [len(graph) for graph in open_index(study, "pixels32", "hnsw").graphs][1] == 0
    compared(study, vectors)
    forget(study, "pixels32", "hnsw", np.array([image_key(i) for i in vectors]))
    assert not study.exists("index", "pixels32", "hnsw")


# --- killed ------------------------------------------------------------------------------------------------------------


def killed_while_building(study, *flags: str) -> None:
    """`cbmir index --index hnsw`, ended by SIGKILL as soon as vectors are being written."""
    command = [sys.executable, "-m", "cbmir", "index", "--study", study.address, "--encoder", "pixels32"]
    process = subprocess.Popen(
        [*command, "--index", "hnsw", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    written = Path(study.path(".staging")).glob
    while not any(path.stat().st_size for path in written("*/*.vectors.npy")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_a_killed_build_leaves_what_was_there_and_the_next_one_finishes(tmp_path):
    rng = np.random.default_rng(9)
    rows = [{"image_id": f"a/{i}"} for i in range(10_000)]
    vectors = {row["image_id"]: vector for row, vector in zip(rows, rng.standard_normal((10_000, 48)), strict=True)}
    study = make_study(tmp_path / "s", rows, vectors)
    killed_while_building(study)
    with pytest.raises(UserError, match=r"no index 'hnsw'"):
        open_index(study, "pixels32", "hnsw")
    build_index(study, "pixels32", "hnsw", IndexOptions())
    assert not study.exists(".staging")
    killed_while_building(study, "--dtype", "i8", "--overwrite")
    assert open_index(study, "pixels32", "hnsw").run["parameters"]["dtype"] == "bf16"
    build_index(study, "pixels32", "hnsw", IndexOptions(dtype="i8", overwrite=True))
    assert len(open_index(study, "pixels32", "hnsw")) == 10_000
    assert not study.exists(".staging")
