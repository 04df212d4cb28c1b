"""The four radiology sets as their owners distribute them -> manifest; the single-label protocol against a loop over the label files."""

import csv
import gzip
import itertools
import random
from pathlib import Path

import pytest

from cbmir.datasets.radimagenet import meaning
from cbmir.errors import UserError
from tests.radiology_files import CHEXPERT, NIH_HEAD, chexpert, image, mimic, nih14, radimagenet, table
from tests.sources import manifest, rows, run_whole

X = "XR/chest/"
NIH = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia", "Infiltration", "Mass",
       "No Finding", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax")  # fmt: skip
PROTOCOL = {"protocol": "denner2024"}


def ids(table) -> list[str]:
    return table["image_id"].to_pylist()


# --- NIH ChestX-ray14 --------------------------------------------------------------------------------------------------


@pytest.fixture
def nih(tmp_path) -> Path:
    found = [
        ("00000001_000.png", "Cardiomegaly", 1),
        ("00000001_001.png", "Cardiomegaly|Effusion", 1),
        ("00000002_000.png", "No Finding", 2),
        ("00000003_000.png", "Pleural_Thickening", 3),
        ("00000003_001.png", "Effusion|Pleural_Thickening|Mass", 3),
    ]
    return nih14(tmp_path / "nih", found, test=["00000003_000.png", "00000003_001.png"])


def test_nih_keeps_all_rows_and_labels(nih):
    found, said = manifest("nih14", nih)
    assert rows(found, "image_id", "patient_id", "labels") == [
        ("nih14/00000001_000.png", "1", [f"{X}Cardiomegaly"]),
        ("nih14/00000001_001.png", "1", [f"{X}Cardiomegaly", f"{X}Pleural Effusion"]),
        ("nih14/00000002_000.png", "2", [f"{X}No Finding"]),
        ("nih14/00000003_000.png", "3", [f"{X}Pleural Thickening"]),
        ("nih14/00000003_001.png", "3", [f"{X}Pleural Effusion", f"{X}Pleural Thickening", f"{X}Mass"]),
    ]
    assert found["split"].to_pylist()[3:] == ["test", "test"]
    assert set(found["split"].to_pylist()[:3]) <= {"train", "val"}
    assert found["split"].to_pylist()[0] == found["split"].to_pylist()[1]
    assert found["unknown_labels"].to_pylist() == [[]] * 5
    assert rows(found, "age", "sex", "view", "width", "height", "spacing_y")[0] == (41, "M", "PA", 2500, 2048, 0.143)
    assert found["uri"].to_pylist()[1] == str(nih / "images_002" / "images" / "00000001_001.png")
    assert said == []


def test_nih_single_label_protocol(nih):
    found, _ = manifest("nih14", nih, **PROTOCOL)
    assert ids(found) == [f"nih14/{n}.png" for n in ("00000001_000", "00000002_000", "00000003_000")]
    assert found["other_labels"].to_pylist() == [[]] * 3


def test_nih_other_versions_of_its_files(tmp_path):
    root = tmp_path / "nih"
    head = NIH_HEAD.replace("Patient Gender", "Patient Sex").rstrip(",")
    table(root / "Data_Entry_2017_v2020.csv", head, [("a.png", "Mass", 3, "0000007", "058Y", "F", "AP", 10, 20, 0.1, 0.2), ("b.png", "Mass", 0, 8, "013M", "M", "PA", 10, 20, 0.1, 0.2), ("c.png", "Mass", 0, 8, "020D", "", "PA", "", 20, "x", 0.2)])  # fmt: skip
    (root / "train_val_list.txt").write_text("images/a.png\r\nb.png\r\n")
    (root / "test_list.txt").write_text("c.png\n")
    image(root / "a.png")
    image(root / "images" / "b.png")
    found, said = manifest("nih14", root)
    assert rows(found, "age", "sex", "width", "spacing_x", "follow_up", "patient_id") == [
        (58, "F", 10, 0.1, 3, "0000007"),
        (1, "M", 10, 0.1, 0, "8"),
        (0, None, None, None, 0, "8"),
    ]
    assert found["uri"].to_pylist() == [
        str(root / "a.png"),
        str(root / "images" / "b.png"),
        str(root / "images" / "c.png"),
    ]
    assert [(kind, row) for kind, _, row, _ in said] == [("missing_image", 4)]


