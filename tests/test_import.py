"""Published vectors -> embeddings: HDF5, .npy with Parquet, Parquet; the account adds up, and files that are broken are named."""

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.cli import main
from cbmir.embedding.account import account, embedded_digest
from cbmir.errors import TooManyFailures, UserError
from cbmir.importing import ImportOptions, import_embeddings
from cbmir.published import hdf5
from cbmir.published.rows import Rows, plain
from cbmir.store import Study
from tests.studies import make_study as study_of

RNG = np.random.default_rng(2)
DIM = 6
N = 12
NAMES = [f"img/{'train' if i < 8 else 'test'}/{i:03d}.png" for i in range(N)]
VECTORS = {name: RNG.normal(size=DIM).astype(np.float32) for name in NAMES}


@pytest.fixture
def study(tmp_path) -> Study:
    """Twelve rows with a further column filepath; ids and addresses differ from it."""
    rows = [
        {"image_id": f"syn/{name}", "uri": f"/data/{name}", "filepath": name, "split": "train" if i < 8 else "test", "labels": [f"XR/chest/{i % 2}"]}
        for i, name in enumerate(NAMES)
    ]  # fmt: skip
    return study_of(tmp_path / "study", rows)


def hdf(path: Path, vectors: dict[str, np.ndarray]) -> str:
    with h5py.File(path, "w") as file:
        for key, vector in vectors.items():
            file.create_dataset(key, data=vector)
    return str(path)


def parquet(path: Path, **columns) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def take(study: Study, *files: str, encoder: str = "pub", **options) -> tuple[dict, list[str]]:
    said: list[str] = []
    run, _ = import_embeddings(
        study, encoder, list(files), ImportOptions(**{"max_failures": 1.0, **options}), say=said.append
    )
    return run, said


def stored(study: Study, encoder: str = "pub") -> dict[str, np.ndarray]:
    """filepath -> vector, joined with the manifest by pandas."""
    manifest = study.dataset("manifest").to_table().to_pandas().set_index("image_key")
    found = study.dataset("embeddings", f"encoder={encoder}").to_table().to_pandas()
    return {
        manifest.loc[key, "filepath"]: np.array(v)
        for key, v in zip(found["image_key"], found["embedding"], strict=True)
    }


def failed(study: Study, encoder: str = "pub") -> dict[str, str]:
    if not study.files("failures", f"encoder={encoder}"):
        return {}
    found = study.dataset("failures", f"encoder={encoder}").to_table().to_pylist()
    assert {row["stage"] for row in found} <= {"import"}
    return {row["uri"].removeprefix("/data/"): row["error"] for row in found}


def remarks(study: Study, encoder: str = "pub") -> list[tuple]:
    found = pq.read_table(Path(study.root) / "remarks" / f"import%20of%20{encoder}" / "remarks.parquet").to_pylist()
    return [(row["remark"], os.path.basename(row["file"]), row["detail"]) for row in found]


def assert_same(found: dict, expected: dict, *, tolerance: float = 0) -> None:
    assert found.keys() == expected.keys()
    for name, vector in expected.items():
        np.testing.assert_allclose(found[name], vector, atol=tolerance, rtol=0)


# --- every layout ------------------------------------------------------------------------------------------------------


def test_hdf5_under_the_files_paths(study, tmp_path):
    run, said = take(study, hdf(tmp_path / "a.h5", VECTORS))
    assert_same(stored(study), VECTORS)
    assert (run["rows"], run["failed"], run["dim"], run["matched_by"]) == (N, 0, DIM, "filepath")
    assert said == [f"pub: {N} rows have a vector of {DIM} numbers (found by filepath), 0 have none"]
    assert account(study, "pub").line() == f"pub: {N} embedded, 0 failed"
    assert run["inputs"]["embedded"] == embedded_digest(study, "pub")


