"""The drawn collection: what it promises about files, labels and splits, and that retrieval on it is worth showing."""

import csv
import hashlib
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cbmir.errors import UserError
from cbmir.phantoms import collection, draw_collection
from cbmir.phantoms.catalog import COMPANIONS, LABELS, REGIONS
from cbmir.phantoms.plan import BROKEN, plan_rows

SMALL = {"images": 32, "seed": 5, "broken": 0}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """320 images, one of each kind of broken file among them."""
    root = tmp_path_factory.mktemp("phantoms") / "collection"
    draw_collection(root, images=320, seed=3, broken=6)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "small"
    draw_collection(root, **SMALL)
    return root


def read_table(root: Path) -> list[dict[str, str]]:
    with (root / "phantoms.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def good_rows(root: Path) -> list[dict[str, str]]:
    return [row for row in read_table(root) if not row["broken"]]


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def displayed(path: Path) -> np.ndarray:
    """(h, w) float32 0..255 as a reader would show it: DICOM through its window, a 16-bit PNG from its min..max."""
    if path.suffix == ".dcm":
        dataset = pydicom.dcmread(path)
        pixels = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float32)
        pixels = -pixels if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels
    else:
        with Image.open(path) as image:
            wide = image.mode.startswith("I")
            pixels = np.asarray(image if wide else image.convert("L"), dtype=np.float32)
            if not wide:
                return pixels
    return (pixels - pixels.min()) / np.ptp(pixels) * 255


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(1024,) float32 of unit length."""
    image = Image.fromarray(pixels.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    vector = np.asarray(image, dtype=np.float32).ravel()
    return vector / np.linalg.norm(vector)


def test_same_seed_draws_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    draw_collection(tmp_path / "again", **SMALL)
    assert digests(tmp_path / "again") == digests(small)
    collection.draw_rows(tmp_path / "other", plan_rows(images=32, seed=5, broken=0)[:9], seed=6, processes=1)
    other = digests(tmp_path / "other")
    assert len(other) == 9
    assert all(digests(small)[path] != digest for path, digest in other.items())


def test_another_seed_plans_other_patients():
    plans = [plan_rows(images=400, seed=seed, broken=0) for seed in (5, 5, 6)]
    assert plans[0] == plans[1]
    assert [row.labels for row in plans[0]] != [row.labels for row in plans[2]]


def test_number_of_processes_changes_nothing(small, tmp_path):
    rows = plan_rows(images=32, seed=5, broken=0)
    collection.draw_rows(tmp_path, rows, seed=5, processes=2)
    expected = {path: digest for path, digest in digests(small).items() if path.startswith("images/")}
    assert digests(tmp_path) == expected
    assert len(expected) == 32


def test_every_promised_label_and_format_is_there(drawn):
    rows = read_table(drawn)
    counts = Counter(label for row in rows for label in row["labels"].split("|"))
    assert set(counts) == set(LABELS)
    assert len(LABELS) >= 24
    assert {row["modality"] for row in rows} == {"XR", "CT", "MR", "US"}
    assert len({(row["modality"], row["region"]) for row in rows}) >= 6
    assert {row["format"] for row in rows} == {"png", "jpeg", "png16", "dicom"}


def test_normal_is_the_most_common_and_shares_are_uneven():
    counts = Counter(label for row in plan_rows(images=1500, seed=0, broken=6) for label in row.labels.split("|"))
    for region in REGIONS:
        assert max(region.labels, key=counts.__getitem__) == f"{region.modality}/{region.region}/No Finding"
    assert max(counts.values()) > 10 * min(counts.values())


def test_labels_belong_to_the_rows_region_and_never_show_in_the_path(drawn):
    for row in read_table(drawn):
        for label in row["labels"].split("|"):
            modality, region, finding = label.split("/")
            assert (modality, region) == (row["modality"], row["region"])
            assert finding.split()[0].lower() not in row["path"].lower()


def test_several_labels_are_the_known_companions_and_never_normal(drawn):
    several = [tuple(row["labels"].split("|")) for row in read_table(drawn) if "|" in row["labels"]]
    assert several
    assert set(several) <= {(first, second) for first, (second, _) in COMPANIONS.items()}


def test_splits_are_disjoint_by_patient_and_hold_their_shares(drawn):
    rows = read_table(drawn)
    splits, images = defaultdict(set), Counter(row["patient_id"] for row in rows)
    for row in rows:
        splits[row["patient_id"]].add(row["split"])
    assert all(len(names) == 1 for names in splits.values())
    assert max(images.values()) > 2
    assert max(images.values()) <= 6
    shares = {split: count / len(rows) for split, count in Counter(row["split"] for row in rows).items()}
    assert shares == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("images", "splits"), [(32, {"train"}), (300, {"train", "test"})])
def test_every_label_keeps_a_good_image_in_its_splits(images, splits, seed):
    rows = plan_rows(images=images, seed=seed, broken=min(8, images // 40))
    assert len(rows) == images
    assert len({row.image_id for row in rows}) == images
    have = {(row.split, label) for row in rows if not row.broken for label in row.labels.split("|")}
    assert {(split, label) for split in splits for label in LABELS} <= have


def test_every_good_file_opens_with_size_and_contrast(drawn):
    for row in good_rows(drawn):
        pixels = displayed(drawn / row["path"])
        assert 192 <= min(pixels.shape) <= max(pixels.shape) <= 320, row
        assert pixels.std() > 20, row
        assert pixels.min() < 60, row
        assert pixels.max() > 180, row
    assert len({displayed(drawn / row["path"]).shape for row in good_rows(drawn)[:20]}) > 5


def test_every_broken_file_fails_and_each_kind_is_there(drawn):
    broken = [row for row in read_table(drawn) if row["broken"]]
    assert {row["broken"] for row in broken} == set(BROKEN)
    assert {row["split"] for row in broken} == {"train", "test"}
    assert [row["broken"] for row in broken if not (drawn / row["path"]).exists()] == ["missing"]
    for row in broken:
        with pytest.raises((OSError, AttributeError, pydicom.errors.InvalidDicomError)):
            displayed(drawn / row["path"])


def test_dicom_headers_are_valid_and_consistent(drawn):
    rows = [row for row in good_rows(drawn) if row["format"] == "dicom"]
    seen, studies, windows = set(), defaultdict(set), set()
    for row in rows:
        dataset = pydicom.dcmread(drawn / row["path"])
        assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert dataset.Modality == {"XR": "CR"}.get(row["modality"], row["modality"])
        assert (dataset.PatientID, dataset.BodyPartExamined) == (row["patient_id"], row["region"].upper())
        assert all(
            uid.is_valid and uid.startswith("2.25.") for uid in (dataset.SOPInstanceUID, dataset.StudyInstanceUID)
        )
        seen.add(dataset.SOPInstanceUID)
        studies[row["study_id"]].add(dataset.StudyInstanceUID)
        windows.add((row["modality"], dataset["WindowCenter"].VM))
        if row["modality"] == "CT":
            hounsfield = apply_modality_lut(dataset.pixel_array, dataset)
            assert dataset.RescaleIntercept == -1024
            assert hounsfield.min() < -900
            assert hounsfield.max() > 250
    assert len(seen) == len(rows)
    assert all(len(uids) == 1 for uids in studies.values())
    assert windows == {("XR", 1), ("CT", 1), ("CT", 2), ("MR", 1)}


def test_monochrome1_is_there_and_shows_a_dark_background(drawn):
    hands = {"MONOCHROME1": [], "MONOCHROME2": []}
    for row in good_rows(drawn):
        if row["modality"] == "XR" and row["format"] == "dicom":
            dataset = pydicom.dcmread(drawn / row["path"])
            found = hands[dataset.PhotometricInterpretation]
            if row["region"] == "hand":
                found.append((dataset.pixel_array[:, :8].mean(), displayed(drawn / row["path"])[:, :8].mean()))
    assert hands["MONOCHROME1"]
    assert hands["MONOCHROME2"]
    assert all(stored > 2048 and shown < 60 for stored, shown in hands["MONOCHROME1"])
    assert all(stored < 1024 and shown < 60 for stored, shown in hands["MONOCHROME2"])


def test_anatomy_is_easy_and_pathology_hard_for_a_thumbnail(drawn):
    rows = good_rows(drawn)
    vectors = np.stack([thumbnail(displayed(drawn / row["path"])) for row in rows])
    gallery = [i for i, row in enumerate(rows) if row["split"] == "train"]
    queries = [i for i, row in enumerate(rows) if row["split"] == "test"]
    nearest = np.argsort(-(vectors[queries] @ vectors[gallery].T), axis=1, kind="stable")[:, :5]

    def shares(keys: list[set]) -> tuple[float, float]:
        same = np.array([[bool(keys[q] & keys[g]) for g in gallery] for q in queries])
        return float(np.take_along_axis(same, nearest, axis=1).mean()), float(same.mean())

    region, region_chance = shares([{(row["modality"], row["region"])} for row in rows])
    label, label_chance = shares([set(row["labels"].split("|")) for row in rows])
    assert region > 0.95
    assert region_chance < 0.3
    assert 3 * label_chance < label < 0.7
    assert label < region - 0.3


def test_images_of_one_patient_resemble_each_other(drawn):
    groups = defaultdict(list)
    for row in good_rows(drawn):
        if (row["modality"], row["region"]) == ("MR", "brain"):
            groups[row["patient_id"]].append(thumbnail(displayed(drawn / row["path"])))
    within = [a @ b for group in groups.values() for a in group for b in group if a is not b]
    first = [group[0] for group in groups.values()]
    between = [a @ b for a in first for b in first if a is not b]
    assert np.mean(within) > np.mean(between)


def test_finished_collection_is_kept_and_summarized(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    summary = draw_collection(small, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert (summary["images"], summary["labels"], summary["splits"]) == (32, 32, {"train": 32})


def test_half_drawn_directory_is_drawn_anew(small, tmp_path):
    root = tmp_path / "killed"
    shutil.copytree(small, root)
    (root / "phantoms.csv").unlink()
    stale = root / "images" / "stale.png"
    stale.write_bytes(b"of another plan")
    next((root / "images").rglob("*.dcm")).write_bytes(b"cut off")
    draw_collection(root, **SMALL)
    assert digests(root) == digests(small)


def test_table_comes_last_and_marker_first(tmp_path):
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        assert total == 32
        assert (tmp_path / "phantoms.json").exists()
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        draw_collection(tmp_path, **SMALL, report=kill)
    assert len(list(tmp_path.rglob("images/*/*"))) >= 3
    assert not (tmp_path / "phantoms.csv").exists()


def test_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no phantom collection"):
        draw_collection(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_parameters_are_refused(small):
    with pytest.raises(UserError, match=r"holds another phantom collection.*'seed': 5.*asked for.*'seed': 6"):
        draw_collection(small, **SMALL | {"seed": 6})


def test_file_instead_of_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; expected a directory"):
        draw_collection(tmp_path / "file", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 31}, "images=31: each of the 32 labels needs one; ask for 32 or more"),
        ({"seed": -1}, "seed=-1: expected 0 or more"),
        ({"broken": 33}, "broken=33: expected 0 to 32"),
        ({"broken": 5}, "broken=5: after 0 of 32 images no label can spare a file for 'truncated'"),
    ],
)
def test_impossible_parameters_are_named_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        draw_collection(tmp_path / "new", **SMALL | options)
    assert not (tmp_path / "new").exists()


def test_readme_says_what_it_is(small):
    text = (small / "README.txt").read_text(encoding="utf-8")
    for words in ("No patient", "Not for clinical use", "32 images, 0 of them broken", "seed 5"):
        assert words in text
