"""Indexes: what is built, opened, refused, brought up to date and taken back, and how near its neighbors are to the exact ones."""

from pathlib import Path

import pytest

from cbmir.errors import UserError
from cbmir.index import IndexOptions, build_index, open_index
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