def test_nih_what_is_odd_is_named(nih):
    entry = nih / "Data_Entry_2017.csv"
    lines = entry.read_text().splitlines()
    lines += [
        "00000004_000.png,Mass|Foo,0,4,050Y,F,PA,1,1,1,1,",
        "00000005_000.png,Mass,0,5,050Y,F,PA,1,1,1,1,",
        "short,row",
    ]
    entry.write_text("\n".join(lines) + "\n")
    with open(nih / "train_val_list.txt", "a") as file:
        file.write("\n00000004_000.png\n99999999_000.png\n00000003_000.png\n")
    (nih / "images_001" / "images" / "00000001_000.png").unlink()
    image(nih / "images_001" / "images" / "77777777_000.png")
    found, said = manifest("nih14", nih)
    assert len(found) == 7
    assert rows(found, "labels", "split")[5] == ([f"{X}Mass", f"{X}Foo"], found["split"].to_pylist()[5])
    assert found["split"].to_pylist()[6] == "unknown"
    listed = {(kind, file, row) for kind, file, row, _ in said}
    assert listed == {
        ("unreadable_row", "Data_Entry_2017.csv", 9),
        ("unknown_label", "Data_Entry_2017.csv", 7),
        ("unlisted_image", "77777777_000.png", None),
        ("unlisted_image", "train_val_list.txt", None),
        ("odd_value", "Data_Entry_2017.csv", 5),  # in both lists
        ("unknown_split", "Data_Entry_2017.csv", 8),
        ("missing_image", "Data_Entry_2017.csv", 2),
        ("missing_image", "Data_Entry_2017.csv", 7),
        ("missing_image", "Data_Entry_2017.csv", 8),
    }
    single, _ = manifest("nih14", nih, **PROTOCOL)
    assert rows(single, "image_id", "labels", "other_labels")[3] == (
        "nih14/00000004_000.png",
        [f"{X}Mass"],
        [f"{X}Foo"],
    )


@pytest.mark.parametrize("missing", ["Data_Entry_2017.csv", "test_list.txt", "train_val_list.txt"])
def test_nih_a_label_file_that_is_not_there_is_named(nih, missing):
    (nih / missing).unlink()
    with pytest.raises(UserError, match=rf"has no .*{missing}.* \(or .gz\); found: .*\.(csv|txt)"):
        manifest("nih14", nih)