@pytest.mark.parametrize("prefix", ["", "/", "./", "/./"])
def test_leading_slashes_and_dots_do_not_matter(study, tmp_path, prefix):
    vectors = {f"{prefix}{name}": vector for name, vector in VECTORS.items()}
    take(study, hdf(tmp_path / "a.h5", vectors))
    assert_same(stored(study), VECTORS)


@pytest.mark.parametrize(("column", "prefix"), [("image_id", "syn/"), ("uri", "/data/")])
def test_the_column_that_fits_is_found(study, tmp_path, column, prefix):
    run, _ = take(study, hdf(tmp_path / "a.h5", {prefix + name: vector for name, vector in VECTORS.items()}))
    assert run["matched_by"] == column
    assert_same(stored(study), VECTORS)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
def test_hdf5_of_other_numbers_and_shapes(study, tmp_path, dtype):
    vectors = {name: (vector * 8).astype(dtype) for name, vector in VECTORS.items()}
    take(study, hdf(tmp_path / "a.h5", {name: v[None] if i % 2 else v for i, (name, v) in enumerate(vectors.items())}))
    assert_same(stored(study), {name: v.astype(np.float32) for name, v in vectors.items()})


def test_vectors_as_clip_retrieval_writes_them(study, tmp_path):
    for part in range(3):
        names = NAMES[part * 4 : part * 4 + 4]
        (tmp_path / "out" / "img_emb").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / "metadata").mkdir(parents=True, exist_ok=True)
        np.save(
            tmp_path / "out" / "img_emb" / f"img_emb_{part}.npy",
            np.stack([VECTORS[n] for n in names]).astype(np.float16),
        )
        parquet(tmp_path / "out" / "metadata" / f"metadata_{part}.parquet", image_path=names, caption=["x"] * 4)
    take(study, str(tmp_path / "out"))
    assert_same(stored(study), {name: v.astype(np.float16) for name, v in VECTORS.items()})
    take(study, *[str(tmp_path / "out" / "img_emb" / f"img_emb_{p}.npy") for p in (2, 0, 1)], encoder="again")
    assert_same(stored(study, "again"), stored(study))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), DIM), pa.list_(pa.float32(), DIM)], ids=str)  # fmt: skip
def test_parquet_with_a_column_of_vectors(study, tmp_path, kind):
    item = kind.value_type.to_pandas_dtype()
    vectors = pa.array([VECTORS[name].astype(item) for name in NAMES], kind)
    take(study, parquet(tmp_path / "a.parquet", image_path=NAMES, note=[1] * N, emb=vectors))
    assert_same(stored(study), {name: v.astype(item) for name, v in VECTORS.items()})


def test_what_cbmir_wrote_goes_into_another_study(study, tmp_path):
    take(study, hdf(tmp_path / "a.h5", VECTORS))
    files = study.files("embeddings", "encoder=pub")
    run, _ = take(study, *files, encoder="copy")
    assert run["matched_by"] == "image_key"
    assert_same(stored(study, "copy"), VECTORS)


def test_columns_by_name(study, tmp_path):
    vectors = pa.array([VECTORS[name] for name in NAMES], pa.list_(pa.float32()))
    file = parquet(tmp_path / "a.parquet", theirs=[f"syn/{name}" for name in NAMES], left=vectors, right=vectors)
    with pytest.raises(
        UserError,
        match=r"has no column image_key, filepath, .*; found: theirs, left, right; name one with --key-column",
    ):
        take(study, file)
    with pytest.raises(UserError, match=r"has 2 columns of vectors \(left, right\)"):
        take(study, file, key_column="theirs")
    with pytest.raises(UserError, match="--vector-column theirs: no column of vectors"):
        take(study, file, key_column="theirs", vector_column="theirs")
    with pytest.raises(UserError, match="--match nowhere: the manifest has no such column"):
        take(study, file, key_column="theirs", vector_column="left", match="nowhere")
    run, _ = take(study, file, key_column="theirs", vector_column="left", match="image_id")
    assert run["rows"] == N


