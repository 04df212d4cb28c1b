"""folder: directories as labels, patterns, several roots, odd names, links, object stores."""

import contextlib
import glob
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbmir.datasets.layout import Meaning, meaning
from cbmir.datasets.listing import as_regex, listed
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.images.read import read_image
from tests.sources import failures, manifest, rows, run_whole, touch


def png(level: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((4, 4), level, np.uint8)).save(data, "PNG")
    return data.getvalue()


def ids(*roots, **options) -> list[str]:
    return manifest("folder", *roots, **options)[0]["image_id"].to_pylist()


# --- what directories mean -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("", Meaning()),
        ("glioma", Meaning(labels=("glioma",))),
        ("tumor/glioma", Meaning(labels=("tumor glioma",))),
        ("xr/Chest/Nodule", Meaning(None, "xr", "Chest", ("XR/chest/Nodule",))),
        ("CT/head/bleed/acute", Meaning(None, "CT", "head", ("CT/head/bleed/acute",))),
        ("Training", Meaning("train")),
        ("valid/glioma", Meaning("val", labels=("glioma",))),
        ("TEST/XR/chest/Mass", Meaning("test", "XR", "chest", ("XR/chest/Mass",))),
        ("glioma/train", Meaning(labels=("glioma train",))),
    ],
)
def test_directories_are_split_modality_region_and_label(directory, expected):
    assert meaning(directory) == expected


def test_one_level_is_the_label_with_modality_and_region_as_set(tmp_path):
    root = touch(tmp_path / "scans", "glioma/a.png", "normal/b.JPG", "c.dcm")
    table, said = manifest("folder", root, constants={"modality": "mr", "region": "Brain", "split": "test"})
    assert rows(table, "image_id", "modality", "region", "labels") == [
        ("scans/c.dcm", "MR", "brain", []),
        ("scans/glioma/a.png", "MR", "brain", ["MR/brain/glioma"]),
        ("scans/normal/b.JPG", "MR", "brain", ["MR/brain/normal"]),
    ]
    assert table["uri"].to_pylist() == [f"{tmp_path}/{i}" for i in table["image_id"].to_pylist()]
    assert set(table["dataset"].to_pylist()) == {"scans"}
    assert said == []


def test_without_set_modality_and_region_are_unknown_unless_directories_say_them(tmp_path):
    root = touch(tmp_path / "d", "glioma/a.png", "xr/Chest/Nodule/b.png")
    assert rows(manifest("folder", root)[0], "modality", "region", "labels") == [
        ("unknown", "unknown", ["unknown/unknown/glioma"]),
        ("XR", "chest", ["XR/chest/Nodule"]),
    ]


def test_a_split_for_some_images_only_leaves_the_others_in_neither_role(tmp_path):
    table, said = manifest("folder", touch(tmp_path / "d", "train/x/a.png", "y/b.png"))
    assert rows(table, "image_id", "split") == [("d/train/x/a.png", "train"), ("d/y/b.png", "unknown")]
    assert said == [("unknown_split", None, None, "d/y/b.png: blank")]


# --- which files are meant -------------------------------------------------------------------------------------------


def test_hidden_files_are_passed_over_and_other_files_are_counted_once(tmp_path):
    root = touch(tmp_path / ".d", "a.png", ".b.png", ".cache/c.png", "x/.y/d.png", "notes.txt", "l.csv", "m.CSV", "e")
    table, said = manifest("folder", root)
    assert table["image_id"].to_pylist() == [".d/a.png"]
    assert said == [
        ("other_file", "e", None, "4 files that are no images by their suffix: .csv 2, .txt 1, without suffix 1")
    ]


def test_nifti_volumes_are_another_sources_business_and_named_once(tmp_path):
    table, said = manifest("folder", touch(tmp_path / "d", "a.png", "b.nii", "x/c.NII.GZ"))
    assert table["image_id"].to_pylist() == ["d/a.png"]
    assert said == [("other_file", "b.nii", None, "2 NIfTI volumes; make a manifest of their slices with source nifti")]


