"""dicom: trees in any layout, what is no image, volumes and their order, ids, object stores. Privacy: test_dicom_privacy."""

import hashlib
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ComprehensiveSRStorage, DeflatedExplicitVRLittleEndian, generate_uid

from cbmir.datasets.dicom_codes import PLAIN, body_part
from cbmir.datasets.dicom_files import Problem, Worker, examine, examine_all
from cbmir.errors import UserError
from cbmir.images.dicom_header import Header
from cbmir.images.read import read_image
from cbmir.querying.volume_inputs import volumes_from_arguments
from tests.image_files import dicom, dicom_bytes, enhanced, written
from tests.sources import SALT, failures, manifest, rows, run_whole

FLAT = np.arange(16, dtype=np.uint8).reshape(4, 4)
AXIAL = [1, 0, 0, 0, 1, 0]


def put(path: Path, values: np.ndarray = FLAT, **header) -> Path:
    """A DICOM file with a header as asked; identifiers that are not given are new."""
    ids = {"PatientID": "p", "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "Modality": "CT"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom_bytes(dicom(values, **(ids | header))))
    return path


def put_slice(path: Path, series: str, z: float | None, number: int | None = None, **header) -> Path:
    where = {} if z is None else {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": AXIAL}
    if number is not None:
        where["InstanceNumber"] = number
    return put(path, SeriesInstanceUID=series, **(where | header))


def plain(*roots, **options):
    """Manifest with ids as they are."""
    return manifest("dicom", *roots, deidentify=False, **options)


def report(path: Path, **header) -> Path:
    """A structured report: DICOM without pixels."""
    data = dicom(FLAT, Modality="SR", SOPClassUID=ComprehensiveSRStorage, **header)
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(data, name)
    path.write_bytes(dicom_bytes(data))
    return path


# --- what a header gives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "word"),
    [("CR", "XR"), ("DX", "XR"), ("RG", "XR"), ("IO", "XR"), ("PX", "XR"), ("OPT", "OCT")]
    + [(code, code) for code in ("MG", "CT", "MR", "US", "PT", "NM", "XA", "RF", "OT", "SC", "SEG")],
)
def test_modalities_in_plain_words(tmp_path, code, word):
    table, said = manifest("dicom", put(tmp_path / "d" / "a", Modality=code).parent)
    assert (table["modality"].to_pylist(), said) == ([word], [])
    assert set(PLAIN.values()) == {"XR", "OCT"}


def test_what_a_row_holds(tmp_path):
    put(tmp_path / "arch" / "a" / "x.dcm", PatientID=" P 1 ", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4",
        Modality="DX", BodyPartExamined="CHEST")  # fmt: skip
    table, said = plain(tmp_path / "arch")
    (row,) = table.drop_columns("image_key").to_pylist()
    split = row.pop("split")
    assert split in ("train", "val", "test")
    assert row == {
        "image_id": "arch/a/x.dcm", "uri": f"{tmp_path}/arch/a/x.dcm", "dataset": "arch", "patient_id": "P 1",
        "study_id": "1.2.3", "series_id": "1.2.4", "modality": "XR", "region": "chest", "labels": [],
        "unknown_labels": [], "volume_id": None, "slice": None,
    }  # fmt: skip
    assert said == []


def test_a_header_that_says_nothing(tmp_path):
    put(tmp_path / "d" / "a", PatientID="", StudyInstanceUID="", SeriesInstanceUID="", Modality="", BodyPartExamined="")
    table, said = plain(tmp_path / "d")
    assert rows(table, "patient_id", "study_id", "series_id", "modality", "region") == [
        (None, None, None, "unknown", "unknown")
    ]
    assert said == []


BODY_PARTS = ("CHEST", "Abdomen", "HEADNECK", "CHESTABDPELVIS", "C-SPINE", "L SPINE", "LSSPINE", "LEFT KNEE", "WHOLEBODY", "CHEST PA",
              "NECKCHESTABDOMEN", "HAND_L", "CIRCLEOFWILLIS", "TMJ", "BREAST", "HEAD/NECK")  # fmt: skip
NAMES = ("SOMEBODY", "MR. HANDYSIDE", "CHEST DOE", "KNEE 19700131", "HEAD^JOHN", "L", "KNIÉ", "-", "CHESTER")


@pytest.mark.parametrize("text", BODY_PARTS + NAMES)
def test_body_parts_pass_only_in_words_that_name_no_person(text):
    passed = text.lower().replace("/", " ")
    assert body_part(text, any_text=False) == (passed if text in BODY_PARTS else None)
    assert body_part(text, any_text=True) == passed


def test_words_that_might_name_a_person_are_not_passed_on(tmp_path):
    path = put(tmp_path / "d" / "a", BodyPartExamined="LEFT KNEE TODAY ")
    path.write_bytes(path.read_bytes().replace(b"LEFT KNEE TODAY ", b"knee of Mr. X, Y"))
    put(tmp_path / "d" / "b", BodyPartExamined="CHEST", Modality="DOE")
    table, said = manifest("dicom", tmp_path / "d")
    assert rows(table, "modality", "region") == [("CT", "unknown"), ("unknown", "chest")]
    end = "is no word that DICOM has for one; taken as unknown, as it might name a person"
    assert said == [("odd_value", "a", None, f"the body part {end}"), ("odd_value", "b", None, f"the modality {end}")]
    table, said = plain(tmp_path / "d")
    assert rows(table, "modality", "region") == [("CT", "knee of mr. x, y"), ("DOE", "chest")]
    assert said == []


def test_set_goes_before_the_header(tmp_path):
    put(tmp_path / "d" / "a", BodyPartExamined="CHEST")
    table, _ = plain(tmp_path / "d", constants={"region": "lung", "labels": "x", "dataset": "D"})
    assert rows(table, "image_id", "region", "labels") == [("D/a", "lung", ["CT/lung/x"])]


# --- which files are meant -------------------------------------------------------------------------------------------


def test_files_of_any_name_and_depth_and_what_is_no_image(tmp_path):
    root = tmp_path / "arch"
    names = ["a.dcm", "b", "c/IM0001", "c/1.2.3.4.5", "c/d/e f#frame=1", "ünï.DCM", "x.txt"]
    for name in names:
        put(root / name)
    put(root / ".hidden" / "a")
    put(root / "DICOMDIR")  # passed over by its name
    (root / "README").write_text("about these files")
    (root / "list.csv").write_text("a,b\n1,2\n")
    (root / "empty.dcm").write_bytes(b"")
    report(root / "c" / "report.dcm")
    table, said = plain(root)
    assert sorted(table["image_id"].to_pylist()) == sorted(f"arch/{name}" for name in names)
    for image_id, uri in rows(table, "image_id", "uri"):
        assert uri.startswith(f"{root}/{image_id.removeprefix('arch/')}")
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], FLAT)
    assert said == [
        ("no_pixels", "report.dcm", None, "a DICOM file without an image (SR)"),
        ("other_file", "README", None, "3 files that are no DICOM: .csv 1, .dcm 1, without suffix 1"),
    ]


