"""Looking up images of one's own: every format, the vote, the tables, the page, the DataFrame, and each kind of misuse."""

import contextlib
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cbmir
from cbmir.cli import main
from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.encoders.build import build
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.images.geometry import Geometry, apply
from cbmir.index import IndexOptions, build_index
from cbmir.lookup import Lookup, usual_index
from cbmir.querying import gallery as gallery_module
from cbmir.querying.held import Held, HeldSearch, Source
from cbmir.querying.inputs import Query, from_arguments, from_python
from cbmir.querying.reading import rebuild
from cbmir.querying.votes import Vote, in_words, vote
from cbmir.searching.searchers import ExactSearch, no_codes
from cbmir.store import Study
from tests.image_files import as_volume, dicom, dicom_bytes, grey_carriers, nifti, npz, pillow, save
from tests.studies import add_embeddings, make_study

N = 24
LABELS = [["XR/chest/Mass"], ["XR/chest/Mass", "XR/chest/Effusion"], [], ["XR/chest/No Finding"]]


def picture(seed: int) -> np.ndarray:
    """(64, 72) uint8 of smooth noise that holds 0 and 255."""
    rough = np.random.default_rng(seed).integers(0, 256, (9, 10), np.uint8)
    smooth = np.array(Image.fromarray(rough).resize((72, 64), Image.Resampling.BICUBIC))
    smooth[0, 0], smooth[-1, -1] = 0, 255
    return smooth


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """The vector of pixels32, by Pillow alone."""
    return np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.BICUBIC), np.float32).ravel() / 255


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A study of N pictures, half of them the gallery, with an index, and the pictures as PNG files."""
    top = tmp_path_factory.mktemp("query")
    (top / "images").mkdir()
    rows, vectors = [], {}
    for i in range(N):
        path = top / "images" / f"{i:02d}.png"
        path.write_bytes(pillow(picture(i), "PNG"))
        split = "train" if i < N // 2 else "test"
        rows.append({"image_id": f"hand/{i:02d}", "uri": str(path), "labels": LABELS[i % 4], "split": split})
        vectors[f"hand/{i:02d}"] = thumbnail(picture(i))
    study = make_study(top / "study", rows, vectors)
    build_index(study, "pixels32", "hnsw", IndexOptions())
    return top


@pytest.fixture
def study(root) -> Study:
    return Study(str(root / "study"))


@pytest.fixture
def copy(root, tmp_path) -> Path:
    """The study, to be changed."""
    return Path(shutil.copytree(root / "study", tmp_path / "copy"))


def run(*arguments) -> int:
    """main, with argparse's own exits as codes."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def oracle(query: np.ndarray, k: int) -> list[tuple[str, float]]:
    """(image_id, cosine distance) of the k nearest gallery pictures, in float64."""
    gallery = np.stack([thumbnail(picture(i)) for i in range(N // 2)]).astype(np.float64)
    mine = thumbnail(query).astype(np.float64)
    distance = 1 - gallery @ mine / np.linalg.norm(gallery, axis=1) / np.linalg.norm(mine)
    return [(f"hand/{i:02d}", distance[i]) for i in np.argsort(distance)[:k]]


def answers(study: Study, *images, k: int = 3, index: str = "exact", **options) -> list:
    queries = from_arguments([str(image) for image in images], say=lambda line: None)
    return list(Lookup(study, "pixels32", index, **options).answers(queries, k=k))


# --- what is found ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_neighbors_are_those_of_a_plain_computation(study, root, index):
    files = sorted((root / "images").glob("*.png"))
    found = answers(study, *files, k=5, index=index)
    assert [a.name for a in found] == [str(f) for f in files]  # batches of 1, 2, 4, 4 ... keep the order
    for i, answer in enumerate(found):
        expected = oracle(picture(i), 5)
        assert [n["image_id"] for n in answer.neighbors] == [image_id for image_id, _ in expected]
        assert [n["rank"] for n in answer.neighbors] == [1, 2, 3, 4, 5]
        off = 1e-6 if index == "exact" else 5e-3  # an index keeps vectors in bfloat16
        np.testing.assert_allclose([n["distance"] for n in answer.neighbors], [d for _, d in expected], atol=off)


def test_neighbors_say_what_the_manifest_says(study, root):
    (answer,) = answers(study, root / "images" / "05.png", k=1)
    assert answer.neighbors == [
        {
            "rank": 1, "distance": pytest.approx(0, abs=1e-6), "image_id": "hand/05", "labels": ["XR/chest/Mass", "XR/chest/Effusion"],
            "modality": "XR", "region": "chest", "split": "train", "uri": str(root / "images" / "05.png"), "path": "hand/05",
        }
    ]  # fmt: skip


CARRIERS = grey_carriers(picture(7))


@pytest.mark.parametrize("name", CARRIERS)
def test_every_format_finds_its_picture(study, tmp_path, name):
    (answer,) = answers(study, save(tmp_path, CARRIERS[name]), k=1)
    assert answer.error is None
    assert answer.neighbors[0]["image_id"] == "hand/07"
    assert answer.neighbors[0]["distance"] < 1e-6


def test_an_image_of_the_study_is_found_at_distance_0(study, root):
    (answer,) = answers(study, root / "images" / "03.png", index="hnsw", k=1)
    assert answer.neighbors[0]["image_id"] == "hand/03"
    assert answer.neighbors[0]["distance"] < 1e-2


def test_a_gallery_that_is_too_large_to_hold_is_described_all_the_same(study, root, monkeypatch):
    files = sorted((root / "images").glob("*.png"))[:7]
    expected = answers(study, *files)
    monkeypatch.setattr(gallery_module, "MOST_HELD", N // 2 - 1)
    assert answers(study, *files) == expected


def test_exact_search_that_keeps_no_vectors_finds_the_same(study, root, monkeypatch):
    files = sorted((root / "images").glob("*.png"))[:7]
    expected = answers(study, *files)
    monkeypatch.setattr("cbmir.lookup.MOST_HELD", 0)
    assert answers(study, *files) == expected


def test_the_first_image_is_answered_before_the_last_is_read(study, root, tmp_path):
    """A directory of images whose later ones appear only once the first has been answered."""
    files = [tmp_path / f"{i}.png" for i in range(6)]
    shutil.copy(root / "images" / "00.png", files[0])
    asked = [Query(str(file), str(file)) for file in files]
    found = Lookup(study, "pixels32", "exact").answers(asked, k=1)
    first = next(found)
    assert first.neighbors[0]["image_id"] == "hand/00"
    shutil.copy(root / "images" / "05.png", files[5])
    assert [a.error is None for a in found] == [False] * 4 + [True]


def test_a_directory_holds_images_of_any_kind_and_dicom_files_of_any_name(study, tmp_path):
    grey, top = picture(2), tmp_path / "in"
    (top / "deeper").mkdir(parents=True)
    (top / "a.png").write_bytes(pillow(grey, "PNG"))
    (top / "deeper" / "1.2.840.7").write_bytes(dicom_bytes(dicom(grey)))
    (top / "deeper" / "IM0001").write_bytes(dicom_bytes(dicom(grey)))
    (top / "vol.nii.gz").write_bytes(nifti(as_volume(grey), packed=True))
    (top / "notes.txt").write_text("no image")
    (top / ".hidden.png").write_bytes(b"")
    said = []
    queries = from_arguments([str(top)], say=said.append)
    assert [q.name for q in queries] == [
        f"{top}/{n}" for n in ("a.png", "deeper/1.2.840.7", "deeper/IM0001", "vol.nii.gz")
    ]
    found = list(Lookup(study, "pixels32", "exact").answers(queries, k=1))
    assert [a.neighbors[0]["image_id"] for a in found] == ["hand/02"] * 4
    assert said == [f"{top}: 1 of 5 files are no images and passed over: .txt 1"]
    assert [q.name for q in from_arguments([f"{top}/*.png"], say=said.append)] == [f"{top}/a.png"]


def test_volumes_and_broken_files_of_a_directory_are_said_in_their_place(study, tmp_path):
    frames = np.stack([picture(1), picture(2), picture(3)])
    (tmp_path / "a.png").write_bytes(pillow(picture(4), "PNG"))
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "c.dcm").write_bytes(dicom_bytes(dicom(frames, NumberOfFrames=3)))
    (tmp_path / "d").write_bytes(dicom_bytes(dicom(picture(4)))[:400])
    (tmp_path / "e.nii").write_bytes(nifti(np.stack([as_volume(picture(4))[:, :, 0]] * 5, axis=2)))
    found = {Path(a.name).name: a for a in answers(study, tmp_path, k=1)}
    assert list(found) == ["a.png", "b.png", "c.dcm", "d", "e.nii"]
    assert found["a.png"].neighbors[0]["image_id"] == "hand/04"
    assert found["b.png"].error == "decode: the file is of no image format that is known"
    assert "a DICOM of 3 frames; name one of them: " in found["c.dcm"].error
    assert found["d"].error
    assert "a volume; name one of its 5 axial slices: " in found["e.nii"].error


def test_a_slice_and_a_frame_are_themselves(study, tmp_path):
    frames = np.stack([picture(1), picture(2), picture(3)])
    cine, volume = tmp_path / "cine.dcm", tmp_path / "v.nii.gz"
    cine.write_bytes(dicom_bytes(dicom(frames, NumberOfFrames=3)))
    volume.write_bytes(nifti(np.concatenate([as_volume(picture(i)) for i in (4, 5, 6)], axis=2), packed=True))
    parts = [f"{cine}#frame={i}" for i in range(3)] + [f"{volume}#axis=2&slice={i}" for i in range(3)]
    assert [a.neighbors[0]["image_id"] for a in answers(study, *parts, k=1)] == [f"hand/{i:02d}" for i in range(1, 7)]


def test_images_of_an_object_store(study, s3):
    s3.put("in/a.png", pillow(picture(1), "PNG"))
    s3.put("in/IM2", dicom_bytes(dicom(np.stack([picture(8), picture(2)]), NumberOfFrames=2)))
    s3.put("in/my notes.txt", b"no image")
    s3.put("b c.png", pillow(picture(3), "PNG"))
    found = answers(study, s3.address("in/a.png"), s3.address("b%20c.png"), f"{s3.address('in/IM2')}#frame=1", k=1)
    assert [a.neighbors[0]["image_id"] for a in found] == ["hand/01", "hand/03", "hand/02"]
    found = answers(study, s3.address("in"), k=1)
    assert [a.error is None for a in found] == [False, True]
    with pytest.raises(UserError, match=r"no directory or file s3://.*gone.png"):
        answers(study, s3.address("in/gone.png"))


def test_names_that_look_like_parts_are_files(study, tmp_path):
    (tmp_path / "a#frame=3.png").write_bytes(pillow(picture(3), "PNG"))
    (tmp_path / "b#1.png").write_bytes(pillow(picture(4), "PNG"))
    found = answers(study, tmp_path / "a#frame=3.png", tmp_path / "b#1.png", tmp_path, k=1)
    assert [a.neighbors[0]["image_id"] for a in found] == ["hand/03", "hand/04"] * 2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 8),
    st.sampled_from([1.0, 1e-4, 0.0, 1e30]),
)
def test_held_vectors_give_what_exact_search_gives(seed, rows, queries, k, spread):
    """Close vectors, equal ones, zeros and ones whose squares are no float32: the same keys and distances, whatever is held."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(16)
    gallery = (common + spread * rng.standard_normal((rows, 16))).astype(np.float32)
    gallery[rng.random(rows) < 0.1] = 0
    asked = (common + spread * rng.standard_normal((queries, 16))).astype(np.float32)
    asked[rng.random(queries) < 0.1] = 0
    keys = rng.permutation(rows).astype(np.int64) + 1
    tiles = [(keys[part], gallery[part]) for part in np.array_split(np.arange(rows), 3) if len(part)]
    k = min(k, rows)

    def exact(source) -> ExactSearch:
        return ExactSearch(source, np.sort(keys), no_codes(), k=k, device="cpu")

    found = HeldSearch(Held(lambda: tiles), exact, k=k).block(-1 - np.arange(queries), asked)
    expected = exact(Source(lambda: tiles)).block(-1 - np.arange(queries), asked)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_few_of_the_held_vectors_go_to_the_exact_search():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((5_000, 64)).astype(np.float32)
    tiles, seen = [(np.arange(1, 5_001), gallery)], []

    def exact(source) -> ExactSearch:
        seen.extend(len(keys) for keys, _ in source.tiles(None))
        return ExactSearch(source, np.arange(1, 5_001), no_codes(), k=10, device="cpu")

    HeldSearch(Held(lambda: tiles), exact, k=10).block(np.array([-1]), gallery[:1] + 1)
    assert 10 <= seen[0] < 50


# --- the vote -----------------------------------------------------------------------------------------------------------


def test_a_vote_by_hand():
    labels = [["b"], ["b", "a"], ["c", "c"], [], ["a"]]
    found = vote(labels)
    assert found == [Vote("a", 2, 0.4), Vote("b", 2, 0.4), Vote("c", 1, 0.2), Vote(None, 1, 0.2)]
    assert in_words(found) == "a 40%, b 40%, c 20%, (no label) 20%"
    assert vote([[], []]) == [Vote(None, 2, 1.0)]
    assert vote([]) == []


def test_the_vote_of_an_answer_is_that_of_its_neighbors(study, root):
    (answer,) = answers(study, root / "images" / "20.png", k=7)
    labels = [LABELS[int(image_id[-2:]) % 4] for image_id, _ in oracle(picture(20), 7)]
    for entry in answer.votes:
        has = [not of_one if entry.label is None else entry.label in of_one for of_one in labels]
        assert (entry.neighbors, entry.share) == (sum(has), sum(has) / 7)
    assert {v.label for v in answer.votes} == {label for of_one in labels for label in of_one} | (
        {None} if [] in labels else set()
    )


# --- the command --------------------------------------------------------------------------------------------------------


def test_what_is_printed_can_be_read_by_a_program(root, capsys):
    image = root / "images" / "13.png"
    assert (
        run("query", "--study", root / "study", "--encoder", "pixels32", "--index", "exact", image, image, "-k", "3")
        == 0
    )
    captured = capsys.readouterr()
    block = [f"{image}"]
    for rank, (image_id, distance) in enumerate(oracle(picture(13), 3), 1):
        labels = ", ".join(LABELS[int(image_id[-2:]) % 4]) or "-"
        block.append(f"    {rank}  {distance:.4f}  {image_id}  {labels}")
    lines = captured.out.splitlines()
    assert lines[:4] == block
    assert lines[4].startswith("  vote  ")
    assert lines[5:] == lines[:5]
    said = captured.err.splitlines()
    assert said[0] == "query: pixels32, index exact, 12 images of the gallery split = 'train'"
    assert re.fullmatch(r"loaded in \d+\.\d s; 2 images, \d+ ms each", said[-1])


def test_the_table_of_the_published_tool(tmp_path):
    """Split files as published -> their filepaths come back, as in knn.csv of Denner et al. 2024."""
    rows, vectors = [], {}
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(pillow(picture(i), "PNG"))
        rows.append([f"images/p{i}/{i}.png", "CheXpert", "train", "XR", "chest", "1"])
        vectors[f"CheXpert/images/p{i}/{i}.png"] = thumbnail(picture(i))
    with open(tmp_path / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["filepath", "dataset", "split", "modality", "anatomic_region", "XR/chest/Mass"], *rows]
        )
    study = Study(str(tmp_path / "study"))
    write_manifest(study, "denner-csv", [str(tmp_path / "train.csv")], Options())
    add_embeddings(study, list(vectors), vectors, encoder="pixels32")
    (tmp_path / "bad.png").write_text("no image")
    images = [tmp_path / "2.png", tmp_path / "bad.png", tmp_path / "4.png"]
    command = [
        "query",
        "--study",
        study.root,
        "--encoder",
        "pixels32",
        *images,
        "-k",
        "6",
        "--csv",
        tmp_path / "knn.csv",
    ]
    assert run(*command) == 3
    found = pd.read_csv(tmp_path / "knn.csv", index_col="query")
    assert list(found.columns) == ["1", "2", "3", "4", "5", "6"]
    assert list(found.index) == [str(image) for image in images]
    assert found.loc[str(images[1])].isna().all()
    for i, image in ((2, images[0]), (4, images[2])):
        assert found.loc[str(image), "1"] == f"images/p{i}/{i}.png"
        assert set(found.loc[str(image)]) == {row[0] for row in rows}
    written = (tmp_path / "knn.csv").read_bytes()
    assert written.startswith(b"query,1,2,3,4,5,6\n")
    buffer = io.StringIO()  # as pandas, which the tool writes with
    found.reset_index().to_csv(buffer, index=False)
    assert written.decode() == buffer.getvalue()


def test_the_long_table_in_both_formats(root, tmp_path):
    images = [root / "images" / "14.png", root / "images" / "15.png"]
    base = ["query", "--study", root / "study", "--encoder", "pixels32", "--index", "exact", *images, "-k", "4"]
    assert run(*base, "--table", tmp_path / "t.csv") == run(*base, "--table", tmp_path / "t.parquet") == 0
    found = pq.read_table(tmp_path / "t.parquet").to_pylist()
    expected = [
        (str(images[i]), rank, image_id)
        for i in (0, 1)
        for rank, (image_id, _) in enumerate(oracle(picture(14 + i), 4), 1)
    ]
    assert [(row["query"], row["rank"], row["image_id"]) for row in found] == expected
    assert [row["labels"] for row in found] == [LABELS[int(image_id[-2:]) % 4] for *_, image_id in expected]
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert list(rows[0]) == ["query", "rank", "distance", "image_id", "labels", "modality", "region", "split", "uri"]
    assert [np.float32(row["distance"]) for row in rows] == [np.float32(row["distance"]) for row in found]
    assert [row["labels"].split("|") if row["labels"] else [] for row in rows] == [row["labels"] for row in found]
    assert not list(tmp_path.glob("*.part"))


def test_the_page_shows_vote_and_distances(root, tmp_path):
    bad = tmp_path / "bad <b>.png"
    bad.write_text("no image")
    image = root / "images" / "14.png"
    base = ["query", "--study", root / "study", "--encoder", "pixels32", "--index", "exact", image, bad, "-k", "4"]
    assert run(*base, "--html", tmp_path / "q.html") == 3
    page = (tmp_path / "q.html").read_text()
    distances = [f"{d:.4f}" for _, d in oracle(picture(14), 4)]
    assert re.findall(r"distance (\d\.\d{4})", page) == distances
    votes = vote([LABELS[int(image_id[-2:]) % 4] for image_id, _ in oracle(picture(14), 4)])
    assert re.findall(r"--v:([\d.]+)", page) == [f"{100 * v.share:.1f}" for v in votes]
    assert "could not be searched with" in page
    assert "bad &lt;b&gt;.png" in page
    assert str(tmp_path) not in page


def test_one_unreadable_image_of_several_is_said_and_ends_with_exit_code_3(root, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(pillow(picture(4), "PNG"))
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "c.png").write_bytes(pillow(picture(5), "PNG"))
    base = ["query", "--study", root / "study", "--encoder", "pixels32", "-k", "2"]
    assert run(*base, tmp_path) == 3
    captured = capsys.readouterr()
    assert (
        f"{tmp_path}/b.png  cannot be read (decode: the file is of no image format that is known)\n{tmp_path}/c.png\n"
        in captured.out
    )
    assert "1 of 3 images cannot be read; the first, " in captured.err
    assert run(*base, tmp_path / "b.png", "--csv", tmp_path / "knn.csv") == 2
    assert "none of the 1 images can be read" in capsys.readouterr().err
    assert not (tmp_path / "knn.csv").exists()


def test_the_index_is_the_only_one_and_else_exact(root, copy, capsys):
    study = Study(str(copy))
    assert usual_index(study, "pixels32") == "hnsw"
    build_index(study, "pixels32", "other", IndexOptions(connectivity=8))
    assert usual_index(study, "pixels32") == "exact"
    study.delete("index", "pixels32", "other", "run.json")  # unfinished
    assert usual_index(study, "pixels32") == "hnsw"
    assert run("query", "--study", copy, "--encoder", "pixels32", root / "images" / "00.png", "-k", "1") == 0
    assert "index hnsw" in capsys.readouterr().err


def volume(path: Path, *shape: int) -> Path:
    path.write_bytes(nifti(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), packed=path.suffix == ".gz"))
    return path


MISUSE = {
    "missing file": (["{top}/none.png"], "no file {top}/none.png; expected an image or a directory of images"),
    "missing file before a part": (["{top}/none.dcm#frame=1"], "no file {top}/none.dcm#frame=1"),
    "number of a slice alone": (["{top}/v.nii.gz#3"], "a part of a file is named {top}/v.nii.gz#axis=2&slice=3"),
    "number of a frame alone": (["{top}/cine.dcm#3"], "a part of a file is named {top}/cine.dcm#frame=3"),
    "empty directory": (["{top}/empty"], "no image below {top}/empty; expected files such as .png"),
    "directory without an image": (["{top}/texts"], "no image below {top}/texts"),
    "pattern that nothing fits": (["{top}/*.jpg"], "no file fits {top}/*.jpg"),
    "web address": (["https://example.org/a.png"], "cannot open https://example.org/a.png"),
    "volume": (
        ["{top}/v.nii.gz"],
        "{top}/v.nii.gz is a volume; name one of its 5 axial slices: {top}/v.nii.gz#axis=2&slice=2 (0 to 4; axis=0 is sagittal, of 7, "
        "axis=1 is coronal, of 6)",
    ),
    "volume along an axis": (["{top}/v.nii.gz#axis=0"], "name one of its 7 sagittal slices: {top}/v.nii.gz#axis=0&slice=3 (0 to 6;"),
    "volume in time": (["{top}/t.nii"], "(0 to 0; axis=0 is sagittal, of 7, axis=1 is coronal, of 6; &time=0 to 2 of its 3 volumes)"),
    "frames": (["{top}/cine.dcm"], "is a DICOM of 3 frames; name one of them: {top}/cine.dcm#frame=1 (0 to 2)"),
    "arrays": (["{top}/a.npz"], "is a file of arrays (y 9, x 9 x 8 x 8); name one image: {top}/a.npz#array=x&row=0 (0 to 8)"),
    "row of volumes": (["{top}/b.npz#array=x&row=1"], "a volume of 4 x 8 x 8; name one of its 4 slices: {top}/b.npz#array=x&row=1&slice=2"),
    "k of 0": (["{image}", "-k", "0"], "-k 0; expected 1 to 12, the embedded images of the gallery split = 'train'"),
    "k larger than the gallery": (["{image}", "-k", "13"], "-k 13; expected 1 to 12"),
    "unknown index": (["{image}", "--index", "hnws"], "no index 'hnws' of pixels32 in the study; nearest: 'hnsw'"),
    "gallery outside the index": (
        ["{image}", "--index", "hnsw", "--gallery", "true"],
        "selects 12 images that index hnsw does not hold (it was built with \"split = 'train'\")",
    ),
    "gallery that is empty": (["{image}", "--gallery", "split = 'none'"], "the gallery is empty"),
    "gallery that is no SQL": (["{image}", "--gallery", "splt = 'train'"], "nearest: 'split'"),
    "table of another kind": (["{image}", "--table", "{top}/t.json"], "expected a name that ends in .csv or .parquet"),
    "no directory for the table": (["{image}", "--csv", "{top}/none/t.csv"], "no directory {top}/none"),
    "a directory as page": (["{image}", "--html", "{top}/empty"], "{top}/empty is a directory"),
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """Files that are no single image."""
    top = tmp_path_factory.mktemp("odd")
    (top / "empty").mkdir()
    (top / "texts").mkdir()
    (top / "texts" / "a.txt").write_text("text")
    volume(top / "v.nii.gz", 7, 6, 5)
    volume(top / "t.nii", 7, 6, 1, 3)
    (top / "cine.dcm").write_bytes(dicom_bytes(dicom(np.zeros((3, 8, 8), np.uint8), NumberOfFrames=3)))
    (top / "a.npz").write_bytes(npz(y=np.zeros(9), x=np.zeros((9, 8, 8), np.uint8)))
    (top / "b.npz").write_bytes(npz(x=np.zeros((2, 4, 8, 8), np.uint8)))
    return top


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_one_line_before_anything_is_loaded(root, odd, capsys, case):
    arguments, message = MISUSE[case]
    names = {"top": odd, "image": root / "images" / "00.png"}
    flags = [] if "--index" in arguments else ["--index", "exact"]
    code = run(
        "query", "--study", root / "study", "--encoder", "pixels32", *flags, *(a.format(**names) for a in arguments)
    )
    captured = capsys.readouterr()
    assert code == 2
    assert message.format(**names) in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert captured.out == ""


def test_parts_that_are_not_there_are_said_in_their_place(study, odd):
    said = [
        a.error
        for a in answers(study, f"{odd}/v.nii.gz#slice=5", f"{odd}/cine.dcm#frame=3", f"{odd}/a.npz#array=x&row=9")
    ]
    assert said == [
        "read: slice 5 of a volume with 5 slices",
        "decode: frame 3 of a DICOM with 3",
        "read: row 9 of an array with 9 rows",
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dim": 8}, "pixels32 gives vectors of 1024 numbers, those of the study have 8"),
        ({"weights_sha256": "f" * 64}, "the weights of pixels32 are not those of the study"),
        (
            {"packed": {"short_side": 9, "whole": False, "interpolation": "bicubic", "version": 99}},
            "packed by another version of cbmir",
        ),
        ({"imported": ["a.h5"]}, "were imported from a.h5"),
    ],
)
def test_an_encoder_that_is_not_the_studys(root, copy, capsys, change, message):
    path = copy / "embeddings" / "encoder=pixels32" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    shutil.rmtree(copy / "index")
    if "dim" in change:
        shutil.rmtree(copy / "embeddings" / "encoder=pixels32")
        short = {f"hand/{i:02d}": np.ones(8) for i in range(N)}
        add_embeddings(Study(str(copy)), list(short), short, encoder="pixels32")
    assert run("query", "--study", copy, "--encoder", "pixels32", root / "images" / "00.png", "-k", "1") == 2
    assert message in capsys.readouterr().err


def test_vectors_of_a_gpu_in_float16_are_asked_in_float32_on_a_processor():
    spec = resolve("timm:test_vit~random0")
    plain = build(spec)
    run = {"spec": spec.as_dict(), "precision": "float16", "weights_sha256": plain.weights_sha256, "dim": plain.dim}
    model = rebuild(spec.name, json.loads(json.dumps(run)), "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (1, *spec.geometry.shape), np.uint8)
    np.testing.assert_array_equal(model.encode(pixels), plain.encode(pixels))


def test_an_index_of_other_vectors_or_of_images_that_have_gone(root, copy, capsys):
    path = copy / "index" / "pixels32" / "hnsw" / "run.json"
    told = json.loads(path.read_text())
    base = ["query", "--study", copy, "--encoder", "pixels32", "--index", "hnsw", root / "images" / "00.png", "-k", "1"]
    path.write_text(json.dumps(told | {"dim": 8}))
    assert run(*base) == 2
    assert "rebuild it with" in capsys.readouterr().err
    path.write_text(json.dumps(told | {"inputs": {"embeddings": "other"}}))
    assert run(*base) == 2
    assert "index hnsw of pixels32 is older than the embeddings" in capsys.readouterr().err
    path.write_text(json.dumps(told))
    file = copy / "manifest" / "manifest.parquet"
    rows = pq.read_table(file).to_pandas()
    at = {name: i for i, name in enumerate(rows["image_id"])}
    rows.loc[at["hand/00"], "image_key"] += 1  # the gallery has as many vectors as before, and one is another
    rows.loc[at[f"hand/{N // 2}"], "split"] = "train"
    pq.write_table(pa.Table.from_pandas(rows, schema=pq.read_schema(file), preserve_index=False), file)
    capsys.readouterr()
    assert run(*base) == 2
    assert "the index holds images that are not in its gallery any more" in capsys.readouterr().err


# --- Python -------------------------------------------------------------------------------------------------------------


def test_three_lines_of_python(root):
    study = cbmir.Study(str(root / "study"))
    frame = study.query(root / "images" / "13.png", encoder="pixels32", index="exact", k=3)
    assert list(frame.columns) == [
        "query",
        "rank",
        "distance",
        "image_id",
        "labels",
        "modality",
        "region",
        "split",
        "uri",
    ]
    expected = oracle(picture(13), 3)
    assert frame["image_id"].tolist() == [image_id for image_id, _ in expected]
    np.testing.assert_allclose(frame["distance"], [d for _, d in expected], atol=1e-6)
    assert frame["labels"].tolist() == [LABELS[int(image_id[-2:]) % 4] for image_id, _ in expected]
    votes = vote(frame["labels"].tolist())
    assert frame.attrs == {
        "votes": {str(root / "images" / "13.png"): [[v.label, v.share] for v in votes]},
        "failures": {},
    }


def test_a_frame_is_saved_with_its_vote(root, tmp_path):
    frame = cbmir.Study(str(root / "study")).query(root / "images" / "13.png", encoder="pixels32")
    frame.to_parquet(tmp_path / "f.parquet")
    assert pd.read_parquet(tmp_path / "f.parquet").attrs == frame.attrs


def test_the_second_call_loads_nothing(root, copy, monkeypatch):
    study = cbmir.Study(str(copy))
    built = []
    monkeypatch.setattr("cbmir.querying.encoding.rebuild", lambda *a: built.append(a) or rebuild(*a))
    image = root / "images" / "00.png"
    first = study.query(image, encoder="pixels32", k=2)
    assert study.query(image, encoder="pixels32", k=2).equals(first)
    study.query([image, image], encoder="pixels32", k=5)
    assert len(built) == 1
    study.query(image, encoder="pixels32", index="exact", k=2)
    assert len(built) == 2
    told = study.run_of("manifest")
    study.write_json(told | {"fingerprint": "another"}, "manifest", "run.json")
    study.query(image, encoder="pixels32", index="exact", k=2)
    assert len(built) == 3  # the study has changed
    assert study.query(image, encoder="pixels32", k=2).equals(first)
    assert len(built) == 4
    study.delete("index", "pixels32", "hnsw")
    assert study.query(image, encoder="pixels32", k=2).equals(first)  # exact
    assert len(built) == 5  # another index is the usual one


def test_arrays_and_images_of_pillow_are_those_of_their_files(root, tmp_path):
    study = cbmir.Study(str(root / "study"))
    color = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(color).save(tmp_path / "c.png")
    turned = Image.fromarray(picture(3))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "t.jpg", exif=exif)
    deep = picture(4).astype(np.uint16) * 11 + 300
    Image.fromarray(deep).save(tmp_path / "d.png")
    Image.fromarray(picture(5).astype(np.float32) * 3 - 100).save(tmp_path / "f.tif")
    files = [root / "images" / "13.png", *(tmp_path / name for name in ("c.png", "t.jpg", "d.png", "f.tif"))]
    by_file = study.query(files, encoder="pixels32", index="exact", k=3)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Image.open(file)) for file in files]
        by_pillow = study.query(opened, encoder="pixels32", index="exact", k=3)
    assert by_pillow["image_id"].tolist() == by_file["image_id"].tolist()
    np.testing.assert_allclose(by_pillow["distance"], by_file["distance"], atol=1e-7)
    assert by_pillow["query"].unique().tolist() == [f"images[{i}]" for i in range(5)]
    by_array = study.query([picture(13), color], encoder="pixels32", index="exact", k=3)
    assert by_array["distance"].tolist() == by_file["distance"].tolist()[:6]
    assert study.query(picture(13), encoder="pixels32", index="exact", k=3)["query"].unique().tolist() == ["images[0]"]


@pytest.mark.parametrize(
    "images, message",
    [
        (
            np.zeros((4, 4), np.float32),
            r"images\[0\] is an array of float32 and shape \(4, 4\); expected uint8 of shape",
        ),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        ([b"bytes"], r"images\[0\] is bytes; expected a path, an array"),
        (7, "images is int; expected a path"),
        ([], "no image was given"),
        ("none.png", "no file none.png"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(UserError, match=message):
        from_python(images, say=print)


def test_an_unreadable_image_raises_alone_and_warns_among_others(root, tmp_path):
    study = cbmir.Study(str(root / "study"))
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    with pytest.raises(UserError, match=r"cannot read .*bad.png: decode: the file is of no image format"):
        study.query(bad, encoder="pixels32")
    with pytest.raises(UserError, match="none of the 2 images can be read"):
        study.query([bad, bad], encoder="pixels32")
    with pytest.warns(UserWarning, match=r"1 of 2 images cannot be read, see attrs\['failures'\]") as caught:
        frame = study.query([bad, root / "images" / "00.png"], encoder="pixels32", k=2)
    assert caught[0].filename == __file__
    assert len(frame) == 2
    assert frame.attrs["failures"] == {str(bad): "decode: the file is of no image format that is known"}
    assert list(frame.attrs["votes"]) == [str(root / "images" / "00.png")]


def test_encoders_indexes_and_sql_of_a_study(root):
    study = cbmir.Study(str(root / "study"))
    assert study.encoders == ["pixels32"]
    assert study.indexes("pixels32") == ["hnsw"]
    assert study.sql("SELECT split, count(*) AS n FROM manifest GROUP BY ALL ORDER BY 1").to_dict("list") == {
        "split": ["test", "train"],
        "n": [N // 2, N // 2],
    }
    assert study.sql("SET threads = 1").empty
    with pytest.raises(UserError, match=r'Referenced column "nothing" not found.*views: manifest, embeddings'):
        study.sql("SELECT nothing FROM manifest")
    with pytest.raises(UserError, match=r"no embeddings of encoder 'pixel' in the study; nearest: 'pixels32'"):
        study.query(picture(0), encoder="pixel")


def test_importing_study_is_cheap():
    code = "import sys; from cbmir import Study; Study('x'); print(sorted({'torch', 'ray', 'timm', 'usearch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    with pytest.raises(ImportError):
        exec("from cbmir import Studies")


def test_a_geometry_of_grey_is_what_the_encoder_takes():
    """The oracle of this file: a thumbnail by Pillow is the encoder's own."""
    geometry = Geometry(32, mode="squash", grey=True)
    np.testing.assert_array_equal(apply(geometry, picture(0)).ravel() / np.float32(255), thumbnail(picture(0)))


def test_queries_leave_no_thread_and_no_warning_behind(study, root):
    import threading

    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Lookup(study, "pixels32", "exact").answers(
            [Query(str(f), str(f)) for f in (root / "images").glob("*.png")]
        )
        next(found)
        found.close()
    assert threading.active_count() <= before