def test_several_files_one_encoder(study, tmp_path):
    files = [hdf(tmp_path / f"{i}.h5", {name: VECTORS[name] for name in NAMES[i::3]}) for i in range(3)]
    take(study, *files)
    assert_same(stored(study), VECTORS)


# --- what does not fit -------------------------------------------------------------------------------------------------


def test_rows_without_vector_and_vectors_without_row(study, tmp_path):
    given = {name: vector for name, vector in VECTORS.items() if name != NAMES[3]} | {
        "img/else/1.png": VECTORS[NAMES[0]]
    }
    run, said = take(study, hdf(tmp_path / "a.h5", given))
    assert (run["rows"], run["failed"]) == (N - 1, 1)
    assert failed(study) == {NAMES[3]: "no vector under this row's filepath in a.h5"}
    assert remarks(study) == [("vector_without_row", "a.h5", "img/else/1.png")]
    assert said[0].endswith(f"1 have none, first {NAMES[3]}: see failures")
    assert said[1] == "remark: 1 vectors belong to no row of the manifest, first img/else/1.png"
    assert account(study, "pub").missing == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([1, 2, np.nan, 4, 5, 6], np.float32), "is not finite"),
        (np.array([1, 2, np.inf, 4, 5, 6], np.float32), "is not finite"),
        (np.zeros(DIM + 1, np.float32), f"is {DIM + 1} numbers; expected {DIM} as the first vector has"),
        (np.zeros(0, np.float32), r"is shape \(0,\); expected one vector"),
        (np.zeros((2, 3), np.float32), r"is shape \(2, 3\); expected one vector"),
        (np.float32(3), r"is shape \(\); expected one vector"),
        (np.array([b"text"]), "is not numbers but"),
    ],
)
def test_a_vector_that_is_none_is_a_failure(study, tmp_path, bad, message):
    take(study, hdf(tmp_path / "a.h5", VECTORS | {NAMES[5]: bad}))
    assert failed(study).keys() == {NAMES[5]}
    import re

    assert re.search(message, failed(study)[NAMES[5]])
    assert len(stored(study)) == N - 1


def test_odd_rows_of_parquet_are_failures(study, tmp_path):
    rows = [VECTORS[name].tolist() for name in NAMES]
    rows[1], rows[2], rows[3], rows[4] = None, [1.0] * (DIM - 1), [*rows[3][:-1], None], [*rows[4][:-1], float("nan")]
    take(study, parquet(tmp_path / "a.parquet", image_path=NAMES, v=pa.array(rows, pa.list_(pa.float32()))))
    assert {name: error.split(" is ")[1] for name, error in failed(study).items()} == {
        NAMES[1]: "no vector",
        NAMES[2]: "5 numbers; expected 6 as the first vector has",
        NAMES[3]: "a vector with holes",
        NAMES[4]: "not finite",
    }


def test_a_row_keeps_the_first_of_two_vectors(study, tmp_path):
    other = {NAMES[0]: np.ones(DIM, np.float32)}
    _, said = take(study, hdf(tmp_path / "a.h5", VECTORS), hdf(tmp_path / "b.h5", other))
    assert_same(stored(study), VECTORS)
    assert remarks(study) == [("second_vector", "b.h5", NAMES[0])]
    assert "1 vectors for a row that had one" in said[1]


def test_a_vector_too_large_for_half_precision_is_a_failure(study, tmp_path):
    take(study, hdf(tmp_path / "a.h5", VECTORS | {NAMES[2]: np.full(DIM, 1e6, np.float32)}), dtype="float16")
    assert failed(study) == {NAMES[2]: "its vector is too large for float16"}
    assert_same(stored(study), {n: v.astype(np.float16) for n, v in VECTORS.items() if n != NAMES[2]})


