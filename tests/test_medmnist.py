"""medmnist: published shapes and saved-anew ones, volumes along each axis, several files, broken files, object stores."""

import io
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from cbmir.datasets.medmnist_sets import SETS, known_set, published_size
from cbmir.errors import UserError
from cbmir.images.read import read_image
from tests.sources import manifest, rows, run_whole

SIX = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
CLASSES = np.array([0, 1, 1, 0, 1, 0], np.uint8)


def saved(path: Path, images: dict[str, np.ndarray], labels: dict[str, np.ndarray], *, packed: bool = False) -> Path:
    arrays = {f"{s}_images": a for s, a in images.items()} | {f"{s}_labels": a for s, a in labels.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    return path


def kinds(said: list[tuple], *, published: bool = False) -> list[str]:
    """Kinds of remarks; that a small file is not the published one is no news to these tests."""
    return [kind for kind, *_ in said if published or kind != "not_as_published"]


# --- names and counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_class_names_of_every_set_are_different_and_bare(name):
    classes = SETS[name].classes
    assert len(set(classes)) == len(classes)
    assert not any("/" in c or c != c.strip() or not c for c in classes)
    assert SETS[name].volumes == name.endswith("3d")


def test_the_sets_are_those_of_the_collection():
    """12 sets of 708,069 images and 6 of 9,998 volumes: the totals of the paper (Scientific Data 2023, table 2)."""
    totals = {name: sum(s.counts[-1]) for name, s in SETS.items()}
    assert sum(n for name, n in totals.items() if not SETS[name].volumes) == 708_069
    assert sum(n for name, n in totals.items() if SETS[name].volumes) == 9_998
    assert len(SETS) == 18
    assert {name: len(s.classes) for name, s in SETS.items()} == {
        "pathmnist": 9, "chestmnist": 14, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "retinamnist": 5,
        "breastmnist": 2, "bloodmnist": 8, "tissuemnist": 8, "organamnist": 11, "organcmnist": 11, "organsmnist": 11,
        "organmnist3d": 11, "nodulemnist3d": 2, "adrenalmnist3d": 2, "fracturemnist3d": 3, "vesselmnist3d": 2,
        "synapsemnist3d": 2,
    }  # fmt: skip
    assert [name for name, s in SETS.items() if s.several] == ["chestmnist"]


@pytest.mark.parametrize(
    ("stem", "name", "size"),
    [
        ("breastmnist", "breastmnist", 28),
        ("BreastMNIST_224", "breastmnist", 224),
        ("breastmnist_resaved", "breastmnist", None),
        ("organmnist3d_64", "organmnist3d", 64),
        ("organmnist_axial", "organamnist", 28),
        ("organmnist_coronal", "organcmnist", 28),
        ("breastmnistx", None, None),
        ("mnist", None, None),
        ("mine", None, None),
    ],
)
def test_a_set_and_its_size_by_the_files_name(stem, name, size):
    assert known_set(stem) == (SETS[name] if name else None)
    assert published_size(stem) == size


def test_what_differs_from_the_published_file_is_said(tmp_path):
    images = {s: np.zeros((n, 28, 28), np.uint8) for s, n in (("train", 546), ("val", 78), ("test", 156))}
    labels = {s: np.zeros((len(a), 1), np.uint8) for s, a in images.items()}
    assert manifest("medmnist", saved(tmp_path / "breastmnist.npz", images, labels))[1] == []
    assert manifest("medmnist", saved(tmp_path / "breastmnist_224.npz", images, labels))[1] == [
        ("not_as_published", "breastmnist_224.npz", None, "images of 28 x 28 pixels; the name says 224")
    ]
    fewer = {s: a[:100] for s, a in images.items() if s != "val"}
    path = saved(tmp_path / "x" / "breastmnist.npz", fewer, {s: labels[s][:100] for s in fewer})
    assert manifest("medmnist", path)[1] == [
        ("not_as_published", "breastmnist.npz", None, "100 train, 0 val, 100 test; published: 546 train, 78 val, 156 test")
    ]  # fmt: skip


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [CLASSES, CLASSES[:, None], CLASSES.astype(np.int64), CLASSES[:, None].astype(np.float32), CLASSES > 0]
)
def test_flat_and_column_labels_are_the_same(tmp_path, labels):
    path = saved(
        tmp_path / "breastmnist_64.npz",
        {"train": SIX[:3], "val": SIX[3:4], "test": SIX[4:]},
        {"train": labels[:3], "val": labels[3:4], "test": labels[4:]},
    )
    found, said = manifest("medmnist", path)
    names = {0: "US/breast/malignant", 1: "US/breast/normal, benign"}
    splits = ["train"] * 3 + ["val"] + ["test"] * 2
    assert rows(found, "image_id", "split", "labels", "modality", "region", "volume_id", "slice") == [
        (f"breastmnist_64/{s}/{r}", s, [names[int(c)]], "US", "breast", None, None)
        for s, r, c in zip(splits, [0, 1, 2, 0, 0, 1], CLASSES, strict=True)
    ]
    for uri, image in zip(found["uri"].to_pylist(), SIX, strict=True):
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], image)
    assert kinds(said) == []


