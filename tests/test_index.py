"""Indexes: what is built, opened, refused, brought up to date and taken back, and how near its neighbors are to the exact ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cbmir.errors import UserError
from cbmir.index import IndexOptions, build_index, open_index
from cbmir.indexing.forget import forget, holds
from cbmir.schemas import image_key
from cbmir.searching.searchers import IndexSearch, no_codes
from cbmir.store import Study, fingerprint
from tests.studies import make_study
from tests.test_search import collection


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", *collection(), files=3)


def test_index_records_what_decides_it_and_opens_with_its_expansion(study):
    run, built = build_index(study, "pixels32", "hnsw", IndexOptions(dtype="f16", connectivity=8, expansion_search=77))
    assert built
    assert run["rows"] == 180
    assert run["parameters"] == {
        "gallery": "split = 'train'", "metric": "cos", "dtype": "f16", "connectivity": 8, "expansion_add": 128, "expansion_search": 77,
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