def test_nih_validation_is_drawn_by_patient_with_a_seed(tmp_path):
    root = nih14(
        tmp_path / "nih",
        [(f"{p:08d}_{i:03d}.png", "Mass", p) for p in range(300) for i in range(2)],
        test=["00000000_000.png"],
    )
    splits = [rows(manifest("nih14", root, seed=seed)[0], "patient_id", "split")[2:] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    by_patient: dict[str, set[str]] = {}
    for patient, split in splits[0]:
        by_patient.setdefault(patient, set()).add(split)
    assert all(len(found) == 1 for found in by_patient.values())
    assert 0.05 < sum(found == {"val"} for found in by_patient.values()) / 299 < 0.15


def test_nih_the_whole_public_label_table(shared, tmp_path):
    source = shared / "data" / "tables" / "Data_Entry_2017_v2020.csv.gz"
    root = tmp_path / "nih"
    root.mkdir()
    (root / source.name).symlink_to(source)
    with gzip.open(source, "rt") as file:
        entries = list(csv.DictReader(file))
    test = {e["Image Index"] for e in entries if int(e["Patient ID"]) % 5 == 0}
    (root / "test_list.txt").write_text("\n".join(sorted(test)))
    (root / "train_val_list.txt").write_text(
        "\n".join(e["Image Index"] for e in entries if e["Image Index"] not in test)
    )
    found, said = manifest("nih14", root)
    assert len(found) == len(entries) == 112_120
    words = {"Effusion": "Pleural Effusion", "Pleural_Thickening": "Pleural Thickening"}
    expected = [[X + words.get(label, label) for label in e["Finding Labels"].split("|")] for e in entries]
    assert found["labels"].to_pylist() == expected
    assert {kind for kind, *_ in said} == {"missing_image"}
    assert found["split"].to_pylist().count("test") == len(test)
    single, _ = manifest("nih14", root, **PROTOCOL)
    assert ids(single) == [f"nih14/{e['Image Index']}" for e in entries if e["Finding Labels"].count("|") == 0]
    assert len(single) == 91_324


# --- CheXpert ----------------------------------------------------------------------------------------------------------


def view(patient: int, study: int = 1) -> str:
    return f"patient{patient:05d}/study{study}/view1_frontal.jpg"


@pytest.fixture
def stanford(tmp_path) -> Path:
    train = [
        (view(1), {"Edema": 1.0, "Pneumonia": 0.0}),
        (view(2), {"Edema": 1.0, "Pneumonia": -1.0}),
        (view(2, 2), {"Edema": 1.0, "Support Devices": 1.0}),
        (view(3), {"Support Devices": 1.0}),
        (view(4), {"Edema": 1.0, "Support Devices": -1.0}),
        (view(5), {"Edema": 1.0, "Fracture": 1.0, "Pneumonia": -1.0}),
        (view(6), {}),
    ]
    valid = [(view(64541), dict.fromkeys(CHEXPERT, 0.0) | {"No Finding": 1.0}), (view(64542), {"Edema": 1.0, "Fracture": -1.0}), (view(64543), {"Edema": 1.0, "Fracture": 1.0})]  # fmt: skip
    return chexpert(tmp_path / "CheXpert-v1.0-small", train, valid)


def test_chexpert_keeps_all_rows_and_labels(stanford):
    found, said = manifest("chexpert", stanford)
    assert said == []
    assert ids(found) == [f"chexpert/train/{view(p, s)}" for p, s in ((1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1), (6, 1))] + [f"chexpert/valid/{view(p)}" for p in (64541, 64542, 64543)]  # fmt: skip
    first = found.to_pylist()[0]
    assert first["labels"] == [f"{X}Edema"]
    assert first["unknown_labels"] == [X + c for c in CHEXPERT if c not in ("Edema", "Pneumonia")]
    assert first["uncertain_labels"] == []
    assert (first["patient_id"], first["study_id"]) == ("patient00001", "patient00001/study1")
    assert (first["sex"], first["age"], first["view"], first["ap_pa"]) == ("Female", 68, "Frontal", "AP")
    second = found.to_pylist()[1]
    assert second["uncertain_labels"] == [f"{X}Pneumonia"]
    assert f"{X}Pneumonia" in second["unknown_labels"]
    assert found.to_pylist()[7]["unknown_labels"] == []
    assert found["split"].to_pylist()[7:] == ["test"] * 3
    assert found["split"][1] == found["split"][2]
    assert Path(found["uri"][0].as_py()).exists()


def test_chexpert_single_label_protocol(stanford):
    found, _ = manifest("chexpert", stanford, **PROTOCOL)
    # one positive and one uncertain label is out in train and in in valid; Support Devices never counts
    assert ids(found) == [f"chexpert/train/{view(p, s)}" for p, s in ((1, 1), (2, 2), (4, 1))] + [f"chexpert/valid/{view(p)}" for p in (64541, 64542)]  # fmt: skip
    assert found["labels"].to_pylist()[1] == [f"{X}Edema"]
    assert found["other_labels"].to_pylist()[1] == [f"{X}Support Devices"]


@pytest.mark.parametrize("root", ["parent", "renamed", "batches"])
def test_chexpert_wherever_its_files_lie(stanford, root):
    place = stanford.parent
    if root == "renamed":
        place = stanford.rename(stanford.parent / "elsewhere")
    if root == "batches":
        (stanford / "train").rename(stanford / "CheXpert-v1.0 batch 2 (train 1)")
        place = stanford
    found, said = manifest("chexpert", place)
    assert said == []
    assert all(Path(uri).exists() for uri in found["uri"].to_pylist())
    assert ids(found)[0] == f"chexpert/train/{view(1)}"


def test_chexpert_what_is_odd_is_named(stanford):
    with open(stanford / "train.csv", "a") as file:
        file.write(f"CheXpert-v1.0-small/train/{view(9)},Male,50,Lateral,,2.0,,,,,,,,,,,,,\n")
        file.write("CheXpert-v1.0-small/train/oops.jpg,Male,50,Lateral,,1.0,,,,,,,,,,,,,\n")
        file.write(f"CheXpert-v1.0-small/train/{view(1)},Male,50,Lateral,,1.0,,,,,,,,,,,,,\n")
    image(stanford / "train" / view(99))
    found, said = manifest("chexpert", stanford)
    assert len(found) == 11
    assert found.to_pylist()[7]["labels"] == []
    assert [(kind, file, row) for kind, file, row, _ in said] == [
        ("odd_value", "train.csv", 9),
        ("unreadable_row", "train.csv", 10),
        ("unlisted_image", "view1_frontal.jpg", None),
        ("duplicate_id", "train.csv", 11),
        ("missing_image", "train.csv", 9),
    ]


def test_chexpert_with_one_label_file_and_with_none(stanford):
    (stanford / "valid.csv").unlink()
    found, said = manifest("chexpert", stanford)
    assert len(found) == 7
    assert [detail for kind, _, _, detail in said if kind == "missing_label_file"] == [f"valid.csv, below {stanford}"]
    (stanford / "train.csv").unlink()
    with pytest.raises(UserError, match=r"has no train.csv \(or .gz\); found: no label file at all"):
        manifest("chexpert", stanford)
    table(stanford / "train.csv", ["Path", "Edema"], [["x", 1]])
    with pytest.raises(UserError, match=r"has no column No Finding; expected the 14 labels of CheXpert"):
        manifest("chexpert", stanford)


def kept_of_chexpert(root: Path) -> list[str]:
    """The rows that the protocol keeps, by a loop over both files."""
    kept = []
    for name in ("train", "valid"):
        with open(root / f"{name}.csv") as file:
            for row in csv.DictReader(file):
                cells = [float(row[c]) if row[c] else None for c in CHEXPERT if c != "Support Devices"]
                if cells.count(1.0) == 1 and (name == "valid" or -1.0 not in cells):
                    kept.append("chexpert/" + row["Path"].split("/", 1)[1])
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_chexpert_protocol_is_what_a_loop_keeps(tmp_path, seed):
    draw = random.Random(seed)
    cells = [
        [{c: draw.choice([1.0, 0.0, -1.0, 0.0]) for c in CHEXPERT if draw.random() < 0.25} for _ in range(60)]
        for _ in range(2)
    ]
    root = chexpert(
        tmp_path / "c",
        [(view(i), c) for i, c in enumerate(cells[0])],
        [(view(64_541 + i), c) for i, c in enumerate(cells[1])],
    )
    found, _ = manifest("chexpert", root, **PROTOCOL)
    assert ids(found) == kept_of_chexpert(root)
    assert 20 < len(found) < 100


# --- MIMIC-CXR-JPG -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["gz", "plain"])
def boston(tmp_path, request) -> Path:
    found = [
        ("aa-01", "50000001", "10000032", "train"), ("aa-02", "50000001", "10000032", "train"), ("bb-01", "50000002", "10000032", "validate"),
        ("cc-01", "50000003", "11000001", "test"), ("dd-01", "50000009", "19000001", "train"),
    ]  # fmt: skip
    labels = {
        ("10000032", "50000001"): {"Edema": 1.0, "Pneumonia": -1.0},
        ("11000001", "50000003"): {"Edema": 1.0, "Fracture": 1.0, "Support Devices": 1.0},
        ("10000032", "50000002"): {"No Finding": 1.0, "Support Devices": 1.0},
    }
    return mimic(tmp_path / "mimic", found, labels, packed=request.param)


def test_mimic_keeps_all_rows_and_labels(boston):
    found, said = manifest("mimic-cxr", boston)
    assert rows(found, "patient_id", "study_id", "split", "labels") == [
        ("10000032", "50000001", "train", [f"{X}Edema"]),
        ("10000032", "50000001", "train", [f"{X}Edema"]),
        ("10000032", "50000002", "val", [f"{X}No Finding", f"{X}Support Devices"]),
        ("11000001", "50000003", "test", [f"{X}Edema", f"{X}Fracture", f"{X}Support Devices"]),
        ("19000001", "50000009", "train", []),
    ]
    assert ids(found)[2] == "mimic-cxr/files/p10/p10000032/s50000002/bb-01.jpg"
    assert all(Path(uri).exists() for uri in found["uri"].to_pylist())
    assert found["uncertain_labels"].to_pylist() == [[f"{X}Pneumonia"], [f"{X}Pneumonia"], [], [], []]
    assert [len(unknown) for unknown in found["unknown_labels"].to_pylist()] == [13, 13, 12, 11, 14]
    assert rows(found, "view_position", "rows", "performed_procedure_step_description", "view_code_sequence_code_meaning")[3] == ("PA", 3056, "CHEST (PA AND LAT)", "antero-posterior")  # fmt: skip
    assert [(kind, row) for kind, _, row, _ in said] == [("unlabeled_image", 6)]


def test_mimic_single_label_protocol(boston):
    found, _ = manifest("mimic-cxr", boston, **PROTOCOL)
    assert rows(found, "image_id", "labels", "other_labels") == [  # uncertain ones do not count here
        ("mimic-cxr/files/p10/p10000032/s50000001/aa-01.jpg", [f"{X}Edema"], []),
        ("mimic-cxr/files/p10/p10000032/s50000001/aa-02.jpg", [f"{X}Edema"], []),
        ("mimic-cxr/files/p10/p10000032/s50000002/bb-01.jpg", [f"{X}No Finding"], [f"{X}Support Devices"]),
    ]


def test_mimic_without_metadata_and_without_labels(boston):
    for file in boston.glob("*metadata*"):
        file.unlink()
    found, said = manifest("mimic-cxr", boston)
    assert "view_position" not in found.column_names
    assert "missing_label_file" in {kind for kind, *_ in said}
    for file in boston.glob("*chexpert*"):
        file.unlink()
    with pytest.raises(
        UserError, match=r"has no mimic-cxr-2.0.0-chexpert.csv \(or .gz\); found: mimic-cxr-2.0.0-split.csv"
    ):
        manifest("mimic-cxr", boston)


def test_mimic_a_truncated_label_file_is_named(boston):
    for file in boston.glob("*split.csv.gz"):
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(UserError, match=r"mimic-cxr-2.0.0-split.csv.gz is not a table that can be read"):
            manifest("mimic-cxr", boston)


# --- RadImageNet -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("CT/lung/Nodule", ("CT", "lung", "CT/lung/Nodule")),
        ("MR/af/Plantar_plate_tear", ("MR", "af", "MR/af/Plantar_plate_tear")),
        ("CT/abd/normal", ("CT", "abd", "CT/abd/normal")),
        ("US/thyroid_nodule", ("US", "thyroid", "US/thyroid/nodule")),
        ("US/thyroid", ("US", "thyroid", "US/thyroid/normal")),
        ("US/portal_vein", ("US", "portal_vein", "US/portal_vein/normal")),
        ("US/gb/stone", ("US", "gb", "US/gb/stone")),
        ("CT/lung", ("CT", "lung", None)),
    ],
)
def test_radimagenet_labels_are_paths(directory, expected):
    assert meaning(directory) == expected