@pytest.mark.parametrize("suffix", ["png", "PNG", "Jpg", "jpeg", "tif", "TIFF", "bmp", "webp", "gif", "dcm", "DICOM"])
def test_suffixes_in_any_case(tmp_path, suffix):
    assert ids(touch(tmp_path / "d", f"a.b.{suffix}")) == [f"d/a.b.{suffix}"]


def test_odd_names_are_read_from_where_they_are(tmp_path):
    names = ["two words.png", "ünï ☃.png", "a#b.png", "100%.png", "why?.png", "[1]*.png", "a%20b.png", "q=1&r=2.png"]
    names += ["x#frame=3.png", "back\\slash.png", "'\".png", "x#slice=1"]
    (tmp_path / "d # ?" / "50% [x]").mkdir(parents=True)
    for i, name in enumerate(names[:-1]):
        (tmp_path / "d # ?" / "50% [x]" / name).write_bytes(png(10 * i))
    table, _ = manifest("folder", tmp_path / "d # ?")
    assert sorted(table["image_id"].to_pylist()) == sorted(f"d # ?/50% [x]/{name}" for name in names[:-1])
    assert {tuple(labels) for labels in table["labels"].to_pylist()} == {("unknown/unknown/50% [x]",)}
    for image_id, uri in rows(table, "image_id", "uri"):
        assert read_image(uri)[0, 0, 0] == 10 * names.index(image_id.rpartition("/")[2])


def test_a_name_that_is_no_text_is_named_and_the_others_are_kept(tmp_path):
    root = touch(tmp_path / "d", "a.png")
    Path(os.fsdecode(os.fsencode(root) + b"/b\xe9.png")).write_bytes(b"")
    table, said = manifest("folder", root)
    assert table["image_id"].to_pylist() == ["d/a.png"]
    assert said == [("unreadable_file", "d", None, "a name that is not UTF-8: 'b\\udce9.png'")]


def test_links_are_followed_once_and_loops_end(tmp_path):
    root = touch(tmp_path / "d", "real/a.png")
    touch(tmp_path / "pool", "deep/b.png", "c.png")
    (root / "real" / "up").symlink_to("..")
    (root / "self").symlink_to("self")
    (root / "pool").symlink_to(tmp_path / "pool")
    (root / "pool2").symlink_to(tmp_path / "pool")
    (root / "also.png").symlink_to(root / "real" / "a.png")
    (root / "lost.png").symlink_to("nowhere")
    (root / "lost.txt").symlink_to("nowhere")
    os.mkfifo(root / "pipe.png")
    table, said = manifest("folder", f"{root}/**/*.png")
    assert table["image_id"].to_pylist() == ["d/also.png", "d/pool/c.png", "d/pool/deep/b.png", "d/real/a.png"]
    assert sorted(said) == [
        ("second_link", "pool2", None, f"leads to {tmp_path}/pool"),
        ("second_link", "up", None, f"leads to {root}"),
        ("unreadable_file", "lost.png", None, "a link that leads nowhere"),
    ]


def test_a_directory_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = touch(tmp_path / "d", "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    table, said = manifest("folder", root)
    assert table["image_id"].to_pylist() == ["d/a.png"]
    assert said == [("unreadable_file", "locked", None, "a directory that cannot be listed: Permission denied")]


# --- roots: directories, patterns, files -----------------------------------------------------------------------------


TREE = ("train/glioma/a.png", "train/glioma/b.jpg", "test/normal/deep/c.png", "top.png", "notes.txt")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.png", ["test/normal/deep/c.png", "top.png", "train/glioma/a.png"]),
        ("*.png", ["top.png"]),
        ("*/*/*.png", ["train/glioma/a.png"]),
        ("train/*/?.[jp][pn]g", ["glioma/a.png", "glioma/b.jpg"]),
        ("t[!e]*/**/*.png", ["train/glioma/a.png"]),
        ("t[d-h]*", ["test/normal/deep/c.png"]),
        ("*", ["test/normal/deep/c.png", "top.png", "train/glioma/a.png", "train/glioma/b.jpg"]),
        ("**", ["test/normal/deep/c.png", "top.png", "train/glioma/a.png", "train/glioma/b.jpg"]),
        ("*/glioma", ["train/glioma/a.png", "train/glioma/b.jpg"]),
        ("*/normal/**", ["test/normal/deep/c.png"]),
        ("**/normal", ["test/normal/deep/c.png"]),
    ],
)
def test_patterns_select_files_and_directories(tmp_path, pattern, expected):
    root = touch(tmp_path / "scans", *TREE)
    top = "train" if pattern.startswith("train/") else "scans"
    assert ids(f"{root}/{pattern}") == [f"{top}/{path}" for path in expected]


