"""nifti: volumes as slices along an axis, with window and time; labels from directories; broken files; object stores."""

import gzip

import nibabel
import numpy as np
import pytest

from cbmir.errors import UserError
from cbmir.images.read import read_image
from tests.image_files import nifti
from tests.sources import failures, manifest, rows, run_whole

SHAPE = (3, 4, 5)
VOLUME = np.arange(60, dtype=np.int16).reshape(SHAPE) * 10


def put(path, volume: np.ndarray = VOLUME, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(nifti(volume, packed=path.name.lower().endswith(".gz"), **how))
    return path


@pytest.mark.parametrize(("axis", "along"), [(None, 2), (0, 0), (1, 1), (2, 2)])
def test_a_volume_is_its_slices_along_an_axis(tmp_path, axis, along):
    path = put(tmp_path / "d" / "a.nii.gz")
    table, said = manifest("nifti", tmp_path / "d", axis=axis)
    assert rows(table, "image_id", "volume_id", "slice", "uri", "patient_id") == [
        (f"d/a.nii.gz#{n}", "d/a.nii.gz", n, f"{path}#axis={along}&slice={n}", None) for n in range(SHAPE[along])
    ]
    assert said == []
    for n, (uri,) in enumerate(rows(table, "uri")):
        plane = VOLUME.take(n, axis=along)[::-1, ::-1].T  # as a radiologist looks at it: tests/test_nifti.py
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], np.round(plane / 590 * 255))


def test_a_window_is_part_of_the_address(tmp_path):
    put(tmp_path / "d" / "a.nii")
    table, _ = manifest("nifti", tmp_path / "d", window=(40.0, 400.0))
    assert table["uri"].to_pylist() == [f"{tmp_path}/d/a.nii#axis=2&slice={n}&window=40,400" for n in range(5)]
    shown = np.clip((VOLUME[:, :, 1][::-1, ::-1].T + 160) / 400 * 255, 0, 255)
    np.testing.assert_array_equal(read_image(table["uri"][1].as_py())[:, :, 0], np.round(shown))
    odd = manifest("nifti", tmp_path / "d", window=(-1234567.25, 1e20))[0]["uri"][0].as_py()
    assert odd.endswith("&window=-1234567.25,1e20")
    assert read_image(odd).shape == (4, 3, 3)