def test_rows_of_one_path_share_its_vector(tmp_path):
    rows = [
        {"image_id": f"a/{i}", "uri": f"/x/{i}", "filepath": "same.png" if i < 2 else "other.png"} for i in range(3)
    ]
    study = study_of(tmp_path / "study", rows)
    run, _ = take(
        study, hdf(tmp_path / "a.h5", {"same.png": np.ones(3, np.float32), "other.png": np.zeros(3, np.float32) + 2})
    )
    assert run["rows"] == 3


def test_links_and_references_are_not_followed(study, tmp_path):
    secret = hdf(tmp_path / "secret.h5", {"x": np.ones(DIM, np.float32)})
    file = hdf(tmp_path / "a.h5", {name: VECTORS[name] for name in NAMES[4:]})
    with h5py.File(file, "a") as opened:
        group = opened["img"].require_group("train")
        group["000.png"] = h5py.ExternalLink(secret, "/x")
        group["001.png"] = h5py.SoftLink(f"/{NAMES[5]}")
        layout = h5py.VirtualLayout((DIM,), np.float32)
        layout[:] = h5py.VirtualSource(secret, "x", (DIM,))
        group.create_virtual_dataset("002.png", layout)
        group.create_dataset("003.png", data=np.array([opened[NAMES[6]].ref], h5py.ref_dtype))
        group["loop"] = opened["img"]  # a hard link: a circle
    take(study, file)
    assert {name: error.split(" is ")[1] for name, error in failed(study).items()} == {
        NAMES[0]: "a link, not a vector",
        NAMES[1]: "a link, not a vector",
        NAMES[2]: "stored in another file",
        NAMES[3]: "not numbers but object",
    }


# --- again, otherwise, broken ------------------------------------------------------------------------------------------


def test_again_nothing_is_written_and_other_files_are_refused(study, tmp_path):
    file = hdf(tmp_path / "a.h5", VECTORS)
    take(study, file)
    before = Path(study.root, "embeddings", "encoder=pub", "run.json").stat().st_mtime_ns
    run, written = import_embeddings(study, "pub", [file], ImportOptions(), say=lambda line: None)
    assert not written
    assert Path(study.root, "embeddings", "encoder=pub", "run.json").stat().st_mtime_ns == before
    moved = Path(file).rename(tmp_path / "sub.h5").rename(tmp_path / "a.h5")
    assert import_embeddings(study, "pub", [str(moved)], ImportOptions(), say=lambda line: None)[1] is False
    other = hdf(tmp_path / "a.h5", VECTORS | {NAMES[0]: np.ones(DIM, np.float32)})
    with pytest.raises(
        UserError, match="the study has embeddings of pub that were imported from other files or otherwise"
    ):
        take(study, other)
    with pytest.raises(UserError, match="imported from other files or otherwise"):
        take(study, file, dtype="float16")
    take(study, other, overwrite=True)
    assert stored(study)[NAMES[0]].tolist() == [1.0] * DIM
    assert run["imported"] == ["a.h5"]