def test_several_labels_an_image(tmp_path):
    labels = np.zeros((3, 14), np.int8)
    labels[0, [1, 4]] = 1
    labels[2, 13], labels[2, 0], labels[2, 5] = 1, -1, 3
    found, said = manifest("medmnist", saved(tmp_path / "chestmnist.npz", {"test": SIX[:3]}, {"test": labels}))
    assert rows(found, "labels", "unknown_labels") == [
        (["XR/chest/cardiomegaly", "XR/chest/mass"], []),
        ([], []),
        (["XR/chest/hernia"], ["XR/chest/atelectasis", "XR/chest/nodule"]),
    ]
    assert [remark for remark in said if remark[0] == "odd_value"] == [
        ("odd_value", "chestmnist.npz#array=test_images", 2, "nodule is 3; expected 1, 0 or -1; taken as unknown")
    ]


def test_one_number_an_image_is_no_class_of_a_set_with_several(tmp_path):
    found, _ = manifest("medmnist", saved(tmp_path / "chestmnist.npz", {"test": SIX}, {"test": CLASSES}))
    assert found["labels"].to_pylist() == [[f"XR/chest/class {c}"] for c in CLASSES]


def test_a_set_that_is_not_known_has_numbered_classes(tmp_path):
    path = saved(tmp_path / "mine.npz", {"test": SIX}, {"test": CLASSES * 3})
    found, said = manifest("medmnist", path, constants={"modality": "XR", "region": "hand"})
    assert found["labels"].to_pylist() == [[f"XR/hand/class {3 * c}"] for c in CLASSES]
    assert said == []


def test_grades_are_names_too(tmp_path):
    path = saved(tmp_path / "retinamnist.npz", {"test": SIX}, {"test": np.array([[4], [3], [2], [1], [0], [4]])})
    assert manifest("medmnist", path)[0]["labels"].to_pylist()[0] == ["FUNDUS/retina/4"]


def test_classes_outside_the_set_and_numbers_that_are_none_are_named_with_their_row(tmp_path):
    labels = np.array([0, 7, -1, 1.5, np.nan, 1])
    found, said = manifest("medmnist", saved(tmp_path / "breastmnist.npz", {"val": SIX}, {"val": labels}))
    assert found["labels"].to_pylist() == [
        ["US/breast/malignant"], ["US/breast/class 7"], [], [], [], ["US/breast/normal, benign"],
    ]  # fmt: skip
    where = "breastmnist.npz#array=val_images"
    end = "expected a class from 0; left without label"
    assert [remark for remark in said if remark[0] != "not_as_published"] == [
        ("odd_value", where, 2, f"the label is -1; {end}"),
        ("odd_value", where, 3, f"the label is 1.5; {end}"),
        ("odd_value", where, 4, f"the label is nan; {end}"),
        ("unknown_label", where, 1, "class 7 of a set with 2"),
    ]


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_color_and_one_channel(tmp_path):
    color = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    found, said = manifest("medmnist", saved(tmp_path / "bloodmnist.npz", {"train": color}, {"train": CLASSES[:2]}))
    assert found["slice"].null_count == found.num_rows == 2
    np.testing.assert_array_equal(read_image(found["uri"][1].as_py()), color[1])
    found, said = manifest("medmnist", saved(tmp_path / "x.npz", {"train": SIX[..., None]}, {"train": CLASSES}))
    assert found["slice"].null_count == found.num_rows == 6
    np.testing.assert_array_equal(read_image(found["uri"][1].as_py())[..., 2], SIX[1])
    assert said == []


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize(("axis", "slices"), [(None, 5), (0, 5), (1, 4), (2, 3)])
def test_volumes_are_slices_along_an_axis(tmp_path, axis, slices, channel):
    volumes = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)
    stored = volumes[..., None] if channel else volumes
    path = saved(tmp_path / "nodulemnist3d.npz", {"test": stored}, {"test": np.array([[1], [0]])})
    found, said = manifest("medmnist", path, axis=axis)
    assert rows(found, "image_id", "volume_id", "slice", "labels") == [
        (f"nodulemnist3d/test/{v}#{s}", f"nodulemnist3d/test/{v}", s, [f"CT/chest/{name}"])
        for v, name in enumerate(["malignant", "benign"])
        for s in range(slices)
    ]
    for (uri,), (volume, part) in zip(rows(found, "uri"), np.ndindex(2, slices), strict=True):
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], volumes[volume].take(part, axis=axis or 0))
    assert kinds(said) == []