def test_a_directory_of_dicom_files_under_another_name(tmp_path):
    from pydicom.uid import MediaStorageDirectoryStorage

    put(tmp_path / "d" / "a")
    data = dicom(FLAT)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MediaStorageDirectoryStorage
    (tmp_path / "d" / "b").write_bytes(dicom_bytes(data))
    table, said = plain(tmp_path / "d")
    assert table["image_id"].to_pylist() == ["d/a"]
    assert [kind for kind, *_ in said] == ["other_file"]


@pytest.mark.parametrize("cut", [140, 200, 330, 500])
def test_files_cut_short_are_named_and_the_others_are_kept(tmp_path, cut):
    whole = put(tmp_path / "d" / "a")
    (tmp_path / "d" / "b").write_bytes(whole.read_bytes()[:cut])
    table, said = plain(tmp_path / "d")
    assert table["image_id"].to_pylist() == ["d/a"]
    assert [(kind, file) for kind, file, *_ in said] in ([("unreadable_file", "b")], [("no_pixels", "b")])


def test_a_file_that_ends_before_its_pixels_is_cut_short(tmp_path):
    whole = put(tmp_path / "d" / "a").read_bytes()
    (tmp_path / "d" / "b").write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    assert plain(tmp_path / "d")[1] == [("unreadable_file", "b", None, "the file ends before its 4 x 4 pixels")]