def test_a_pattern_gives_the_same_rows_as_its_directory(tmp_path):
    root = touch(tmp_path / "scans", *TREE)
    assert manifest("folder", f"{root}/**")[0].equals(manifest("folder", root)[0])


def test_files_as_a_shell_leaves_a_pattern_without_quotes(tmp_path):
    root = touch(tmp_path / "scans", *TREE)
    table, _ = manifest("folder", *sorted(root.glob("*/*/*.*")), root / "top.png")
    assert rows(table, "image_id", "split", "labels") == [
        ("scans/train/glioma/a.png", "train", ["unknown/unknown/glioma"]),
        ("scans/train/glioma/b.jpg", "train", ["unknown/unknown/glioma"]),
        ("scans/top.png", "unknown", []),
    ]


def test_a_name_with_wildcards_that_is_there_is_no_pattern(tmp_path):
    touch(tmp_path, "set[1]/x/a.png", "set1/x/b.png")
    assert ids(tmp_path / "set[1]") == ["set[1]/x/a.png"]


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("*.png", ["a.png", ".png"], ["x/a.png", "a.pngx", "a_png"]),
        ("**/a", ["a", "x/a", "x/y/a"], ["xa", "x/xa"]),
        ("x**", ["x", "xa", "x/a"], ["a/x"]),
        ("[a-c]?", ["a1", "cb"], ["d1", "a", "a/"]),
        ("[!a-c]", ["d", "-"], ["a", "dd"]),
        ("[[]x]", ["[x]"], ["x"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[z-a]", [], ["a", "z", "m"]),
        ("[!z-a]", ["m"], []),
        ("a[b", ["a[b"], ["ab"]),
        ("a+(b).{c}", ["a+(b).{c}"], ["aab"]),
    ],
)
def test_patterns_letter_by_letter(pattern, fits, others):
    import re

    assert [name for name in fits + others if re.fullmatch(as_regex(pattern), name)] == fits


NAMES = st.sampled_from(["a", "b", "ab", "a.png", "b.png", "ba.png"])
PARTS = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", ".png"]), min_size=1, max_size=3).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    paths=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True),
    pattern=st.lists(PARTS.filter(lambda part: "**" not in part) | st.just("**"), min_size=1, max_size=3).map("/".join),
)
def test_patterns_fit_what_the_standard_library_finds(paths, pattern):
    """glob finds files and directories; a directory stands for the files in it."""
    with tempfile.TemporaryDirectory() as root:
        for path in paths:
            with contextlib.suppress(OSError):  # 'a' cannot be a file and a directory
                touch(Path(root), path)
        files = {str(file) for file in Path(root).rglob("*") if file.is_file()}
        found = {
            p.rstrip("/") for p in glob.glob(f"{root}/{pattern}", recursive=True) if p[-1] != "/" or os.path.isdir(p)
        }
        expected = {file for file in files if any(str(above) in found for above in [Path(file), *Path(file).parents])}
        try:
            assert {file.address for file in listed([f"{root}/{pattern}"], Remarks())} == expected
        except UserError:
            assert not expected


def test_several_folders_are_several_datasets(tmp_path):
    one, two = touch(tmp_path / "one", "a.png"), touch(tmp_path / "two", "a.png")
    assert ids(one, two) == ["one/a.png", "two/a.png"]
    table, said = manifest("folder", one, one)
    assert table["image_id"].to_pylist() == ["one/a.png"]
    assert said == [("duplicate_id", None, None, f"one/a.png: {one}/a.png")]