PATHS = {
    "train": [
        "CT/lung/Nodule/lung1.png",
        "US/thyroid_nodule/usn1.png",
        "MR/brain/normal/brain7.png",
        "MR/knee/normal/brain7.png",
    ],
    "val": ["US/gb/usn2.png"],
    "test": ["CT/lung/Emphysema/lung2.png", "US/thyroid/usn3.png"],
}


@pytest.mark.parametrize("prefix", ["", "radiology_ai/", "/data/radiology_ai/"])
def test_radimagenet_keeps_all_rows(tmp_path, prefix):
    root = radimagenet(tmp_path / "r", PATHS, prefix=prefix)
    found, said = manifest("radimagenet", root)
    assert said == []
    assert rows(found, "image_id", "split", "modality", "region", "labels") == [
        ("radimagenet/CT/lung/Nodule/lung1.png", "train", "CT", "lung", ["CT/lung/Nodule"]),
        ("radimagenet/US/thyroid_nodule/usn1.png", "train", "US", "thyroid", ["US/thyroid/nodule"]),
        ("radimagenet/MR/brain/normal/brain7.png", "train", "MR", "brain", ["MR/brain/normal"]),
        ("radimagenet/MR/knee/normal/brain7.png", "train", "MR", "knee", ["MR/knee/normal"]),
        ("radimagenet/US/gb/usn2.png", "val", "US", "gb", ["US/gb/normal"]),
        ("radimagenet/CT/lung/Emphysema/lung2.png", "test", "CT", "lung", ["CT/lung/Emphysema"]),
        ("radimagenet/US/thyroid/usn3.png", "test", "US", "thyroid", ["US/thyroid/normal"]),
    ]
    assert all(Path(uri).exists() for uri in found["uri"].to_pylist())
    assert len(manifest("radimagenet", root, **PROTOCOL)[0]) == 7


