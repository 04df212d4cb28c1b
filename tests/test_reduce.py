"""cbmir reduce: principal components of the gallery, held to scikit-learn; a reduced encoder goes through every stage like any other."""

import html
import json
import os
import shlex
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from cbmir import Study as Questions
from cbmir.cli import main
from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.doctor import examine
from cbmir.embedding.account import account, counted
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.index import IndexOptions, build_index
from cbmir.reduce import ReduceOptions, reduce_embeddings, reduce_line
from cbmir.reducing import pca
from cbmir.reducing.record import reduce_command, reduce_command_by_name
from cbmir.reducing.stored import read_projection
from cbmir.removal import RemoveOptions, remove
from cbmir.report import write_report
from cbmir.schemas import ContractError, embeddings, image_key
from cbmir.search import SearchOptions, outdated, search
from cbmir.select import attach_done, attach_manifest, connect, embedded_by
from cbmir.sql_files import read
from cbmir.store import Study
from cbmir.vectors import Vectors, find_encoder
from tests.processes import kill, start, wait_for
from tests.studies import add_embeddings, make_study

DIM, TRAIN, TEST = 24, 60, 20
WIDE = 150  # numbers of a vector, of which there are fewer than that


def drawn(dim: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Correlated vectors of 60 + 20 images, all of them far from the origin; test images lie elsewhere than train images."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) * np.geomspace(1, 0.05, dim)[:, None]
    vectors = (rng.normal(size=(TRAIN + TEST, dim)) @ mixing + 5).astype(np.float32)
    vectors[TRAIN:] += rng.normal(size=dim).astype(np.float32)
    return {f"{i:03d}": vector for i, vector in enumerate(vectors)}


def rows() -> list[dict]:
    return [
        {"image_id": f"{i:03d}", "split": "train" if i < TRAIN else "test", "labels": [f"XR/chest/{i % 3}"]}
        for i in range(TRAIN + TEST)
    ]


def study_of(root: Path, vectors: dict[str, np.ndarray], **more) -> Study:
    return make_study(root, rows(), vectors, encoder="e", **more)


@pytest.fixture
def study(tmp_path) -> Study:
    return study_of(tmp_path / "study", drawn(DIM))


def stored(study: Study, encoder: str) -> dict[str, np.ndarray]:
    """image_id -> vector, read by pyarrow alone."""
    files = sorted(Path(study.root, "embeddings", f"encoder={encoder}").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    names = {image_key(f"{i:03d}"): f"{i:03d}" for i in range(TRAIN + TEST)}
    return {
        names[key]: np.array(v, np.float32)
        for key, v in zip(table["image_key"].to_pylist(), table["embedding"].to_pylist(), strict=True)
    }


def of(vectors: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    return np.stack([vectors[name] for name in names])


def split(vectors: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Names of the train images that have a vector, and of the test images."""
    names = sorted(vectors)
    return [n for n in names if int(n) < TRAIN], [n for n in names if int(n) >= TRAIN]


def oracle(vectors: dict[str, np.ndarray], fitted: list[str], asked: list[str], k: int) -> np.ndarray:
    """scikit-learn's exact PCA of some images in float64, applied to others."""
    model = PCA(n_components=k, svd_solver="full").fit(of(vectors, fitted).astype(np.float64))
    return model.transform(of(vectors, asked).astype(np.float64))


def reduce(study: Study, k: int = 8, **options) -> dict:
    run, made = reduce_embeddings(study, "e", ReduceOptions(pca=k, **options))
    assert made
    return run


# --- the numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize(("dim", "k"), [(DIM, 1), (DIM, 8), (DIM, DIM), (TRAIN, 20), (WIDE, 8), (WIDE, TRAIN - 1)])
def test_vectors_are_those_of_scikit_learn(tmp_path, dim, k, files):
    """Signs included; with more numbers than images the other decomposition is at work, and 60 images vary in 59 directions."""
    vectors = drawn(dim)
    study = study_of(tmp_path / "study", vectors, files=files)
    run = reduce(study, k)
    train, _ = split(vectors)
    found = stored(study, f"e~pca{k}")
    names = sorted(vectors)
    np.testing.assert_allclose(of(found, names), oracle(vectors, train, names, k), atol=2e-5)
    model = PCA(n_components=k, svd_solver="full").fit(of(vectors, train).astype(np.float64))
    assert run["fitted_to"]["gallery"]["explained_variance"] == pytest.approx(model.explained_variance_ratio_.sum())
    assert run["fitted_to"]["gallery"]["images"] == TRAIN
    projection = read_projection(study, f"e~pca{k}")
    np.testing.assert_allclose(projection.variance, model.explained_variance_, rtol=1e-8)
    np.testing.assert_allclose(projection.components, model.components_, atol=1e-7)
    np.testing.assert_allclose(projection.mean, model.mean_, atol=1e-9)
    np.testing.assert_allclose(projection.components @ projection.components.T, np.eye(k), atol=1e-9)


@pytest.mark.parametrize("dim", [DIM, WIDE])
def test_the_cut_into_tiles_and_columns_does_not_matter(dim, monkeypatch):
    monkeypatch.setattr(pca, "_COLUMNS", 7)
    vectors = of(drawn(dim), split(drawn(dim))[0])

    def read(size):
        return lambda: (vectors[i : i + size] for i in range(0, TRAIN, size))

    whole, kept = pca.fit(read(TRAIN), rows=TRAIN, dim=dim, components=5)
    for size in (1, 7, 59):
        cut, share = pca.fit(read(size), rows=TRAIN, dim=dim, components=5)
        np.testing.assert_allclose(cut.components, whole.components, atol=1e-9)
        assert share == pytest.approx(kept)
    model = PCA(5, svd_solver="full").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(whole.components, model.components_, atol=1e-9)


def test_a_mean_that_is_much_larger_than_what_varies():
    """Summed in float64 and about the mean: of sums of squares of the vectors themselves, nothing would be left."""
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(500, 6)) * [1, 2, 3, 4, 5, 6] + 1e6).astype(np.float32)
    found, _ = pca.fit(lambda: [vectors], rows=500, dim=6, components=6)
    model = PCA(6, svd_solver="full").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(found.components, model.components_, atol=1e-6)
    np.testing.assert_allclose(found.variance, model.explained_variance_, rtol=1e-7)


def test_files_hold_as_many_rows_as_tiles_and_keep_the_order(tmp_path, monkeypatch):
    """Files of the source are cut and joined; nothing is lost at their seams."""
    monkeypatch.setattr("cbmir.reduce.TILE_ROWS", 32)
    monkeypatch.setattr("cbmir.vectors.TILE_BYTES", 4 * 7 * DIM)
    vectors = drawn(DIM)
    study = study_of(tmp_path / "study", vectors, files=3)
    reduce(study)
    files = study.files("embeddings", "encoder=e~pca8")
    assert [pq.read_metadata(file).num_rows for file in files] == [35, 35, 10]
    keys = [key for file in files for key in pq.read_table(file)["image_key"].to_pylist()]
    assert keys == [image_key(name) for name in sorted(vectors)]
    names = sorted(vectors)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), names), oracle(vectors, names[:TRAIN], names, 8), atol=2e-5)