def test_pixels_cut_short_are_the_embeddings_business(tmp_path):
    whole = put(tmp_path / "d" / "a").read_bytes()
    (tmp_path / "d" / "b").write_bytes(whole[:-8])
    assert plain(tmp_path / "d")[0]["image_id"].to_pylist() == ["d/a", "d/b"]


def test_more_frames_than_a_file_can_hold_are_refused(tmp_path):
    put(tmp_path / "d" / "a")
    data = dicom(np.stack([FLAT] * 2), NumberOfFrames=2)
    data.NumberOfFrames = 999_999_999
    (tmp_path / "d" / "b").write_bytes(dicom_bytes(data))
    table, said = plain(tmp_path / "d")
    assert table.num_rows == 1
    assert said[0][:2] == ("unreadable_file", "b")
    assert said[0][3].startswith("the header promises 999,999,999 frames in ")


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "README").write_text("hello")
    with pytest.raises(UserError, match=r"the source holds no image; .*1 files that are no DICOM: without suffix 1"):
        plain(tmp_path)
    with pytest.raises(UserError, match=r"no directory or file .*/nowhere; expected a folder of DICOM files"):
        plain(tmp_path / "nowhere")


def test_the_same_instance_twice_is_named_and_both_are_kept(tmp_path):
    first = put(tmp_path / "d" / "a", SOPInstanceUID="1.2.3.4")
    shutil.copy(first, tmp_path / "d" / "b")
    table, said = plain(tmp_path / "d")
    assert table.num_rows == 2
    assert said == [("same_instance", "b", None, f"the same instance as {first}")]


def test_single_files_and_patterns(tmp_path):
    one, two = put(tmp_path / "d" / "a" / "1"), put(tmp_path / "d" / "b" / "2")
    assert plain(one)[0]["image_id"].to_pylist() == ["a/1"]
    assert plain(one, two)[0]["image_id"].to_pylist() == ["d/a/1", "d/b/2"]
    assert plain(f"{tmp_path}/d/*/2")[0]["image_id"].to_pylist() == ["d/b/2"]


# --- volumes ---------------------------------------------------------------------------------------------------------


def order(table) -> list[str]:
    """Names of a volume's files in the order of their slices, which are 0, 1, 2 ..."""
    found = sorted((s, Path(i).name) for s, i in rows(table, "slice", "image_id") if s is not None)
    assert [s for s, _ in found] == list(range(len(found)))
    return [name for _, name in found]


def test_slices_are_ordered_by_their_position_whatever_their_names_and_numbers(tmp_path):
    positions = [7.5, -10, 0, 2.5, 100, -0.5]
    for i, z in enumerate(positions):
        put_slice(tmp_path / "d" / f"{'cafbed'[i]}", "1.2.3", z, number=10 - i)
    table, said = plain(tmp_path / "d")
    assert order(table) == ["cafbed"[positions.index(z)] for z in sorted(positions)]
    assert set(table["volume_id"].to_pylist()) == {"d/1.2.3"}
    assert [kind for kind, *_ in said] == ["gap_in_series"]


def test_slices_of_equal_position_are_ordered_by_number_then_by_path(tmp_path):
    for name, z, number in [("a", 1, 4), ("b", 1, 3), ("d", 0, 9), ("c", 0, None), ("f", 2, 5), ("e", 2, 5)]:
        put_slice(tmp_path / "d" / name, "1.2.3", z, number=number)
    assert order(plain(tmp_path / "d")[0]) == ["c", "d", "b", "a", "e", "f"]