def test_radimagenet_images_with_two_labels(tmp_path):
    twice = {
        "train": [
            "CT/lung/Nodule/lung1.png",
            "CT/lung/Emphysema/lung1.png",
            "US/thyroid/u.png",
            "MR/brain/normal/b.png",
        ],
        "test": ["US/thyroid_nodule/u.png", "MR/spine/normal/b.png"],
    }
    found, said = manifest("radimagenet", radimagenet(tmp_path / "r", twice))
    assert len(found) == 6
    assert [(file, row) for kind, file, row, _ in said if kind == "two_labels"] == [
        ("RadiologyAI_train.csv", 2), ("RadiologyAI_train.csv", 3), ("RadiologyAI_train.csv", 4), ("RadiologyAI_test.csv", 2),
    ]  # fmt: skip
    single, _ = manifest("radimagenet", tmp_path / "r", **PROTOCOL)
    assert ids(single) == ["radimagenet/MR/brain/normal/b.png", "radimagenet/MR/spine/normal/b.png"]


def test_radimagenet_a_path_listed_twice_with_two_labels_in_a_column(tmp_path):
    root = radimagenet(tmp_path / "r", {"test": ["CT/lung/Nodule/z.png"]})
    table(root / "RadiologyAI_train.csv", ["filename", "label", "patient_id"], [["CT/lung/Nodule/a.png", "x", "p1"], ["CT/lung/Nodule/a.png", "y", "p1"], ["CT/lung/Nodule/b.png", "x", "p2"], ["CT/lung/Nodule/b.png", "x", "p2"]])  # fmt: skip
    found, said = manifest("radimagenet", root)
    assert rows(found, "image_id", "patient_id")[:2] == [
        ("radimagenet/CT/lung/Nodule/a.png", "p1"),
        ("radimagenet/CT/lung/Nodule/b.png", "p2"),
    ]
    assert [(kind, row) for kind, _, row, _ in said if kind != "missing_image"] == [("two_labels", 2), ("two_labels", 3), ("duplicate_id", 3), ("duplicate_id", 5)]  # fmt: skip
    single, _ = manifest("radimagenet", root, **PROTOCOL)
    assert ids(single) == ["radimagenet/CT/lung/Nodule/b.png", "radimagenet/CT/lung/Nodule/z.png"]