def test_queries_take_no_part_in_the_fit(tmp_path):
    """Other queries, the same gallery: its vectors are the same to the bit. The fit does know of another gallery."""
    found = []
    for shift, moved in ((0, split), (3, split), (3, lambda v: split(v)[::-1])):
        vectors = drawn(DIM)
        for name in moved(vectors)[1]:
            vectors[name] = vectors[name] * 2 + shift
        study = study_of(tmp_path / str(len(found)), vectors)
        reduce(study)
        found.append(of(stored(study, "e~pca8"), split(vectors)[0]))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[1], found[2])


def test_as_published_is_two_fits(study):
    vectors = drawn(DIM)
    train, test = split(vectors)
    run = reduce(study, as_published="mahbod2024")
    found = stored(study, "e~pca8-mahbod2024")
    np.testing.assert_allclose(of(found, train), oracle(vectors, train, train, 8), atol=2e-5)
    np.testing.assert_allclose(of(found, test), oracle(vectors, test, test, 8), atol=2e-5)
    assert np.abs(of(found, test).mean(axis=0)).max() < 1e-5  # centred by themselves
    assert (run["parameters"]["queries"], run["fitted_to"]["queries"]["images"]) == ("split = 'test'", TEST)
    reduce(study)  # beside it, and the right one
    np.testing.assert_allclose(of(stored(study, "e~pca8"), test), oracle(vectors, train, test, 8), atol=2e-5)
    line = "e~pca8-mahbod2024: 80 vectors, 8 of 24 numbers, {:.1%} of the gallery's variance, {:.1%} of the queries' variance, already reduced"
    kept = [PCA(8).fit(of(vectors, names)).explained_variance_ratio_.sum() for names in (train, test)]
    assert reduce_line(run, False) == line.format(*kept)