def test_an_oblique_series_is_ordered_along_its_own_normal(tmp_path):
    """Row and column directions (1, 0, 0) and (0, s, s): the normal is (0, -s, s), so growing y goes backwards."""
    s = 0.7071067811865476
    for name, place in {"a": [5, 0, 0], "b": [-5, 3, 0], "c": [0, -2, 0], "d": [1, -2, 1]}.items():
        put(tmp_path / "d" / name, SeriesInstanceUID="1.2.3", ImagePositionPatient=place,
            ImageOrientationPatient=[1, 0, 0, 0, s, s])  # fmt: skip
    assert order(plain(tmp_path / "d")[0]) == ["b", "a", "c", "d"]


def test_series_in_one_directory_are_volumes_of_their_own(tmp_path):
    for z in range(3):
        put_slice(tmp_path / "d" / f"{z}-a", "1.2.1", z)
        put_slice(tmp_path / "d" / f"{z}-b", "1.2.2", -z)
    table, _ = plain(tmp_path / "d")
    assert sorted(rows(table, "volume_id", "slice", "image_id")) == [
        ("d/1.2.1", 0, "d/0-a"), ("d/1.2.1", 1, "d/1-a"), ("d/1.2.1", 2, "d/2-a"),
        ("d/1.2.2", 0, "d/2-b"), ("d/1.2.2", 1, "d/1-b"), ("d/1.2.2", 2, "d/0-b"),
    ]  # fmt: skip


def test_views_of_a_radiograph_and_single_slices_are_no_volume(tmp_path):
    for view in "ab":
        put(tmp_path / "d" / view, SeriesInstanceUID="1.2.3", Modality="DX", InstanceNumber=1)
        put_slice(tmp_path / "d" / f"scout-{view}", "1.2.4", 5.0)  # two images at one place
    put_slice(tmp_path / "d" / "one", "1.2.5", 1.0)
    table, _ = plain(tmp_path / "d")
    assert table["volume_id"].null_count == table["slice"].null_count == table.num_rows == 5


def test_a_file_without_a_position_is_no_slice_of_its_series(tmp_path):
    for name, z in (("a", 1), ("b", None), ("c", 0)):
        put_slice(tmp_path / "d" / name, "1.2.3", z)
    table, _ = plain(tmp_path / "d")
    assert order(table) == ["c", "a"]
    assert table["volume_id"].null_count == 1


def test_frames_are_slices(tmp_path):
    frames = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4)
    first = put(tmp_path / "d" / "cine #1", frames, NumberOfFrames=3, SOPInstanceUID="1.2.9", Modality="US")
    shutil.copy(first, tmp_path / "d" / "copy")
    put(tmp_path / "d" / "still")
    table, said = plain(tmp_path / "d")
    assert rows(table, "image_id", "volume_id", "slice") == [
        *[(f"d/cine #1#{n}", "d/1.2.9", n) for n in range(3)],
        *[(f"d/copy#{n}", "d/copy", n) for n in range(3)],  # a copy is a volume of its own
        ("d/still", None, None),
    ]
    for uri, frame in zip(table["uri"].to_pylist(), [*frames, *frames, FLAT], strict=True):
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], frame)
    assert [kind for kind, *_ in said] == ["same_instance"]


def test_slices_of_an_enhanced_file_are_counted_along_the_patient(tmp_path):
    """The address names the frame as stored, the slice is its place; whoever asks with the file asks in that order."""
    file = written(tmp_path / "enhanced.dcm", enhanced([30, 10, 20]))
    table, _ = plain(tmp_path)
    found = sorted(zip(table["slice"].to_pylist(), table["uri"].to_pylist(), strict=True))
    assert [uri for _, uri in found] == [f"{file}#frame={n}" for n in (1, 2, 0)]
    assert [read_image(uri)[:, 0, 0].argmax() for _, uri in found] == [1, 2, 0]
    for asked in (file, str(tmp_path)):
        (query,) = volumes_from_arguments([asked], say=str)
        assert [image.uri for image in query.images] == [uri for _, uri in found]