def test_an_unknown_set_of_volumes(tmp_path):
    volumes = np.arange(2 * 5 * 4 * 4, dtype=np.uint8).reshape(2, 5, 4, 4)
    found, _ = manifest("medmnist", saved(tmp_path / "mine.npz", {"test": volumes}, {"test": CLASSES[:2]}))
    assert found.num_rows == 10


def test_an_axis_needs_volumes(tmp_path):
    path = saved(tmp_path / "breastmnist.npz", {"test": SIX}, {"test": CLASSES})
    with pytest.raises(UserError, match="--axis 1: none of the files holds volumes; leave it out"):
        manifest("medmnist", path, axis=1)


# --- several files ---------------------------------------------------------------------------------------------------


def test_files_directories_and_patterns(tmp_path):
    one = saved(tmp_path / "d" / "breastmnist.npz", {"test": SIX}, {"test": CLASSES})
    two = saved(tmp_path / "d" / "pneumoniamnist_64.NPZ.npz", {"test": SIX}, {"test": CLASSES})
    two = two.rename(tmp_path / "d" / "pneumoniamnist_64.NPZ")
    (tmp_path / "d" / "notes.txt").write_text("")
    for roots in ([one, two], [tmp_path / "d"], [f"{tmp_path}/d/*mnist*"]):
        found, _ = manifest("medmnist", *roots)
        assert set(rows(found, "dataset", "modality")) == {("breastmnist", "US"), ("pneumoniamnist_64", "XR")}
        assert found.num_rows == 12
    assert kinds(manifest("medmnist", tmp_path / "d")[1]) == ["other_file"]


def test_ids_of_several_files_do_not_meet(tmp_path):
    paths = [
        saved(tmp_path / "a" / "breastmnist.npz", {"test": SIX}, {"test": CLASSES}),
        saved(tmp_path / "a" / "pneumoniamnist.npz", {"test": SIX}, {"test": CLASSES}),
        saved(tmp_path / "b" / "breastmnist.npz", {"test": SIX}, {"test": CLASSES}),
    ]
    one = {"dataset": "D"}
    for chosen, options, expected in [
        (paths[:1], {}, ["breastmnist/test/0"]),
        (paths[:1], one, ["D/test/0"]),
        (paths[:2], {}, ["breastmnist/test/0", "pneumoniamnist/test/0"]),
        (paths[:2], one, ["D/breastmnist/test/0", "D/pneumoniamnist/test/0"]),
        ([paths[0], paths[2]], {}, [f"{tmp_path.name}/a/breastmnist/test/0", f"{tmp_path.name}/b/breastmnist/test/0"]),
        ([paths[0], paths[2]], one, ["D/a/breastmnist/test/0", "D/b/breastmnist/test/0"]),
        ([tmp_path / "a", tmp_path / "b"], {}, ["a/breastmnist/test/0", "a/pneumoniamnist/test/0", "b/breastmnist/test/0"]),
    ]:  # fmt: skip
        found, said = manifest("medmnist", *chosen, constants=options)
        assert [i for i in found["image_id"].to_pylist() if i.endswith("/0")] == expected
        assert kinds(said) == []
        assert set(found["dataset"].to_pylist()) == ({"D"} if options else {Path(e).parts[-3] for e in expected})