def test_images_that_are_neither_are_projected_by_the_gallery(tmp_path):
    vectors = drawn(DIM)
    study = study_of(tmp_path / "study", vectors)
    few = sorted(vectors)[TRAIN : TRAIN + 10]
    queries = "image_id IN (" + ", ".join(f"'{name}'" for name in few) + ")"
    reduce(study, 5, as_published="mahbod2024", queries=queries, gallery="image_id < '040'")
    found = stored(study, "e~pca5-mahbod2024")
    names = sorted(vectors)
    np.testing.assert_allclose(of(found, few), oracle(vectors, few, few, 5), atol=2e-5)
    others = [name for name in names if name not in few]
    np.testing.assert_allclose(of(found, others), oracle(vectors, names[:40], others, 5), atol=2e-5)


def test_float16_sources(tmp_path):
    vectors = {name: vector.astype(np.float16) for name, vector in drawn(DIM).items()}
    study = make_study(tmp_path / "study", rows())
    add_embeddings(study, [row["image_id"] for row in rows()], vectors, encoder="e")
    contract = embeddings(DIM, dtype="float16")
    (file,) = study.files("embeddings", "encoder=e")
    table = pq.read_table(file)
    halves = pa.array(np.concatenate([np.array(v, np.float16) for v in table["embedding"].to_pylist()]))
    column = pa.FixedSizeListArray.from_arrays(halves, type=contract.field("embedding").type)
    pq.write_table(pa.table([table["image_key"].combine_chunks(), column], schema=contract), file)
    run = study.run_of("embeddings", "encoder=e")
    study.write_json(run | {"dtype": "float16"}, "embeddings", "encoder=e", "run.json")
    assert reduce(study)["dtype"] == "float32"
    names = sorted(vectors)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), names), oracle(vectors, names[:TRAIN], names, 8), atol=2e-5)


# --- the stages behind it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "theirs"), [("l2", "euclidean"), ("cos", "cosine")])
def test_neighbors_are_those_of_scikit_learn(study, metric, theirs):
    reduce(study)
    search(study, "e~pca8", "exact", SearchOptions(k=5, metric=metric))
    found = study.dataset("neighbors", "e~pca8", "exact").to_table().sort_by("rank").to_pylist()
    vectors = drawn(DIM)
    train, test = split(vectors)
    model = NearestNeighbors(n_neighbors=5, metric=theirs, algorithm="brute")
    model.fit(oracle(vectors, train, train, 8))
    distances, places = model.kneighbors(oracle(vectors, train, test, 8))
    for name, expected, near in zip(test, distances, places, strict=True):
        mine = [row for row in found if row["query_key"] == image_key(name)]
        assert [row["neighbor_key"] for row in mine] == [image_key(train[place]) for place in near]
        np.testing.assert_allclose([row["distance"] for row in mine], expected, rtol=2e-5, atol=2e-6)


def test_every_command_takes_a_reduced_encoder(study, capsys):
    flags = ["--study", study.address]
    assert main(["reduce", *flags, "--encoder", "e", "--pca", "8"]) == 0
    assert "e~pca8: 80 vectors, 8 of 24 numbers, " in capsys.readouterr().out
    for command in (
        ["index", *flags, "--encoder", "e~pca8", "--index", "hnsw", "--pca", "4"],
        ["search", *flags, "--encoder", "e~pca8", "--index", "hnsw", "-k", "10"],
        ["search", *flags, "--encoder", "e~pca8", "--index", "exact", "-k", "10"],
    ):
        assert main([*command, "--debug"]) == 0
    found = Questions(study.address).sql(
        "SELECT encoder, count(*) AS n, len(first(embedding)) AS dim FROM embeddings GROUP BY 1 ORDER BY 1"
    )
    assert found.to_numpy().tolist() == [["e", 80, 24], ["e~pca8", 80, 8]]
    lines = [line for line in examine(study) if "e~pca8" in line]
    assert [line[:4] for line in lines] == ["ok  "] * 4