def test_radimagenet_what_is_odd_is_named(tmp_path):
    root = radimagenet(tmp_path / "r", PATHS, ignored=["radiology_ai/US/gb/usn2.png", "CT/nowhere/x.png"])
    (root / "MR" / "brain" / "normal" / "brain7.png").unlink()
    image(root / "CT" / "lung" / "Nodule" / "extra.png")
    with open(root / "RadiologyAI_train.csv", "a") as file:
        file.write("oops.png\nCT/lung/bare.png\n")
    (root / "RadiologyAI_val.csv").unlink()
    found, said = manifest("radimagenet", root)
    assert len(found) == 7
    assert {(kind, file, row) for kind, file, row, _ in said} == {
        ("missing_label_file", None, None),
        ("unreadable_row", "RadiologyAI_train.csv", 6),
        ("odd_value", "RadiologyAI_train.csv", 7),
        ("missing_image", "RadiologyAI_train.csv", 4),
        ("missing_image", "RadiologyAI_train.csv", 7),
        ("unlisted_image", "extra.png", None),
        ("unlisted_image", "usn2.png", None),
    }
    table(root / "RadiologyAI_val.csv", ["filename"], [["US/gb/usn2.png"]])
    _, said = manifest("radimagenet", root)
    assert ("left_out", "RadiologyAI_val.csv", 2, "US/gb/usn2.png: in ignore_list.txt") in said