# --- what is broken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": SIX, "train_labels": CLASSES[:5]}, r"x: train has 6 images and 5 labels"),
        ({"train_images": SIX, "train_labels": np.zeros((6, 2, 2))}, r"x: train has 6 images and 24 labels"),
        ({"train_images": SIX[0, 0, 0], "train_labels": CLASSES}, r"x: train cannot be read \(.*of shape \(\)"),
        ({"train_images": SIX[0, 0], "train_labels": CLASSES[:4]}, r"x: train_images is \(4,\); expected \(n, h, w\)"),
        ({"train_images": SIX[:, :0], "train_labels": CLASSES}, r"x: train_images is \(6, 0, 4\); expected \(n, h, w\)"),
        ({"train_images": SIX, "train_labels": np.uint8(1)}, r"x: train cannot be read"),
        ({"train_images": SIX, "train_labels": np.array(list("abcdef"))}, r"x: train_labels are <U1; expected class numbers"),
        ({"images": SIX, "labels": CLASSES}, r"holds images, labels; expected train_images, train_labels"),
        ({"train_images": SIX}, r"holds train_images; expected train_images, train_labels"),
        ({"train_images": np.array([None]), "train_labels": CLASSES[:1]}, r"is an object array"),
        ({"train_images": SIX, "train_labels": np.array([None] * 6)}, r"is an object array"),
    ],
)  # fmt: skip
def test_a_npz_of_another_kind_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        manifest("medmnist", tmp_path / "x.npz")


@pytest.mark.parametrize(("name", "shape"), [("breastmnist", (6, 5, 4, 4)), ("nodulemnist3d", (6, 4, 4))])
def test_a_known_set_of_another_shape_is_refused(tmp_path, name, shape):
    path = saved(tmp_path / f"{name}.npz", {"test": np.zeros(shape, np.uint8)}, {"test": CLASSES})
    with pytest.raises(UserError, match=rf"{name}: test_images is \(6, .*; expected \(n, "):
        manifest("medmnist", path)


def test_a_split_that_does_not_fit_is_named_and_the_others_are_kept(tmp_path):
    path = saved(tmp_path / "x.npz", {"train": SIX, "test": SIX}, {"train": CLASSES[:5], "test": CLASSES})
    found, said = manifest("medmnist", path)
    assert set(found["split"].to_pylist()) == {"test"}
    assert [(kind, file) for kind, file, *_ in said] == [("unreadable_file", "x.npz")]
    assert said[0][3].startswith("x: train has 6 images and 5 labels; expected one label an image; left out")


def test_other_arrays_are_no_matter(tmp_path):
    np.savez(tmp_path / "x.npz", test_images=SIX, test_labels=CLASSES, notes=np.array([None]))
    assert manifest("medmnist", tmp_path / "x.npz")[0].num_rows == 6


def test_a_truncated_file_among_several_is_named_and_the_rest_kept(tmp_path):
    good = saved(tmp_path / "breastmnist.npz", {"test": SIX}, {"test": CLASSES})
    bad = saved(tmp_path / "pneumoniamnist.npz", {"test": SIX}, {"test": CLASSES})
    bad.write_bytes(bad.read_bytes()[:-30])
    found, said = manifest("medmnist", bad, good)
    assert set(found["dataset"].to_pylist()) == {"breastmnist"}
    (remark,) = [remark for remark in said if remark[0] == "unreadable_file"]
    assert remark[1] == "pneumoniamnist.npz"
    assert "is not a .npz that can be read" in remark[3]
    with pytest.raises(UserError, match=r"pneumoniamnist\.npz is not a \.npz that can be read"):
        manifest("medmnist", bad)


@pytest.mark.parametrize(("start", "size"), [(0, 60), (128, 1)])
def test_an_array_that_is_damaged_inside_is_named(tmp_path, start, size):
    """The archive's directory is whole; the header of the test labels is not, or one label (its CRC does not fit)."""
    path = saved(tmp_path / "x.npz", {"test": SIX, "val": SIX}, {"test": CLASSES, "val": CLASSES})
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x93NUMPY", data.index(b"test_labels.npy")) + start
    data[begin : begin + size] = b"\xff" * size
    path.write_bytes(data)
    found, said = manifest("medmnist", path)
    assert set(found["split"].to_pylist()) == {"val"}
    assert kinds(said) == ["unreadable_file"]