def test_figures_and_the_report_say_what_was_reduced(study):
    """A reduction that keeps every number turns the vectors, and no figure."""
    reduce(study, DIM, gallery="split = 'train' AND true")
    for encoder in ("e", "e~pca24"):
        search(study, encoder, "exact", SearchOptions(k=10, metric="l2"))
    evaluate(study)
    found = Questions(study.address).sql("SELECT * EXCLUDE (encoder) FROM metrics ORDER BY ALL")
    whole = Questions(study.address).sql("SELECT * EXCLUDE (encoder) FROM metrics WHERE encoder = 'e' ORDER BY ALL")
    assert len(found) == 2 * len(whole) > 0
    pd.testing.assert_frame_equal(found[::2].reset_index(drop=True), whole)
    page = html.unescape(Path(write_report(study)).read_text())
    assert (
        "from e, 24 numbers, to principal components of 60 images of split = 'train' AND true (100.0% of their variance is kept)"
        in page
    )


# --- conservation ----------------------------------------------------------------------------------------------------------


def test_failures_go_with_it(tmp_path):
    vectors = drawn(DIM)
    for name in ("003", "017", "070"):
        del vectors[name]
    study = study_of(tmp_path / "study", vectors)
    run = reduce(study)
    assert (run["rows"], run["failed"]) == (77, 3)
    assert reduce_line(run, True).startswith("e~pca8: 77 vectors, 3 failed, 8 of 24 numbers")
    assert account(study, "e~pca8").line() == "e~pca8: 77 embedded, 3 failed: see failures"
    failures = [study.dataset("failures", f"encoder={name}").to_table().to_pylist() for name in ("e", "e~pca8")]
    assert failures[0] == failures[1]
    assert any(line == "note  e~pca8: 77 embedded, 3 failed: see failures: what they would be made of has no vectors" for line in examine(study))  # fmt: skip
    train, test = split(vectors)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), test), oracle(vectors, train, test, 8), atol=2e-5)


def test_images_that_the_manifest_no_longer_has_stay_out(tmp_path):
    """They stay in the source in case they come back, and are neither fitted to nor projected."""
    vectors = drawn(DIM)
    del vectors["075"]
    study = study_of(tmp_path / "study", vectors)
    kept = [row for row in rows() if row["image_id"] not in ("000", "075", "079")]
    make_study(tmp_path / "study", kept)
    reduce(study)
    left = {name: v for name, v in vectors.items() if name not in ("000", "079")}
    assert sorted(stored(study, "e~pca8")) == sorted(left)
    assert counted(study, embedded_by("e~pca8")) == (77, 0, 0)
    train, test = split(left)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), test), oracle(left, train, test, 8), atol=2e-5)


def test_the_check_of_conservation_finds_nothing(study):
    reduce(study)
    connection = connect()
    attach_manifest(connection, study)
    attach_done(connection, "done", study, "e~pca8")
    assert connection.execute(read("checks", "conservation")).fetchall() == []
    study.delete("embeddings", "encoder=e~pca8", "part-00000.parquet")
    attach_done(connection, "done", study, "e~pca8")
    assert len(connection.execute(read("checks", "conservation")).fetchall()) == 80


# --- again, and otherwise ----------------------------------------------------------------------------------------------


def test_the_same_again_is_reduced_already(study, capsys):
    run = reduce(study)
    again, made = reduce_embeddings(study, "e", ReduceOptions(pca=8))
    assert (again, made) == (study.run_of("embeddings", "encoder=e~pca8"), False)
    assert again == json.loads(json.dumps(run))
    assert main(["reduce", "--study", study.address, "--encoder", "e", "--pca", "8"]) == 0
    assert capsys.readouterr().out.endswith("variance, already reduced\n")


def test_another_gallery_needs_overwrite(study):
    reduce(study)
    before = stored(study, "e~pca8")
    with pytest.raises(
        UserError,
        match=r"embeddings of e~pca8 made otherwise \(gallery split = 'train' there, true now\); --overwrite replaces",
    ):
        reduce(study, gallery="true")
    np.testing.assert_array_equal(stored(study, "e~pca8")["000"], before["000"])
    reduce(study, gallery="true", overwrite=True)
    vectors = drawn(DIM)
    names = sorted(vectors)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), names), oracle(vectors, names, names, 8), atol=2e-5)


