"""cbmir run --as-published mahbod2024: from drawn files to the table, against plain loops over numpy, scipy and Pillow."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.ndimage import zoom

from cbmir.as_published.mahbod2024 import Asked, Encoded, lines, metrics, table_text
from cbmir.cli import main
from cbmir.encoders.build import build
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.geometry import apply
from cbmir.images.read import read_pixels
from cbmir.references import published
from cbmir.schemas import image_key
from cbmir.store import Study
from tests.sources import manifest

SPLITS = {"train": 12, "val": 2, "test": 7}
SIDE = 32  # of the drawn volumes
NAMES = {"exact": "cosine", "exact-l2": "Euclidean"}


def drawn(path: Path, shape: tuple[int, ...], *, seed: int) -> Path:
    """A file of MedMNIST's layout with two classes that overlap; two of its training images are the same, so that distances tie."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in SPLITS.items():
        labels = rng.integers(0, 2, count)
        coarse = rng.integers(0, 256, (count, *(side // 2 for side in shape))).astype(float)  # a size changes it
        coarse += 4.0 * labels.reshape(-1, *(1 for _ in shape))
        images = np.stack([np.kron(one, np.ones([2] * len(shape))) for one in coarse])
        images = np.clip(images + rng.normal(0, 20, images.shape), 0, 255).astype(np.uint8)
        if split == "train":
            images[4] = images[9]
            labels[4], labels[9] = 0, 1
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None].astype(np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("files")
    return {
        "breastmnist_64": drawn(root / "breastmnist_64.npz", (64, 64), seed=4),
        "adrenalmnist3d_resaved": drawn(root / "adrenalmnist3d_resaved.npz", (SIDE,) * 3, seed=2),
    }


def run(files: list[Path], study: Path, *flags: str) -> int:
    given = ["run", "--as-published", "mahbod2024", *map(str, files), "--study", str(study), "--encoder", "pixels32"]
    return main([*given, "--resamples", "100", *flags])


@pytest.fixture(scope="module")
def made(files, ray_session, tmp_path_factory) -> Path:
    """Both files run, the images at 28 and 64 pixels, the volumes at 28 and 32 voxels."""
    root = tmp_path_factory.mktemp("published")
    assert run([files["breastmnist_64"]], root / "out", "--sizes", "28,64", "--csv", str(root / "images.csv")) == 0
    assert run([files["adrenalmnist3d_resaved"]], root / "out", "--sizes", "28,32", "--csv", str(root / "volumes.csv")) == 0  # fmt: skip
    return root


def table(made: Path, kind: str, size: int) -> list[dict[str, str]]:
    """The lines of a CSV file at one size."""
    text = (made / f"{kind}.csv").read_text()
    return [row for row in csv.DictReader(text.splitlines()) if row["image_size"] == str(size)]


# --- the oracle ------------------------------------------------------------------------------------------------------


def vectors_of(file: Path, split: str, size: int) -> dict[int, np.ndarray]:
    """image_key -> the vector of an image, or a volume, as the protocol has it."""
    spec = resolve("pixels32")
    encoder = build(spec)
    found = {}
    for row, image in enumerate(np.load(file)[f"{split}_images"]):
        slices = [image]
        if image.ndim == 3:
            slices = list(zoom(image, size / len(image), order=3))
        elif size != len(image):
            slices = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))]
        pixels = np.stack([apply(spec.geometry, np.stack([one] * 3, axis=2)) for one in slices])
        found[image_key(f"{file.stem}/{split}/{row}")] = np.concatenate([encoder.encode(p[None])[0] for p in pixels])
    return found


def labels_of(file: Path, split: str) -> dict[int, int]:
    labels = np.load(file)[f"{split}_labels"][:, 0]
    return {image_key(f"{file.stem}/{split}/{row}"): int(label) for row, label in enumerate(labels)}


def distance(a: np.ndarray, b: np.ndarray, how: str) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if how == "Euclidean":
        return float(np.sqrt(((a - b) ** 2).sum()))
    return 1.0 - float(a @ b) / float(np.sqrt(a @ a) * np.sqrt(b @ b))


def nearest_five(file: Path, size: int, how: str) -> dict[int, list[int]]:
    gallery, queries = vectors_of(file, "train", size), vectors_of(file, "test", size)
    return {
        query: [key for _, key in sorted((np.float32(distance(mine, other, how)), key) for key, other in gallery.items())[:5]]
        for query, mine in queries.items()
    }  # fmt: skip