def test_folders_of_one_name_keep_their_images_apart(tmp_path):
    one, two = touch(tmp_path / "A" / "images", "x/1.png"), touch(tmp_path / "B" / "images", "x/1.png")
    table, said = manifest("folder", one, two)
    assert rows(table, "image_id", "dataset") == [("A/images/x/1.png", "images"), ("B/images/x/1.png", "images")]
    assert said == []


def test_folders_under_one_dataset_keep_their_images_apart(tmp_path):
    one, two = touch(tmp_path / "one", "x/1.png"), touch(tmp_path / "two", "x/1.png")
    table, said = manifest("folder", one, two, constants={"dataset": "D"})
    assert rows(table, "image_id", "dataset") == [("D/one/x/1.png", "D"), ("D/two/x/1.png", "D")]
    assert said == []
    assert ids(one, constants={"dataset": "D"}) == ["D/x/1.png"]


def test_roots_called_train_and_test_are_the_splits_of_one_collection(tmp_path):
    root = touch(tmp_path / "scans", "train/x/1.png", "Testing/x/1.png")
    assert rows(manifest("folder", root / "train", root / "Testing")[0], "image_id", "dataset", "split") == [
        ("scans/train/x/1.png", "scans", "train"),
        ("scans/Testing/x/1.png", "scans", "test"),
    ]
    assert ids(root / "train") == ["train/x/1.png"]  # alone it is a collection whose split is to be drawn


def test_a_folder_by_a_relative_path_and_as_file_address(tmp_path, monkeypatch):
    touch(tmp_path / "d x", "a.png")
    monkeypatch.chdir(tmp_path / "d x")
    expected = [("d x/a.png", f"{tmp_path}/d x/a.png")]
    assert rows(manifest("folder", ".")[0], "image_id", "uri") == expected
    assert rows(manifest("folder", f"file://{tmp_path}/d%20x")[0], "image_id", "uri") == expected