def test_a_volume_stays_in_one_split_also_without_a_patient(tmp_path):
    for series in range(12):
        for z in range(3):
            put_slice(tmp_path / "d" / f"{series}-{z}", f"1.2.{series}", z, PatientID="", StudyInstanceUID="")
    table, _ = plain(tmp_path / "d")
    splits = {}
    for volume, split in rows(table, "volume_id", "split"):
        splits.setdefault(volume, set()).add(split)
    assert {len(found) for found in splits.values()} == {1}
    assert len(set().union(*splits.values())) > 1


# --- ids as hashes ---------------------------------------------------------------------------------------------------


def keyed(kind: str, text: str, salt: bytes = SALT) -> str:
    return hashlib.blake2b(f"{kind}\0{text}".encode(), key=salt, digest_size=10).hexdigest()


def test_ids_are_salted_hashes_unless_that_is_declined(tmp_path):
    put_slice(tmp_path / "d" / "a", "1.2.3", 0, PatientID="Q7", StudyInstanceUID="1.2.8")
    put_slice(tmp_path / "d" / "b", "1.2.3", 1, PatientID="Q7", StudyInstanceUID="1.2.8")
    put(tmp_path / "d" / "c", np.stack([FLAT] * 2), NumberOfFrames=2, SOPInstanceUID="1.2.9", PatientID="Q8")
    table, _ = manifest("dicom", tmp_path / "d")
    ids = ("image_id", "patient_id", "study_id", "series_id", "volume_id", "slice")
    assert rows(table, *ids)[:2] == [
        (f"d/{keyed('image_id', f'd/{name}')}", keyed("patient_id", "Q7"), keyed("study_id", "1.2.8"),
         keyed("series_id", "1.2.3"), f"d/{keyed('volume_id', 'd/1.2.3')}", n) for n, name in enumerate("ab")
    ]  # fmt: skip
    assert [row[0] for row in rows(table, *ids)[2:]] == [f"d/{keyed('image_id', 'd/c')}#{n}" for n in range(2)]
    assert rows(table, *ids)[2][4] == f"d/{keyed('volume_id', 'd/1.2.9')}"
    assert rows(plain(tmp_path / "d")[0], "patient_id")[0] == ("Q7",)


def test_one_salt_links_studies_and_another_does_not(tmp_path):
    from cbmir.cli import main
    from cbmir.store import Study

    put(tmp_path / "d" / "a", PatientID="Q7")
    put(tmp_path / "e" / "b", PatientID="Q7")
    (tmp_path / "salt").write_text("ab" * 32)

    def patient(root: str, study: str, *flags: str) -> str:
        assert main(["manifest", "dicom", str(tmp_path / root), "--study", str(tmp_path / study), *flags]) == 0
        return Study(str(tmp_path / study)).dataset("manifest").to_table()["patient_id"][0].as_py()

    salted = patient("d", "one", "--salt-file", str(tmp_path / "salt"))
    assert salted == keyed("patient_id", "Q7", bytes.fromhex("ab" * 32))
    assert patient("e", "two", "--salt-file", str(tmp_path / "salt")) == salted
    assert len({salted, patient("d", "three"), patient("e", "four")}) == 3  # a salt of each study's own
    assert patient("d", "five", "--no-deidentify") == "Q7"


# --- many files, object stores, the whole way ------------------------------------------------------------------------