def test_axes_are_the_patients_not_the_files(tmp_path):
    """A volume stored as (axial, sagittal, coronal): the axial axis has 3 slices."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 1, 1, 1, 1
    put(tmp_path / "d" / "a.nii", affine=affine)
    assert [manifest("nifti", tmp_path / "d", axis=axis)[0].num_rows for axis in range(3)] == [4, 5, 3]


def test_volumes_in_time_are_volumes_of_their_own(tmp_path):
    times = np.stack([VOLUME, VOLUME[::-1]], axis=3)
    nibabel.save(nibabel.Nifti1Image(times, np.eye(4)), tmp_path / "a.nii.gz")
    put(tmp_path / "b.nii")
    table, _ = manifest("nifti", tmp_path, axis=0, constants={"dataset": "D"})
    assert rows(table, "image_id", "volume_id", "slice") == [
        *[(f"D/a.nii.gz@{t}#{n}", f"D/a.nii.gz@{t}", n) for t in range(2) for n in range(3)],
        *[(f"D/b.nii#{n}", "D/b.nii", n) for n in range(3)],
    ]
    uris = table["uri"].to_pylist()
    assert uris[4] == f"{tmp_path}/a.nii.gz#axis=0&slice=1&time=1"
    for n in range(3):  # the second time is the first one from the other side
        np.testing.assert_array_equal(read_image(uris[3 + n]), read_image(uris[2 - n]))


def test_directories_are_split_and_label(tmp_path):
    put(tmp_path / "d" / "train" / "tumor" / "a.nii")
    put(tmp_path / "d" / "test" / "CT" / "Liver" / "cyst" / "b c.NII.GZ")
    table, _ = manifest("nifti", tmp_path / "d", constants={})
    assert sorted(set(map(str, rows(table, "split", "modality", "region", "labels")))) == [
        "('test', 'CT', 'liver', ['CT/liver/cyst'])",
        "('train', 'unknown', 'unknown', ['unknown/unknown/tumor'])",
    ]
    table, _ = manifest("nifti", f"{tmp_path}/d/**/*.nii", constants={"modality": "MR", "region": "brain"})
    assert table["labels"].to_pylist() == [["MR/brain/tumor"]] * 5


def test_slices_of_a_volume_stay_in_one_split(tmp_path):
    for n in range(30):
        put(tmp_path / "d" / f"{n}.nii")
    table, _ = manifest("nifti", tmp_path / "d")
    pairs = set(rows(table, "volume_id", "split"))
    assert len(pairs) == 30
    assert len({split for _, split in pairs}) > 1


def test_odd_names(tmp_path):
    for name in ("a#b.nii", "x#slice=1.nii.gz", "50% ü?.nii", "two words.nii"):
        put(tmp_path / "d # ?" / name)
    table, said = manifest("nifti", tmp_path / "d # ?", axis=1)
    assert table.num_rows == 16
    for n, uri in enumerate(table["uri"].to_pylist()):
        plane = VOLUME.take(n % 4, axis=1)[::-1, ::-1].T
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], np.round(plane / 590 * 255))
    assert said == []


def test_files_that_cannot_be_read_are_named_and_the_others_kept(tmp_path):
    whole = put(tmp_path / "a.nii").read_bytes()
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "header.nii").write_bytes(whole[:200])
    (tmp_path / "gzip.nii.gz").write_bytes(gzip.compress(whole)[:30])
    (tmp_path / "text.nii.gz").write_text("no volume")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "pair.hdr").write_bytes(whole)
    vast = nibabel.Nifti1Image(np.zeros((1, 1, 1, 1), np.uint8), np.eye(4)).header.copy()
    vast.set_data_shape((1, 1, 30_000, 30_000))
    vast["vox_offset"], vast["magic"] = 352, b"n+1"
    (tmp_path / "vast.nii").write_bytes(vast.binaryblock + bytes(4))
    table, said = manifest("nifti", tmp_path)
    assert set(table["volume_id"].to_pylist()) == {f"{tmp_path.name}/a.nii"}
    assert [(kind, file) for kind, file, *_ in said] == [
        ("other_file", "notes.txt"),
        *[("unreadable_file", name) for name in ("empty.nii", "gzip.nii.gz", "header.nii", "text.nii.gz", "vast.nii")],
    ]
    assert said[0][3] == "2 files that are no .nii or .nii.gz: .hdr 1, .txt 1"
    assert said[-1][3] == "the header promises 30,000 x 1 x 1 x 30000 voxels in 352 bytes"


def test_a_folder_without_volumes_is_refused(tmp_path):
    with pytest.raises(UserError, match="the source holds no image"):
        manifest("nifti", tmp_path)
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(UserError, match=r"the source holds no image; .*a\.nii: the file ends within its header"):
        manifest("nifti", tmp_path)
    with pytest.raises(UserError, match=r"no directory or file .*/x; expected a folder of NIfTI volumes"):
        manifest("nifti", tmp_path / "x")


def test_volumes_on_an_object_store(s3, tmp_path):
    for name in ("train/a b.nii.gz", "test/c#.nii"):
        s3.put(f"vol umes/{name}", nifti(VOLUME, packed=name.endswith("gz")))
    s3.put("vol umes/test/cut.nii", nifti(VOLUME)[:100])
    table, said = manifest("nifti", s3.address("vol umes"), axis=0)
    assert [(kind, detail) for kind, *_, detail in said] == [("unreadable_file", "the file ends within its header")]
    assert set(rows(table, "volume_id", "split")) == {
        ("vol umes/train/a b.nii.gz", "train"), ("vol umes/test/c#.nii", "test")
    }  # fmt: skip
    for uri, n in rows(table, "uri", "slice"):
        plane = VOLUME[n][::-1, ::-1].T
        np.testing.assert_array_equal(read_image(uri)[:, :, 0], np.round(plane / 590 * 255))


def test_a_run_over_volumes(ray_session, tmp_path):
    rng = np.random.default_rng(0)
    for n in range(3):
        put(tmp_path / "d" / "ab"[n % 2] / f"{n}.nii.gz", rng.integers(-200, 300, (6, 6, 4)).astype(np.int16))
    cut = put(tmp_path / "d" / "a" / "cut.nii")
    cut.write_bytes(cut.read_bytes()[:-4])
    flags = ("--axis", "1", "--window", "40,400", "--max-failures", "50%")
    study = run_whole("nifti", tmp_path / "d", study=tmp_path / "study", flags=flags)
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 18
    assert {uri.partition("#")[0] for uri in failures(study)["uri"].to_pylist()} == {str(cut)}