def embed_otherwise(study: Study) -> dict[str, np.ndarray]:
    """Other vectors in the place of the encoder's, as after `cbmir embed --overwrite`."""
    study.delete("embeddings", "encoder=e")
    vectors = drawn(DIM, seed=5)
    add_embeddings(study, sorted(vectors), vectors, encoder="e")
    run = study.run_of("embeddings", "encoder=e")
    study.write_json(run | {"fingerprint": "another"}, "embeddings", "encoder=e", "run.json")
    return vectors


def test_a_source_that_changed_makes_it_outdated_everywhere(study):
    reduce(study)
    build_index(study, "e~pca8", "hnsw", IndexOptions())
    run, _ = search(study, "e~pca8", "exact", SearchOptions(k=5))
    assert not outdated(study, "e~pca8", run)
    vectors = embed_otherwise(study)
    assert outdated(study, "e~pca8", run)
    older = r"e~pca8 is older than the embeddings that it was made of; make it again with: cbmir reduce .* --encoder e --pca 8 --gallery"
    for use in (
        lambda: search(study, "e~pca8", "exact", SearchOptions(k=5)),
        lambda: build_index(study, "e~pca8", "hnsw", IndexOptions()),
        lambda: search(study, "e~pca8", "hnsw", SearchOptions(k=5)),
    ):
        with pytest.raises(UserError, match=older):
            use()
    with pytest.raises(UserError, match="neighbors of e~pca8 by exact are older"):
        evaluate(study)
    (line,) = [line for line in examine(study) if "e~pca8" in line]
    assert line.startswith("act   e~pca8 is older than the embeddings that it was made of; run: cbmir reduce")
    assert main(shlex.split(line.split("run: cbmir ")[1])) == 0
    names = sorted(vectors)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), names), oracle(vectors, names[:TRAIN], names, 8), atol=2e-5)
    assert search(study, "e~pca8", "exact", SearchOptions(k=5))[1]
    assert build_index(study, "e~pca8", "hnsw", IndexOptions())[1]


def test_a_source_that_is_no_longer_there_changes_nothing(study):
    reduce(study)
    study.delete("embeddings", "encoder=e")
    assert search(study, "e~pca8", "exact", SearchOptions(k=5))[1]


def test_a_manifest_that_grew(study):
    """Refused until the source has all of it; then made again without being told to."""
    reduce(study)
    vectors = drawn(DIM) | {"999": np.ones(DIM, np.float32)}
    more = [*rows(), {"image_id": "999", "split": "train", "labels": []}]
    make_study(Path(study.root), more)
    manifest = study.run_of("manifest")
    study.write_json(manifest | {"fingerprint": "grown"}, "manifest", "run.json")
    with pytest.raises(
        UserError, match="e: 80 embedded, 0 failed, 1 still to do; expected a vector or a failure for every image"
    ):
        reduce_embeddings(study, "e", ReduceOptions(pca=8))
    study.delete("embeddings", "encoder=e")
    add_embeddings(study, sorted(vectors), vectors, encoder="e")
    assert reduce(study)["fitted_to"]["gallery"]["images"] == TRAIN + 1
    assert account(study, "e~pca8").line() == "e~pca8: 81 embedded, 0 failed"


# --- names and errors -----------------------------------------------------------------------------------------------------