def by_hand(file: Path, size: int, how: str) -> dict[str, float]:
    """The five figures, by the definitions of the paper's metric.py."""
    truth, labels = labels_of(file, "test"), labels_of(file, "train")
    each: dict[str, list[float]] = {name: [] for name in ("mAP@5", "mMV@5", "ACC@1", "ACC@3", "ACC@5")}
    for query, near in nearest_five(file, size, how).items():
        found = [labels[key] for key in near]
        hits = [label == truth[query] for label in found]
        precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(5) if hits[i]]
        each["mAP@5"].append(sum(precisions) / len(precisions) if precisions else 0.0)
        votes = {label: found.count(label) for label in found}
        tied = [label for label, count in votes.items() if count == max(votes.values())]
        each["mMV@5"].append(float(truth[query] in tied))
        for k in (1, 3, 5):
            each[f"ACC@{k}"].append(float(any(hits[:k])))
    return {name: sum(values) / len(values) for name, values in each.items()}


# --- end to end ------------------------------------------------------------------------------------------------------

CASES = [("images", "breastmnist_64", 28), ("images", "breastmnist_64", 64), ("volumes", "adrenalmnist3d_resaved", 28),
         ("volumes", "adrenalmnist3d_resaved", 32)]  # fmt: skip


@pytest.mark.parametrize("how", NAMES.values())
@pytest.mark.parametrize(("kind", "stem", "size"), CASES)
def test_figures_are_those_of_plain_loops(made, files, kind, stem, size, how):
    (row,) = [row for row in table(made, kind, size) if (row["by"], row["distance"]) == ("ours", how)]
    expected = by_hand(files[stem], size, how)
    assert (row["encoder"], row["queries"], row["queries_failed"]) == ("pixels32", "7", "0")
    assert {name: float(row[name]) for name in expected} == pytest.approx(
        {n: 100 * v for n, v in expected.items()}, abs=1e-6
    )
    for name in expected:
        assert float(row[f"{name} low"]) <= float(row[name]) <= float(row[f"{name} high"])
    assert 0 < expected["ACC@1"] < 1, "a case in which all is right, or wrong, shows nothing"


@pytest.mark.parametrize("index", NAMES)
@pytest.mark.parametrize(("stem", "size", "place", "encoder"), [
    ("breastmnist_64", 28, "breastmnist_64", "pixels32~px28"),
    ("breastmnist_64", 64, "breastmnist_64", "pixels32"),
    ("adrenalmnist3d_resaved", 28, "adrenalmnist3d_resaved-zoom28/volumes", "pixels32~concat28"),
    ("adrenalmnist3d_resaved", 32, "adrenalmnist3d_resaved/volumes", "pixels32~concat32"),
])  # fmt: skip
def test_neighbors_are_those_of_plain_loops(made, files, stem, size, place, encoder, index):
    study = Study(str(made / "out" / place))
    found = pq.read_table(study.files("neighbors", encoder, index)).to_pandas().sort_values(["query_key", "rank"])
    assert found.groupby("query_key")["neighbor_key"].agg(list).to_dict() == nearest_five(
        files[stem], size, NAMES[index]
    )
    run = study.require("neighbors", encoder, index)
    assert (run["gallery"], run["queries"], run["parameters"]["k"]) == (12, 7, 5)


def test_concatenations_are_the_slices_in_their_order(made, files):
    study = Study(str(made / "out" / "adrenalmnist3d_resaved-zoom28" / "volumes"))
    table = study.dataset("embeddings", "encoder=pixels32~concat28").to_table().to_pydict()
    found = dict(zip(table["image_key"], table["embedding"], strict=True))
    for key, vector in vectors_of(files["adrenalmnist3d_resaved"], "test", 28).items():
        assert len(vector) == 28 * 1024
        np.testing.assert_array_equal(found[key], vector)


# --- beside the published --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "dataset", "size"), [("images", "BreastMNIST", 28), ("images", "BreastMNIST", 64),
                                                       ("volumes", "AdrenalMNIST3D", 28)])  # fmt: skip
def test_every_printed_figure_stands_below_ours(made, kind, dataset, size):
    theirs = [row for row in published().to_pylist() if (row["dataset"], row["image_size"]) == (dataset, size)]
    found = table(made, kind, size)
    assert [row["by"] for row in found] == ["ours"] * 2 + ["published"] * 9
    assert {row["comparable"] for row in found[2:]} == {"no"}, "pixels32 is none of theirs"
    by_name = {row["encoder"]: row for row in found[2:]}
    assert list(by_name) == list(dict.fromkeys(row["encoder"] for row in theirs))
    for row in theirs:
        shown = by_name[row["encoder"]]
        assert shown["distance"] == "Euclidean"
        expected = "" if row["value"] is None else repr(round(100 * row["value"], 6))
        assert shown[row["printed_metric"]] == expected
        assert (row["note"] or "") in shown["notes"]