def test_workers_find_what_this_process_finds(tmp_path, monkeypatch):
    for i in range(30):
        put_slice(tmp_path / f"{i} ünï.dcm", "1.2.3", i, PatientID=f"pä{i}", SpecificCharacterSet="ISO_IR 192")
    (tmp_path / "x").write_text("no DICOM")
    (tmp_path / "y").write_bytes((tmp_path / "0 ünï.dcm").read_bytes()[:300])
    addresses = [*sorted(map(str, tmp_path.iterdir())), str(tmp_path / "nowhere")]
    here = [examine(address) for address in addresses]
    assert {type(found) for found in here} == {Header, Problem}
    monkeypatch.setattr("cbmir.datasets.dicom_files.FEW", 4)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert list(examine_all(addresses)) == here


def test_a_worker_that_has_ended_loses_no_file(tmp_path):
    path = str(put(tmp_path / "a"))
    worker = Worker()
    try:
        assert worker.ask([path]) == [examine(path)]
        worker.child.kill()
        worker.child.wait()
        assert worker.ask([path, path]) == [examine(path)] * 2
    finally:
        worker.close()


def test_thousands_of_headers_a_second(tmp_path):
    """3,000 files of 3 kB, two workers: about 4,000 files a second on two cores."""
    whole = put_slice(tmp_path / "first", "1.2.3", 0).read_bytes()
    names = [tmp_path / "d" / f"{i % 10}" / str(i) for i in range(3000)]
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(whole)
    random.Random(0).shuffle(names)
    started = time.monotonic()
    assert plain(tmp_path / "d")[0].num_rows == 3000
    assert time.monotonic() - started < 60


def test_a_tree_on_an_object_store(s3, tmp_path):
    for z in range(3):
        s3.put(f"my arch/s/{z} #", put_slice(tmp_path / str(z), "1.2.3", -z).read_bytes())
    big = dicom(FLAT, PatientID="big", TextValue="x" * 500_000, SOPInstanceUID="1.2.7")
    s3.put("my arch/big", dicom_bytes(big))
    s3.put("my arch/cut", dicom_bytes(big)[:400_000])
    s3.put("my arch/frames", dicom_bytes(dicom(np.stack([FLAT] * 2), NumberOfFrames=2)))
    s3.put("my arch/notes.txt", b"hello")
    table, said = plain(s3.address("my arch"))
    assert [(i, s) for i, s in rows(table, "image_id", "slice")] == [
        ("my arch/big", None), ("my arch/frames#0", 0), ("my arch/frames#1", 1),
        ("my arch/s/0 #", 2), ("my arch/s/1 #", 1), ("my arch/s/2 #", 0),
    ]  # fmt: skip
    for uri in table["uri"].to_pylist():
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], FLAT)
    assert sorted(kind for kind, *_ in said) == ["other_file", "unreadable_file"]


def test_deflated_files(tmp_path):
    path = put(tmp_path / "d" / "a")
    path.write_bytes(dicom_bytes(dicom(FLAT, Modality="CT", PatientID="p"), DeflatedExplicitVRLittleEndian))
    assert rows(plain(tmp_path / "d")[0], "modality", "patient_id") == [("CT", "p")]


def test_a_run_over_a_tree(ray_session, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for z in range(5):
        put_slice(tmp_path / "arch" / f"{z}", "1.2.3", z, PatientID=f"{z % 2}").write_bytes(
            dicom_bytes(dicom(rng.integers(0, 255, (8, 8), np.uint8), Modality="CT", PatientID=f"{z % 2}"))
        )
    put(tmp_path / "arch" / "cine", rng.integers(0, 255, (3, 8, 8), np.uint8), NumberOfFrames=3)
    whole = put(tmp_path / "arch" / "cut").read_bytes()
    (tmp_path / "arch" / "cut").write_bytes(whole[:-9])
    report(tmp_path / "arch" / "report")
    study = run_whole("dicom", tmp_path / "arch", study=tmp_path / "study", flags=("--max-failures", "20%"))
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 8
    assert [Path(uri).name for uri in failures(study)["uri"].to_pylist()] == ["cut"]
    assert "1 x no_pixels" in capsys.readouterr().out