def test_a_header_that_promises_more_than_there_is_is_named(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 1)})
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        image = io.BytesIO()
        np.lib.format.write_array_header_1_0(image, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28)})
        archive.writestr("train_images.npy", image.getvalue())
        archive.writestr("train_labels.npy", header.getvalue())
    with pytest.raises(UserError, match="the array ends before its last row"):
        manifest("medmnist", tmp_path / "x.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"x\.npz is not a \.npz that can be read"):
        manifest("medmnist", tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"no directory or file .*/y\.npz; expected a MedMNIST \.npz"):
        manifest("medmnist", tmp_path / "y.npz")
    (tmp_path / "x.npz").rename(tmp_path / "x.zip")
    with pytest.raises(UserError, match=r"no \.npz at .*/x\.zip; expected a MedMNIST \.npz"):
        manifest("medmnist", tmp_path / "x.zip")


# --- where files lie, and the whole way ------------------------------------------------------------------------------


def test_files_on_an_object_store(s3, tmp_path):
    path = saved(tmp_path / "breastmnist.npz", {"train": SIX}, {"train": CLASSES}, packed=True)
    s3.put("my sets/breastmnist.npz", path.read_bytes())
    for root in (s3.address("my sets/breastmnist.npz"), s3.address("my sets"), s3.address("my sets/*.npz")):
        found, _ = manifest("medmnist", root)
        assert found["image_id"].to_pylist() == [f"breastmnist/train/{i}" for i in range(6)]
    for uri, image in zip(found["uri"].to_pylist(), SIX, strict=True):
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], image)


def test_a_large_set_is_read_at_once(tmp_path):
    """The size of TissueMNIST: 236,386 images."""
    import time

    counts = dict(zip(("train", "val", "test"), SETS["tissuemnist"].counts[0], strict=True))
    images = {s: np.broadcast_to(np.uint8(0), (n, 2, 2)) for s, n in counts.items()}
    labels = {s: (np.arange(n) % 8).astype(np.uint8)[:, None] for s, n in counts.items()}
    path = saved(tmp_path / "tissuemnist_2.npz", images, labels)
    started = time.monotonic()
    found, said = manifest("medmnist", path)
    assert time.monotonic() - started < 30
    assert (found.num_rows, said) == (236_386, [])
    assert found["labels"][235_000].as_py() == [f"MICRO/kidney/{SETS['tissuemnist'].classes[(235_000 - 189_106) % 8]}"]


def test_a_run_over_images_volumes_and_a_broken_file(ray_session, tmp_path, capsys):
    rng = np.random.default_rng(0)
    paths = [
        saved(tmp_path / "breastmnist.npz", {"train": rng.integers(0, 255, (4, 8, 8), np.uint8)}, {"train": CLASSES[:4]}),
        saved(tmp_path / "nodulemnist3d.npz", {"test": rng.integers(0, 255, (2, 3, 8, 8), np.uint8)}, {"test": CLASSES[:2]}),
        tmp_path / "pathmnist.npz",
    ]  # fmt: skip
    paths[2].write_bytes(paths[0].read_bytes()[:500])
    study = run_whole("medmnist", *paths, study=tmp_path / "study", flags=("--axis", "1"))
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 4 + 2 * 8
    assert "1 x unreadable_file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "depth", "images"),
    [
        ("breastmnist_resaved", None, {"train": 546, "val": 78, "test": 156}),
        ("adrenalmnist3d_64", 64, {"train": 1188, "val": 98, "test": 298}),
    ],
)
def test_public_files(shared, name, depth, images):
    found, said = manifest("medmnist", shared / "data" / "npz" / f"{name}.npz")
    for split, count in images.items():
        part = found.filter(pc.equal(found["split"], split))
        assert part.num_rows == count * (depth or 1)
        assert len(pc.unique(part["volume_id"])) == (count if depth else 1)
    assert {len(labels) for labels in found["labels"].to_pylist()} == {1}
    assert said == []