def test_many_rows_without_vector_end_with_3_and_keep_the_others(study, tmp_path, capsys):
    file = hdf(tmp_path / "a.h5", {name: VECTORS[name] for name in NAMES[:9]})
    with pytest.raises(TooManyFailures, match=r"3 of 12 rows have no vector \(25.0%\)"):
        take(study, file, max_failures=0.01)
    assert main(["embeddings", "import", file, "--encoder", "pub2", "--study", study.root]) == 3
    assert "3 of 12 rows have no vector" in capsys.readouterr().err
    assert len(stored(study, "pub2")) == 9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.h5", b"no", "a.h5 is no HDF5 file"),
        ("a.h5", None, "a.h5 is cut short|a.h5 is no HDF5 file"),
        ("empty.h5", "empty", "holds no dataset"),
        ("a.npy", pickle.dumps([1]), "holds Python objects, which are never loaded|no .npy file"),
        ("objects.npy", "objects", "objects.npy holds Python objects, which are never loaded"),
        ("a.parquet", b"PAR1", "a.parquet is no Parquet file"),
        ("a.csv", b"x", r"unknown layout '.csv'; expected .h5, .npy or .parquet"),
    ],
)
def test_a_broken_file_is_named(study, tmp_path, name, content, message):
    path = tmp_path / name
    if content == "empty":
        hdf(path, {})
    elif content == "objects":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
        parquet(tmp_path / "objects.parquet", image_path=["a"])
    elif content is None:
        whole = Path(hdf(path, VECTORS)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        take(study, str(path))
    assert not study.exists("embeddings", "encoder=pub")
    assert study.names(".staging") == []


def test_npy_and_its_keys(study, tmp_path):
    np.save(tmp_path / "v.npy", np.zeros((3, DIM), np.float32))
    with pytest.raises(UserError, match=r"no keys for .*v.npy; expected .*metadata.parquet"):
        take(study, str(tmp_path / "v.npy"))
    parquet(tmp_path / "v.parquet", image_path=NAMES[:2])
    with pytest.raises(UserError, match=r"has 3 vectors and .*v.parquet 2 rows; expected as many"):
        take(study, str(tmp_path / "v.npy"))
    np.save(tmp_path / "v.npy", np.zeros((2, DIM, 1), np.float32))
    with pytest.raises(UserError, match=r"is float32 of shape \(2, 6, 1\); expected \(n, dim\) numbers"):
        take(study, str(tmp_path / "v.npy"))


def test_misuse_is_one_line(study, tmp_path, capsys):
    file = hdf(tmp_path / "a.h5", VECTORS)
    stranger = hdf(tmp_path / "b.h5", {"not/here.png": VECTORS[NAMES[0]]})
    command = ["embeddings", "import", "--encoder", "pub", "--study", study.root]
    for arguments, message in (
        ([str(tmp_path / "none.h5")], "no file"),
        ([file, file], "is named twice"),
        (["s3://bucket/a.h5"], "are read from a disk"),
        (
            [stranger],
            "is a filepath or image_id or uri of the manifest: found 'not/here.png', expected e.g. 'img/train/000.png'",
        ),
        ([str(tmp_path / "study")], "no .npy, .h5 or .parquet file in"),
    ):
        assert main([*command, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(["embeddings", "import", file, "--encoder", "pub", "--study", str(tmp_path / "nowhere")]) == 2
    assert "no study at" in capsys.readouterr().err


def test_an_imported_encoder_is_searched_evaluated_and_reported_but_not_asked(study, tmp_path, capsys):
    take(study, hdf(tmp_path / "a.h5", VECTORS))
    base = ["--study", study.root]
    assert main(["index", *base, "--encoder", "pub", "--index", "hnsw"]) == 0
    for index in ("exact", "hnsw"):
        assert main(["search", *base, "--encoder", "pub", "--index", index]) == 0
    assert main(["evaluate", *base]) == 0
    assert main(["report", *base]) == 0
    page = Path(study.root, "report", "report.html").read_text()
    assert "imported from a.h5" in page
    capsys.readouterr()
    assert main(["query", *base, "--encoder", "pub", "--index", "exact", "-k", "3", __file__]) == 2
    assert "were imported from a.h5: what made them is not known here" in capsys.readouterr().err
    take(study, hdf(tmp_path / "b.h5", VECTORS), encoder="pixels32")
    assert main(["embed", *base, "--encoder", "pixels32"]) == 2
    assert "the vectors of pixels32 were imported from b.h5" in capsys.readouterr().err


def test_a_grown_manifest_is_imported_again_without_asking(study, tmp_path):
    file = hdf(tmp_path / "a.h5", VECTORS)
    take(study, file)
    manifest = study.run_of("manifest")
    study.write_json(manifest | {"fingerprint": "other"}, "manifest", "run.json")
    assert import_embeddings(study, "pub", [file], ImportOptions(), say=lambda line: None)[1] is True


# --- properties and the published example ------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["/", "./", "a", "a/", ".", "b.png"]), max_size=6))
def test_plain_paths_have_no_leading_slash_or_dot(parts):
    path = "".join(parts)
    assert plain(plain(path)) == plain(path)
    assert path.endswith(plain(path))
    assert not plain(path).startswith(("/", "./"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), st.lists(st.sampled_from("abcxyz"), max_size=8))
def test_rows_are_found_as_a_double_loop_finds_them(tmp_path_factory, values, keys):
    study = study_of(
        tmp_path_factory.mktemp("s") / "study", [{"image_id": f"i{n}", "filepath": v} for n, v in enumerate(values)]
    )
    rows = Rows(study, "filepath")
    at, row = rows.find(keys)
    found = sorted(zip(at.tolist(), rows.table["filepath"].take(pa.array(row)).to_pylist(), row.tolist(), strict=True))
    order = rows.table["filepath"].to_pylist()
    assert found == [(i, key, r) for i, key in enumerate(keys) for r, v in enumerate(order) if v == key]


def test_memory_is_a_batch_whatever_the_files_size(tmp_path):
    import tracemalloc

    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(30_000):
            file.create_dataset(f"g{i % 7}/{i}", data=np.zeros(64, np.float32))
    tracemalloc.start()
    total = sum(len(batch.keys) for batch in hdf5.read(str(tmp_path / "a.h5"), None))
    assert total == 30_000
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()


def test_the_golden_vectors_give_one_embedding_a_row_and_the_published_precision(shared, tmp_path):
    golden = shared / "golden" / "denner"
    files = [str(golden / f"{split}.csv") for split in ("train", "val", "test")]
    base = ["--study", str(tmp_path / "study")]
    assert main(["manifest", "denner-csv", *files, *base]) == 0
    assert main(["embeddings", "import", str(golden / "syn.h5"), "--encoder", "syn", *base]) == 0
    assert main(["search", "--encoder", "syn", "--index", "exact", "-k", "100", *base]) == 0
    study = Study(str(tmp_path / "study"))
    assert account(study, "syn").embedded == 2_100
    manifest = study.dataset("manifest").to_table().to_pandas().set_index("image_key")
    vectors = study.dataset("embeddings", "encoder=syn").to_table()
    assert vectors["image_key"].to_pandas().is_unique
    with h5py.File(golden / "syn.h5") as file:
        for key, vector in zip(
            vectors["image_key"].to_pylist()[::97], vectors["embedding"].to_pylist()[::97], strict=True
        ):
            np.testing.assert_array_equal(file[manifest.loc[key, "filepath"]][()], np.array(vector, np.float32))
    label = manifest["labels"].map(lambda labels: labels[0])
    gallery = label[manifest["split"] == "train"].value_counts()
    neighbors = study.dataset("neighbors", "syn", "exact").to_table().to_pandas()
    neighbors["hit"] = neighbors["neighbor_key"].map(label).to_numpy() == neighbors["query_key"].map(label).to_numpy()
    import pandas as pd

    published = pd.read_csv(golden / "retrieval.csv", index_col=0)
    for n in (1, 2, 5, 10, 50, 99):
        top = neighbors[neighbors["rank"] <= n]
        query_label = label[neighbors["query_key"].unique()]
        allowed = np.minimum(n, gallery.reindex(query_label).fillna(0).to_numpy()).astype(int)
        cap = pd.Series(allowed, index=query_label.index)
        inside = top[top["rank"].to_numpy() <= cap[top["query_key"]].to_numpy()]
        hits = inside.groupby("query_key")["hit"].sum().reindex(cap.index).fillna(0)
        kept = cap > 0
        assert abs((hits[kept] / cap[kept]).mean() - published["micro_precision_mean"][n - 1]) < 1e-9