def test_an_empty_a_missing_and_a_wrong_root_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"the source holds no image; expected at least one; .*\.txt 1"):
        manifest("folder", touch(tmp_path / "d", "notes.txt"))
    with pytest.raises(UserError, match=r"no directory or file .*/nowhere; expected a folder of images"):
        manifest("folder", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no file fits .*/d/\*\.png; expected at least one; check ROOT"):
        manifest("folder", f"{tmp_path}/d/*.png")
    with pytest.raises(UserError, match="--column has no meaning for folder"):
        manifest("folder", tmp_path, columns={"labels": "x"})


def test_twenty_thousand_files_are_listed_in_seconds(tmp_path):
    import time

    for directory in range(20):
        (tmp_path / f"c{directory}").mkdir()
        for file in range(1000):
            os.close(os.open(tmp_path / f"c{directory}" / f"{file}.png", os.O_CREAT | os.O_WRONLY))
    started = time.monotonic()
    assert len(ids(tmp_path)) == 20_000
    assert time.monotonic() - started < 30


# --- object stores ---------------------------------------------------------------------------------------------------


def test_images_on_an_object_store_with_odd_names(s3):
    names = ["a.png", "two words.png", "ünï.png", "a#b.png", "100%.png", "why?.png", "[1].png", "x+y=z&.png"]
    for i, name in enumerate(names):
        s3.put(f"my scans/train/gli oma/{name}", png(10 * i))
    s3.put("my scans/.hidden/x.png", png(1))
    s3.put("my scans/readme.txt", b"")
    for root in (s3.address("my%20scans"), s3.address("my scans"), s3.address("my scans/")):
        table, said = manifest("folder", root)
        found = dict(rows(table, "image_id", "uri"))
        assert sorted(found) == sorted(f"my scans/train/gli oma/{name}" for name in names)
        assert set(table["split"].to_pylist()) == {"train"}
        assert [kind for kind, *_ in said] == ["other_file"]
    for image_id, uri in found.items():
        assert uri.startswith(f"s3://{s3.name}/my%20scans/train/gli%20oma/")
        assert uri.endswith(f"?{s3.options}")
        assert read_image(uri)[0, 0, 0] == 10 * names.index(image_id.rpartition("/")[2])


def test_patterns_files_and_a_whole_bucket_on_an_object_store(s3):
    for name in TREE:
        s3.put(f"scans/{name}", b"")
    assert ids(s3.address("scans/*/*/*.png")) == ["scans/train/glioma/a.png"]
    assert ids(s3.address("scans/t[!e]*/**")) == ["scans/train/glioma/a.png", "scans/train/glioma/b.jpg"]
    assert ids(s3.address("scans/top.png")) == ["scans/top.png"]
    assert ids(s3.address("scans/top.png"), s3.address("scans/train/glioma/a.png")) == [
        "scans/top.png",
        "scans/train/glioma/a.png",
    ]
    assert len(ids(s3.address())) == 4
    assert ids(s3.address("**/top.png")) == [f"{s3.name}/scans/top.png"]


def test_what_is_not_on_an_object_store_is_refused(s3):
    with pytest.raises(
        UserError, match=r"no directory or file s3://.*/nowhere\?endpoint.*; expected a folder of images"
    ):
        manifest("folder", s3.address("nowhere"))
    with pytest.raises(UserError, match=r"no file fits s3://.*/nowhere/\*\.png\?"):
        manifest("folder", s3.address("nowhere/*.png"))


def test_a_store_that_does_not_answer_is_named(monkeypatch):
    class Silent:
        def get_file_info(self, path):
            raise OSError("AWS Error NETWORK_CONNECTION\n during HeadObject")

    monkeypatch.setattr("cbmir.datasets.listing.open_filesystem", lambda address: (Silent(), "bucket/x"))
    with pytest.raises(
        UserError, match=r"cannot list s3://bucket/x \(AWS Error NETWORK_CONNECTION during HeadObject\)"
    ):
        manifest("folder", "s3://bucket/x")


def test_addresses_on_google_cloud_keep_their_scheme():
    from cbmir.datasets.listing import Place

    place = Place(None, "bucket/scans", address="gs://anonymous@bucket/scans?retry_limit_seconds=1")
    assert place.uri("bucket/scans/a b#1.png") == "gs://anonymous@bucket/scans/a%20b%231.png?retry_limit_seconds=1"


def test_listing_is_the_same_here_and_there(tmp_path, s3):
    root = touch(tmp_path / "scans", *TREE)
    for name in TREE:
        s3.put(f"scans/{name}", b"")
    for end in ("", "/**/*.png", "/t*"):
        here = [file.relative for file in listed([f"{root}{end}"], Remarks())]
        assert here == [file.relative for file in listed([s3.address(f"scans{end}")], Remarks())]
        assert here


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_a_run_over_an_object_store(s3, ray_session, tmp_path):
    for i in range(6):
        s3.put(f"scans/{'ab'[i % 2]}/{i} #.png", png(40 * i))
    s3.put("scans/a/broken.png", png(9)[:40])
    study = run_whole("folder", s3.address("scans/**"), study=tmp_path / "study", flags=("--max-failures", "50%"))
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 6
    assert [uri.partition("?")[0] for uri in failures(study)["uri"].to_pylist()] == [
        f"s3://{s3.name}/scans/a/broken.png"
    ]


def test_a_run_over_patterns(ray_session, tmp_path, capsys):
    for i in range(4):
        touch(tmp_path / f"scans/{'ab'[i % 2]}", f"{i}.PNG", "notes.txt")
        (tmp_path / f"scans/{'ab'[i % 2]}/{i}.PNG").write_bytes(png(40 * i))
    study = run_whole("folder", f"{tmp_path}/scans/*/[0-9].*", f"{tmp_path}/scans/a", study=tmp_path / "study")
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 6
    assert "1 x other_file" in capsys.readouterr().out