def test_a_short_name_never_means_reduced_vectors(tmp_path):
    study = make_study(tmp_path / "study", rows(), drawn(DIM), encoder="net@64")
    for pca_ in (8, 4):
        reduce_embeddings(study, "net", ReduceOptions(pca=pca_))
    assert study.names("embeddings") == ["net@64", "net@64~pca4", "net@64~pca8"]
    assert find_encoder(study, "net") == "net@64"
    assert find_encoder(study, "net@64~pca4") == "net@64~pca4"
    with pytest.raises(UserError, match=r"no embeddings of encoder 'net~pca4' in the study; nearest: 'net@64~pca4'"):
        find_encoder(study, "net~pca4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pca": 0}, r"--pca 0; expected 1 or more"),
        ({"pca": 25}, r"--pca 25: e has 60 vectors of 24 numbers for the gallery \(split = 'train'\); expected --pca 24 or less"),
        ({"pca": 8, "gallery": "image_id < '005'"}, r"--pca 8: e has 5 vectors of 24 numbers for the gallery .*; expected --pca 5 or less"),
        ({"pca": 5, "gallery": "image_id < '005'"}, r"the 5 vectors of the gallery .* vary in 4 directions; expected --pca 4 or less"),
        ({"pca": 8, "gallery": "split = 'val'"}, r"the gallery is empty"),
        ({"pca": 8, "gallery": "splt = 'train'"}, r"no column 'splt' in the manifest; nearest: 'split'"),
        ({"pca": 8, "queries": "split = 'test'"}, r"--queries without --as-published"),
        ({"pca": 8, "as_published": "denner2024"}, r"--as-published denner2024; expected one of: mahbod2024"),
        ({"pca": 21, "as_published": "mahbod2024"}, r"--pca 21: e has 20 vectors of 24 numbers for the queries \(split = 'test'\)"),
    ],
)  # fmt: skip
def test_misuse_is_one_line(study, options, message):
    with pytest.raises(UserError, match=message) as error:
        reduce_embeddings(study, "e", ReduceOptions(**options))
    assert "\n" not in str(error.value)
    assert study.names("embeddings") == ["e"]
    assert not study.exists(".staging")


def test_directions_that_do_not_exist_are_refused(tmp_path):
    """Numbers that are the same in all images, as of units that never fire: what lies along them is any library's guess."""
    vectors = {name: vector * (np.arange(DIM) < 6) for name, vector in drawn(DIM).items()}
    study = study_of(tmp_path / "study", vectors)
    with pytest.raises(
        UserError, match=r"the 60 vectors of the gallery .* vary in 6 directions; expected --pca 6 or less"
    ):
        reduce(study, 7)
    reduce(study, 6)
    for name in [name for name in vectors if name < "010"]:
        del vectors[name]
    failed = study_of(tmp_path / "failed", vectors)
    with pytest.raises(
        UserError,
        match=r"the gallery is empty: none of the 10 images of image_id < '010' was embedded by e; see failures",
    ):
        reduce(failed, 1, gallery="image_id < '010'")
    same = study_of(tmp_path / "same", dict.fromkeys(vectors, np.ones(DIM, np.float32)))
    with pytest.raises(UserError, match="vary in 0 directions"):
        reduce(same, 1)


def test_a_source_that_is_missing_unfinished_or_reduced_is_refused(study):
    with pytest.raises(UserError, match="no embeddings of encoder 'f' in the study"):
        reduce_embeddings(study, "f", ReduceOptions(pca=8))
    reduce(study)
    with pytest.raises(
        UserError, match=r"--encoder e~pca8 is reduced from e already; reduce that one to fewer numbers: --encoder e$"
    ):
        reduce_embeddings(study, "e~pca8", ReduceOptions(pca=4))
    study.delete("embeddings", "encoder=e", "run.json")
    with pytest.raises(ContractError, match=r"embeddings/encoder=e is unfinished"):
        reduce_embeddings(study, "e", ReduceOptions(pca=4))


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "1 vectors with NaN or infinity"), (np.float32(3e38), "is too large")]
)
def test_vectors_that_are_no_numbers_are_named(tmp_path, value, message):
    """Also where only the reduced one is too large: 24 numbers of 3e38 have a length that float32 does not hold."""
    vectors = drawn(DIM)
    vectors["070"] = vectors["070"] * 0 + value
    train, _ = split(vectors)
    for name in train:
        vectors[name] = (vectors[name] + np.arange(TRAIN)[int(name)] * 10).astype(
            np.float32
        )  # the first axis points there
    study = study_of(tmp_path / "study", vectors)
    with pytest.raises(UserError, match=message) as error:
        reduce(study)
    assert str(image_key("070")) in str(error.value)
    assert study.names("embeddings") == ["e"]