def test_sizes_that_the_paper_has_not_stand_alone(made):
    found = table(made, "volumes", 32)
    assert [row["by"] for row in found] == ["ours", "ours"]
    assert "the paper has no figures of AdrenalMNIST3D at 32" in found[0]["notes"]


def test_the_table_says_what_is_odd(made, files, capsys):
    assert run([files["breastmnist_64"]], made / "out", "--sizes", "28,64") == 0
    assert run([files["adrenalmnist3d_resaved"]], made / "out", "--sizes", "28") == 0
    text = capsys.readouterr().out
    for said in (
        "printed as 91.64: not k/298; nearest 91.61 = 273/298",
        "row absent from Table S.2",
        "another encoder than any of ours: not comparable",
        "breastmnist_64.npz has 12 training and 7 test images; published: 546 and 156",
        "images brought to that size by bicubic with antialias from breastmnist_64.npz of 64",
        "Their README says cosine, their code searches by Euclidean distance",
        "enlarges images of 28 pixels to 32 for some encoders",
    ):
        assert said in text, said
    (line,) = re.findall(r"AdrenalMNIST3D +28 +published: MedCLIP.*", text)
    mark = re.search(r"91\.64 \^(\d+)", line).group(1)
    assert f"^{mark} printed as 91.64" in text
    heads = re.findall(r"dataset +size +encoder +distance +mAP@5 +mMV@5 +ACC@1 +ACC@3 +ACC@5", text)
    assert len(heads) == 2
    (row,) = re.findall(r"BreastMNIST +64 +pixels32 .* Euclidean .*", text)
    assert len(re.findall(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", row)) == 5


def hand(made: Path, base: str, *caveats: str) -> list:
    """The drawn images as if an encoder of the paper had been there."""
    study = Study(str(made / "out" / "breastmnist_64"))
    return lines(Asked(study, "breastmnist_64", "BreastMNIST", 64, (Encoded("pixels32", "mine", base, caveats),)))


def test_an_encoder_of_the_paper_has_its_own_row_below(made):
    found = hand(made, "biomedclip")
    assert [(line.encoder, line.distance, line.is_comparable) for line in found] == [
        ("mine", "Euclidean", None), ("mine", "cosine", None), ("BiomedCLIP", "Euclidean", True),
    ]  # fmt: skip
    assert {line.notes for line in found} == {()}
    assert [line.is_comparable for line in hand(made, "biomedclip", "fewer images")] == [None, None, False]


def test_keras_weights_are_never_comparable(made):
    *ours, theirs = hand(made, "vgg19")
    assert (theirs.encoder, theirs.is_comparable) == ("VGG19", False)
    assert ours[0].notes == ("published with Keras' weights; here torchvision's",)
    assert "VGG19 ^1" in table_text(hand(made, "vgg19"))


def test_a_study_is_one_like_any_other(made, capsys):
    place = str(made / "out" / "adrenalmnist3d_resaved-zoom28" / "volumes")
    sql = "SELECT DISTINCT encoder, index FROM metrics ORDER BY ALL"
    assert main(["sql", "--study", place, sql]) == 0
    assert re.findall(r"pixels32~concat28 .*(exact-l2|exact)", capsys.readouterr().out) == ["exact", "exact-l2"]
    assert metrics() == ["mAP@5", "mMV@5", "ACC@1", "ACC@3", "ACC@5"]


# --- again -----------------------------------------------------------------------------------------------------------


def times(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_what_is_done_is_skipped(made, files, capsys):
    before = times(made / "out")
    assert run([files["breastmnist_64"]], made / "out", "--sizes", "28,64") == 0
    assert run([files["adrenalmnist3d_resaved"]], made / "out", "--sizes", "28,32") == 0
    said = capsys.readouterr().out
    assert times(made / "out") == before
    assert said.count("already searched") == 8
    assert said.count("metrics: up to date") == 3


def test_what_a_kill_leaves_is_finished(files, ray_session, tmp_path):
    """Embeddings of which some files are there and no run.json, and searches and figures without theirs; the file's name is another size's."""
    file, root = tmp_path / "breastmnist_224.npz", tmp_path / "out"
    file.write_bytes(files["breastmnist_64"].read_bytes())
    assert run([file], root, "--csv", str(tmp_path / "before.csv")) == 0
    assert "breastmnist_224.npz has images of 64; its name says 224" in (tmp_path / "before.csv").read_text()
    place = root / "breastmnist_224"
    parts = sorted(place.glob("embeddings/encoder=pixels32/*.parquet"))
    parts[0].unlink()
    for dataset in ("embeddings/encoder=pixels32", "neighbors/pixels32/exact-l2", "metrics"):
        (place / dataset / "run.json").unlink()
    assert run([file], root, "--csv", str(tmp_path / "after.csv")) == 0
    assert (tmp_path / "after.csv").read_bytes() == (tmp_path / "before.csv").read_bytes()
    rows = Study(str(place)).dataset("embeddings", "encoder=pixels32").to_table(columns=["image_key"])
    assert len(set(rows["image_key"].to_pylist())) == len(rows) == sum(SPLITS.values())


# --- zoom ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [9, 20, 31])
def test_zoomed_slices_are_scipys(tmp_path, side, axis):
    rng = np.random.default_rng(side)
    volumes = rng.integers(0, 2, (2, 20, 20, 20), np.uint8) * 255  # splines overshoot between 0 and 255
    np.savez(tmp_path / "nodulemnist3d.npz", test_images=volumes, test_labels=np.zeros((2, 1), np.uint8))
    found, _ = manifest("medmnist", tmp_path / "nodulemnist3d.npz", axis=axis, zoom=side)
    assert found.num_rows == 2 * side
    expected = [zoom(volume, side / 20, order=3) for volume in volumes]
    np.testing.assert_array_equal(expected[0] if side != 20 else volumes[0], expected[0])
    for row in found.to_pylist():
        volume = int(row["volume_id"].rsplit("/", 1)[1])
        wanted = expected[volume].take(row["slice"], axis=axis)
        assert row["image_id"] == f"nodulemnist3d/test/{volume}#{row['slice']}"
        np.testing.assert_array_equal(read_pixels(row["uri"]), wanted)
    mixed = [found["uri"][i].as_py() for i in (0, side, 1, side + 1)]  # from one volume to the other and back
    for uri, volume in zip(mixed, (0, 1, 0, 1), strict=True):
        index = int(uri.rsplit("=", 1)[1])
        np.testing.assert_array_equal(read_pixels(uri), expected[volume].take(index, axis=axis))


def test_a_last_axis_of_one_and_unequal_sides_are_zoomed_too(tmp_path):
    volume = np.random.default_rng(0).integers(0, 256, (1, 6, 8, 10, 1), np.uint8)
    np.savez(tmp_path / "x.npz", train_images=volume)
    uri = f"{tmp_path}/x.npz#array=train_images&row=0&zoom=12&slice=7"
    np.testing.assert_array_equal(read_pixels(uri), zoom(volume[0, ..., 0], (2, 1.5, 1.2), order=3)[7])


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("zoom=0&slice=0", "zoom=0 of 6 x 6 x 6 voxels; expected 1 to"),
        ("zoom=4096&slice=0", "zoom=4096 of 6 x 6 x 6 voxels"),
        ("zoom=big&slice=0", "zoom=big; expected a whole number"),
        ("zoom=4&slice=4", "slice 4 of a volume with 4 slices"),
        ("zoom=4", "an array row of shape"),
    ],
)
def test_zooms_that_cannot_be(tmp_path, part, said):
    np.savez(tmp_path / "x.npz", a=np.zeros((1, 6, 6, 6), np.uint8), b=np.zeros((1, 6, 6), np.uint8))
    with pytest.raises(ImageError, match=said):
        read_pixels(f"{tmp_path}/x.npz#array=a&row=0&{part}")
    with pytest.raises(ImageError, match=r"zoom of an array row of shape \(6, 6\)"):
        read_pixels(f"{tmp_path}/x.npz#array=b&row=0&zoom=4&slice=0")


def test_images_are_not_zoomed(files):
    with pytest.raises(UserError, match="--zoom 28: breastmnist_64 holds images, and volumes alone are resampled"):
        manifest("medmnist", files["breastmnist_64"], zoom=28)
    with pytest.raises(UserError, match="--zoom 1; expected 2 to 512 voxels a side"):
        manifest("medmnist", files["adrenalmnist3d_resaved"], zoom=1)
    with pytest.raises(UserError, match="--zoom has no meaning for nifti; expected it with medmnist"):
        manifest("nifti", files["breastmnist_64"], zoom=28)


# --- misuse ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(files, tmp_path_factory) -> Path:
    """A directory of files that the protocol cannot take, beside the two that it can."""
    root = tmp_path_factory.mktemp("odd")
    labels = {f"{split}_labels": np.zeros((2, 1), np.uint8) for split in ("train", "test")}
    flat = {f"{split}_images": np.zeros((2, 8, 9), np.uint8) for split in ("train", "test")}
    square = {f"{split}_images": np.zeros((2, 8, 8), np.uint8) for split in ("train", "test")}
    np.savez(root / "pathmnist.npz", **flat, **labels)
    np.savez(root / "mine_64.npz", **square, **labels)
    np.savez(root / "bloodmnist.npz", vectors=np.zeros(3))
    np.savez(root / "dermamnist.npz", train_images=square["train_images"], train_labels=labels["train_labels"])
    (root / "retinamnist.npz").write_text("no zip")
    (root / "again").mkdir()
    for name, path in files.items():
        (root / f"{name}.npz").write_bytes(path.read_bytes())
        (root / "again" / f"{name}.npz").write_bytes(path.read_bytes())
    (root / "taken" / "manifest").mkdir(parents=True)
    return root


START = "--as-published mahbod2024"
FILE, VOLUMES = "breastmnist_64.npz", "adrenalmnist3d_resaved.npz"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{START} nowhere.npz --encoder pixels32", "no file nowhere.npz; expected a MedMNIST .npz"),
        (f"{START} retinamnist.npz --encoder pixels32", "retinamnist.npz is not a .npz that can be read"),
        (f"{START} bloodmnist.npz --encoder pixels32", "bloodmnist.npz has no train_images; expected train_images, "),
        (f"{START} dermamnist.npz --encoder pixels32", "dermamnist.npz has no test_images"),
        (f"{START} mine_64.npz --encoder pixels32", "mine_64.npz: its name is of no set of MedMNIST"),
        (f"{START} pathmnist.npz --encoder pixels32", "pathmnist.npz: 8 x 9; expected images as wide as high"),
        (f"--as-published mahbod2023 {FILE} --encoder pixels32", "invalid choice: 'mahbod2023'"),
        (f"{START} {VOLUMES} --sizes 28,64 --encoder pixels32", "--sizes 64: adrenalmnist3d_resaved.npz holds volumes of 32 voxels a side; expected 2 to 32"),
        (f"{START} {FILE} --sizes 4 --encoder pixels32", "--sizes 4: breastmnist_64.npz holds images of 64 pixels a side; expected 8 to 4096"),
        (f"{START} {FILE} --sizes small --encoder pixels32", "'small' is not a list of numbers"),
        (f"{START} {FILE}", "the following arguments are required: --encoder"),
        (f"{START} --encoder pixels32", "--as-published mahbod2024 without FILE"),
        (f"{START} medmnist {FILE} --encoder pixels32", "found source medmnist; leave it out"),
        (f"{START} {FILE} again/{FILE} --encoder pixels32", "two files are called breastmnist_64.npz"),
        (f"{START} {FILE} --encoder pixels31", "unknown encoder 'pixels31'; nearest: 'pixels32'"),
        (f"{START} {FILE} --encoder pixels32~px28", "encoder pixels32~px28 says ~px28 itself"),
        (f"{START} {FILE} --encoder pixels32 --metric l2", "--metric with --as-published mahbod2024: the protocol decides it"),
        (f"{START} {FILE} --encoder pixels32 -k 10", "-k with --as-published mahbod2024: the protocol decides it"),
        (f"{START} {FILE} --encoder pixels32 --gallery true", "--gallery with --as-published"),
        (f"{START} {FILE} --encoder pixels32 --zoom 28", "--zoom with --as-published"),
        (f"{START} {FILE} --encoder pixels32 --packed", "--packed with --as-published"),
        (f"{START} {FILE} --encoder pixels32 --resamples 3", "--resamples 3: too few for a 95 % interval"),
        (f"{START} {FILE} --encoder pixels32 --csv none/x.csv", "--csv none/x.csv: no such directory"),
        (f"{START} {FILE} --encoder pixels32 --study taken", "--study taken is a study; expected a directory for the studies"),
        (f"medmnist {FILE} --sizes 28 --encoder pixels32", "--sizes without --as-published"),
        (f"medmnist {FILE} --csv x.csv --encoder pixels32", "--csv without --as-published"),
    ],
)  # fmt: skip
def test_misuse_is_one_line_before_anything_is_made(odd, monkeypatch, capsys, words, said):
    monkeypatch.chdir(odd)
    given = ["run", *shlex.split(words)]
    try:
        code = main(given if "--study" in given else [*given, "--study", "study"])
    except SystemExit as left:  # the parser's own
        code = left.code
    text = capsys.readouterr().err.strip()
    assert code == 2
    assert said in text
    assert len(text.splitlines()) == 1
    assert not (odd / "study").exists()