def test_radimagenet_protocol_is_what_a_loop_keeps(tmp_path):
    draw = random.Random(5)
    labels = ["CT/lung/a", "CT/lung/b", "CT/abd/a", "MR/af/a", "US/thyroid", "US/thyroid_nodule", "US/gb"]
    listed = {
        split: list(dict.fromkeys(f"{draw.choice(labels)}/{draw.randrange(40)}.png" for _ in range(50)))
        for split in ("train", "val", "test")
    }
    listed["val"] = [p for p in listed["val"] if p not in listed["train"]]
    listed["test"] = [p for p in listed["test"] if p not in listed["train"] + listed["val"]]
    known: dict[tuple, set] = {}
    for path in itertools.chain(*listed.values()):
        parts = path.split("/")
        region = "thyroid" if parts[1].startswith("thyroid") else parts[1]
        known.setdefault((parts[0], region, parts[-1]), set()).add("/".join(parts[:-1]))
    single = {f"{path}/{name}" for (_, _, name), paths in known.items() if len(paths) == 1 for path in paths}
    found, _ = manifest("radimagenet", radimagenet(tmp_path / "r", listed, files=False), **PROTOCOL)
    assert ids(found) == [f"radimagenet/{p}" for p in itertools.chain(*listed.values()) if p in single]


# --- what all four share -----------------------------------------------------------------------------------------------


def test_equal_findings_have_equal_names_across_the_sets(nih, stanford, boston):
    sets = [set(itertools.chain(*manifest(source, root)[0]["labels"].to_pylist())) for source, root in (("nih14", nih), ("chexpert", stanford), ("mimic-cxr", boston))]  # fmt: skip
    assert f"{X}No Finding" in sets[0] & sets[1] & sets[2]
    assert f"{X}Edema" in sets[1] & sets[2]
    from cbmir.datasets.chexpert_labels import COUNTED
    from cbmir.datasets.nih14 import FINDINGS, label

    union = {label(f) for f in FINDINGS} | set(COUNTED)
    assert len(FINDINGS) == 15
    assert len(COUNTED) == 13
    assert len(union) == 20  # the paper's chest labels


@pytest.mark.parametrize("source", ["nih14", "chexpert", "mimic-cxr", "radimagenet"])
def test_an_id_does_not_depend_on_where_the_collection_lies(source, nih, stanford, boston, tmp_path):
    root = {"nih14": nih, "chexpert": stanford, "mimic-cxr": boston}.get(source) or radimagenet(tmp_path / "r", PATHS)
    before = ids(manifest(source, root)[0])
    moved = root.rename(tmp_path / "moved to")
    assert ids(manifest(source, moved)[0]) == before
    with pytest.raises(UserError, match=r"no directory or file .*nowhere"):
        manifest(source, tmp_path / "nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["nih14", "chexpert", "mimic-cxr", "radimagenet"])
def test_each_goes_through_the_whole_run(source, tmp_path):
    if source == "nih14":
        root = nih14(
            tmp_path / "d",
            [(f"{i:08d}_000.png", NIH[i % 3], i) for i in range(30)],
            test=[f"{i:08d}_000.png" for i in range(0, 30, 3)],
        )
    elif source == "chexpert":
        root = chexpert(
            tmp_path / "d",
            [(view(i), {CHEXPERT[i % 3]: 1.0}) for i in range(20)],
            [(view(64_541 + i), {CHEXPERT[i % 3]: 1.0}) for i in range(10)],
        )
    elif source == "mimic-cxr":
        listed = [(f"d{i}", f"5{i:07d}", f"1{i:07d}", ("train", "validate", "test")[i % 3]) for i in range(30)]
        root = mimic(tmp_path / "d", listed, {(p, s): {CHEXPERT[i % 4]: 1.0} for i, (_, s, p, _) in enumerate(listed)})
    else:
        root = radimagenet(
            tmp_path / "d",
            {s: [f"CT/lung/{'ab'[i % 2]}/{s}{i}.png" for i in range(10)] for s in ("train", "val", "test")},
        )
    study = run_whole(source, root, study=tmp_path / "study", flags=("--protocol", "denner2024"))
    assert study.require("manifest")["rows"] == 30
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 30