def test_commands_in_messages_parse(study):
    run = reduce(study, as_published="mahbod2024", queries="image_id > '065'")
    said = reduce_command(study, run["parameters"])
    assert main([*shlex.split(said)[1:]]) == 0
    assert reduce_command_by_name(study, "a@64~pca8-mahbod2024").endswith(
        "--encoder a@64 --pca 8 --as-published mahbod2024"
    )
    study.delete("embeddings", "encoder=e~pca8-mahbod2024", "run.json")
    (line,) = [line for line in examine(study) if "~pca8" in line]
    assert line.startswith("act   e~pca8-mahbod2024: 80 embedded, 0 failed; go on with: cbmir reduce --study")


# --- kills --------------------------------------------------------------------------------------------------------------------


def test_a_kill_at_any_moment_leaves_all_or_nothing(tmp_path):
    rng = np.random.default_rng(0)
    study = make_study(tmp_path / "study", [{"image_id": f"{i:05d}"} for i in range(6_000)])
    add_embeddings(study, [f"{i:05d}" for i in range(6_000)], {f"{i:05d}": v for i, v in enumerate(rng.normal(size=(6_000, 256)))}, encoder="e", files=3)  # fmt: skip
    arguments = ["reduce", "--study", study.address, "--encoder", "e", "--pca", "128"]
    killed = 0
    for pause in (0.0, 0.05, 0.1, 0.2):
        process = start(*arguments)
        staged = Path(study.root, ".staging")
        wait_for(lambda staged=staged: staged.exists() and os.listdir(staged), seconds=60, process=process)
        time.sleep(pause)
        kill(process.pid)
        killed += process.wait() != 0
        process.stdout.close()
        assert study.run_of("embeddings", "encoder=e~pca128") or not study.exists("embeddings", "encoder=e~pca128")
    assert killed, "no run was killed before its end"
    assert main(arguments) == 0
    assert account(study, "e~pca128").line() == "e~pca128: 6,000 embedded, 0 failed"
    assert not study.exists(".staging")


# --- object stores, removal, queries ---------------------------------------------------------------------------------------


def test_on_an_object_store(s3, tmp_path):
    import pyarrow.fs as pafs

    study_of(tmp_path / "study", drawn(DIM))
    study = Study(s3.address("study"))
    pafs.copy_files(str(tmp_path / "study"), study.root, destination_filesystem=study.fs)
    reduce(study)
    assert account(study, "e~pca8").line() == "e~pca8: 80 embedded, 0 failed"
    assert read_projection(study, "e~pca8").components.shape == (8, DIM)
    assert search(study, "e~pca8", "exact", SearchOptions(k=5))[1]
    study.delete("embeddings", "encoder=e~pca8", "run.json")  # as after a kill: what is there is replaced
    with pytest.raises(ContractError, match="encoder=e~pca8 is unfinished"):
        Vectors(study, "e~pca8")
    reduce(study)
    assert account(study, "e~pca8").line() == "e~pca8: 80 embedded, 0 failed"


def test_a_removal_takes_rows_and_leaves_a_fit_to_be_made_again(study):
    reduce(study)
    build_index(study, "e~pca8", "hnsw", IndexOptions())
    said: list[str] = []
    remove(study, RemoveOptions(where="image_id IN ('004', '070')"), say=said.append)
    assert sorted(stored(study, "e~pca8")) == [f"{i:03d}" for i in range(80) if i not in (4, 70)]
    assert account(study, "e~pca8").line() == "e~pca8: 78 embedded, 0 failed"
    with pytest.raises(UserError, match="e~pca8 is older than the embeddings"):
        Vectors(study, "e~pca8")
    place = said.index("fitted to images with these among them, and refused until fitted again with:")
    assert not any("not looked through" in line for line in said)
    assert main(shlex.split(said[place + 1])[1:]) == 0
    vectors = {name: v for name, v in drawn(DIM).items() if name not in ("004", "070")}
    train, test = split(vectors)
    np.testing.assert_allclose(of(stored(study, "e~pca8"), test), oracle(vectors, train, test, 8), atol=2e-5)
    assert build_index(study, "e~pca8", "hnsw", IndexOptions())[0]["rows"] == TRAIN - 1


def test_orphans_leave_a_fit_as_it_is(study):
    (file,) = study.files("embeddings", "encoder=e")
    orphan = pq.read_table(file).slice(79)
    remove(study, RemoveOptions(where="image_id = '079'"), say=lambda line: None)
    study.write_table(orphan, "embeddings", "encoder=e", "orphan.parquet")
    reduce(study)
    remove(study, RemoveOptions(orphans=True), say=lambda line: None)
    assert not study.exists("embeddings", "encoder=e", "orphan.parquet")
    assert Vectors(study, "e~pca8").run["rows"] == 79
    assert not reduce_embeddings(study, "e", ReduceOptions(pca=8))[1]


def test_a_predicate_that_names_a_removed_image_goes_with_it(study):
    reduce(study, gallery="image_id != '004'")
    build_index(study, "e~pca8", "hnsw", IndexOptions())
    said: list[str] = []
    remove(study, RemoveOptions(where="image_id = '004'"), say=said.append)
    assert study.names("embeddings") == ["e"]
    assert (study.names("failures"), study.names("index")) == ([], [])
    assert any("--pca 8" in line for line in said)


@pytest.fixture(scope="module")
def thumbnails(tmp_path_factory) -> Path:
    """A study of 40 small pictures by pixels32, reduced."""
    root = tmp_path_factory.mktemp("thumbnails")
    rng = np.random.default_rng(3)
    lines = ["image_id,uri,split,labels"]
    for i in range(40):
        path = root / f"{i:02d}.png"
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(path)
        lines.append(f"{i:02d},{path},{'train' if i < 30 else 'test'},a")
    (root / "images.csv").write_text("\n".join(lines))
    study = Study(str(root / "study"))
    write_manifest(study, "csv", [str(root / "images.csv")], Options())
    return root


@pytest.fixture
def asked(thumbnails, ray_session, tmp_path) -> Path:
    from cbmir.embed import embed
    from cbmir.embedding.options import EmbedOptions

    study = Study(str(thumbnails / "study"))
    embed(study, ["pixels32"], EmbedOptions(), say=lambda line: None)
    reduce_embeddings(study, "pixels32", ReduceOptions(pca=12))
    shutil.copytree(thumbnails / "study", tmp_path / "study")
    return thumbnails


def test_a_query_projects_the_image_that_is_asked_about(asked, tmp_path):
    """A picture of the study finds itself at distance 0, and one of its queries what the search found."""
    study = Questions(str(tmp_path / "study"))
    run, _ = search(study, "pixels32~pca12", "exact", SearchOptions(k=5))
    build_index(study, "pixels32~pca12", "hnsw", IndexOptions())
    for index in ("exact", "hnsw"):
        own = study.query(str(asked / "07.png"), encoder="pixels32~pca12", index=index, k=3)
        assert own["uri"][0] == str(asked / "07.png")
        assert own["distance"][0] == pytest.approx(0, abs=1e-6)
        assert own["distance"][1] > 0.01
        found = study.query(str(asked / "33.png"), encoder="pixels32~pca12", index=index, k=5)
        key = study.sql(f"SELECT image_key FROM manifest WHERE uri = '{asked / '33.png'}'")["image_key"][0]
        expected = study.sql(
            f"SELECT * FROM neighbors JOIN manifest ON image_key = neighbor_key WHERE query_key = {key} ORDER BY rank"
        )
        assert list(found["uri"]) == list(expected["uri"])
        np.testing.assert_allclose(found["distance"], expected["distance"], atol=1e-5)
    assert run["queries"] == 10


def test_a_query_of_vectors_as_published_is_refused(asked, tmp_path):
    study = Questions(str(tmp_path / "study"))
    reduce_embeddings(study, "pixels32", ReduceOptions(pca=4, as_published="mahbod2024"))
    with pytest.raises(
        UserError,
        match=r"so a new image has no vector; use the one of the gallery: cbmir reduce --encoder pixels32 --pca 4$",
    ):
        study.query(str(asked / "07.png"), encoder="pixels32~pca4-mahbod2024")


def test_vectors_that_were_imported_stay_imported(study):
    run = study.run_of("embeddings", "encoder=e")
    study.write_json(run | {"imported": ["a.h5"], "matched_by": "uri"}, "embeddings", "encoder=e", "run.json")
    assert reduce(study)["imported"] == ["a.h5"]
    with pytest.raises(UserError, match=r"the vectors of e~pca8 were imported from a\.h5"):
        Questions(study.address).query("x.png", encoder="e~pca8")
