"""--every N: of each volume the slices 0, N, 2N ..., whatever the source; along every axis against the arrays themselves."""

import nibabel
import numpy as np
import pyarrow as pa
import pytest

from cbmir.cli import main
from cbmir.datasets.thinning import every_nth
from cbmir.errors import UserError
from cbmir.images.read import read_image
from cbmir.store import Study
from tests.image_files import nifti
from tests.series import put, put_stack
from tests.sources import manifest, rows, run_whole

RNG = np.random.default_rng(11)


def grey(uri: str) -> np.ndarray:
    return read_image(uri)[:, :, 0]


# --- rows ------------------------------------------------------------------------------------------------------------


def thin(slices: list[tuple], every: int) -> tuple[list[tuple], list[str]]:
    """(dataset, volume, slice) a row -> those that are kept, and the notes."""
    names = ("dataset", "volume_id", "slice")
    columns = [
        pa.array(column, kind)
        for column, kind in zip(zip(*slices, strict=True), ("string", "string", "int32"), strict=True)
    ]
    notes: list[str] = []
    kept = every_nth(pa.table(columns, names=names), every, notes)
    return rows(kept, *names), notes


@pytest.mark.parametrize("every", [2, 3, 5, 100])
def test_every_nth_slice_of_each_volume(every):
    given = [("d", volume, n) for volume, count in (("a", 7), ("b", 1), ("c", 12)) for n in range(count)]
    shuffled = [given[i] for i in RNG.permutation(len(given))]
    kept, notes = thin(shuffled, every)
    assert kept == [row for row in shuffled if row[2] % every == 0]
    assert {volume for _, volume, _ in kept} == {"a", "b", "c"}
    assert notes == [f"one of {every} slices of each volume: {len(kept)} of 20 rows kept"]


def test_slices_are_counted_from_the_lowest_by_their_numbers():
    """Of 3, 4, 6, 7, 9 every third from 3 on; of 10, 20 the first; the same name in two datasets is two volumes."""
    given = [("d", "a", n) for n in (7, 3, 9, 4, 6)] + [("d", "b", 20), ("d", "b", 10), ("e", "a", 1), ("e", "a", 2)]
    assert thin(given, 3)[0] == [("d", "a", 3), ("d", "a", 9), ("d", "a", 6), ("d", "b", 10), ("e", "a", 1)]


def test_what_is_in_no_volume_or_has_no_number_is_kept():
    given = [("d", None, None), ("d", None, 1), ("d", "a", None), ("d", "a", 0), ("d", "a", 1), (None, "a", 5)]
    assert thin(given, 4)[0] == [row for row in given if row != ("d", "a", 1)]


def test_rows_without_volumes_are_refused():
    with pytest.raises(UserError, match="--every 4: none of the rows is a slice of a volume; leave it out"):
        thin([("d", None, 1), ("d", "a", None)], 4)


# --- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("every", [1, 2, 3, 9])
def test_nifti(tmp_path, axis, every):
    """A volume whose file stores its axes in another order and direction; a volume in time."""
    volume = RNG.integers(0, 255, (5, 6, 8), np.uint8)
    affine = np.array([[0, 0, -2.0, 3], [1.5, 0, 0, 1], [0, -1, 0, 2], [0, 0, 0, 1]])
    (tmp_path / "a.nii.gz").write_bytes(nifti(volume, affine=affine, packed=True))
    times = RNG.integers(0, 255, (4, 5, 6, 2), np.uint8)
    nibabel.save(nibabel.Nifti1Image(times, np.eye(4)), tmp_path / "b.nii")
    turned = np.asarray(nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz")).dataobj)
    table, said = manifest("nifti", tmp_path, axis=axis, every=every)
    expected = [(f"{tmp_path.name}/a.nii.gz", n, turned.take(n, axis)) for n in range(0, turned.shape[axis], every)]
    for t in range(2):
        expected += [
            (f"{tmp_path.name}/b.nii@{t}", n, times[..., t].take(n, axis)) for n in range(0, times.shape[axis], every)
        ]
    assert rows(table, "volume_id", "slice") == [(volume, n) for volume, n, _ in expected]
    for uri, (_, _, plane) in zip(table["uri"].to_pylist(), expected, strict=True):
        np.testing.assert_array_equal(grey(uri), plane[::-1, ::-1].T)
    assert said == []


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("every", [1, 2, 4])
def test_medmnist(tmp_path, axis, every):
    volumes = RNG.integers(0, 255, (3, 5, 4, 6), np.uint8)
    np.savez(tmp_path / "nodulemnist3d.npz", test_images=volumes, test_labels=np.array([[1], [0], [1]]))
    table, _ = manifest("medmnist", tmp_path / "nodulemnist3d.npz", axis=axis, every=every)
    expected = [(v, n) for v in range(3) for n in range(0, volumes.shape[1 + axis], every)]
    assert rows(table, "volume_id", "slice") == [(f"nodulemnist3d/test/{v}", n) for v, n in expected]
    for uri, (v, n) in zip(table["uri"].to_pylist(), expected, strict=True):
        np.testing.assert_array_equal(grey(uri), volumes[v].take(n, axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_published_file_of_volumes(shared, axis):
    """AdrenalMNIST3D at 64 pixels: every 40th slice of each of 1,584 volumes."""
    path = shared / "data" / "npz" / "adrenalmnist3d_64.npz"
    table, said = manifest("medmnist", path, axis=axis, every=40)
    assert (table.num_rows, set(table["slice"].to_pylist()), said) == (2 * 1584, {0, 40}, [])
    with np.load(path) as arrays:
        images = arrays["val_images"]
    for image, uri in [pair for pair in rows(table, "image_id", "uri") if "/val/" in pair[0]][:6]:
        row, _, number = image.rpartition("/")[2].partition("#")
        np.testing.assert_array_equal(grey(uri), images[int(row)].take(int(number), axis))


def test_dicom_as_acquired_and_along_an_axis(tmp_path):
    volume = RNG.integers(0, 255, (7, 4, 6), np.uint8)
    put_stack(tmp_path / "d", volume, names="gbfadce")
    put(tmp_path / "d" / "radiograph", series="1.2.9", Modality="DX")
    put(tmp_path / "d" / "xcine", volume[:5], series="1.2.8", NumberOfFrames=5, SOPInstanceUID="1.2.7")
    table, said = manifest("dicom", tmp_path / "d", every=3, deidentify=False)
    assert sorted(rows(table, "volume_id", "slice", "image_id"), key=str) == sorted(
        [("d/1.2.3", 0, "d/g"), ("d/1.2.3", 3, "d/a"), ("d/1.2.3", 6, "d/e"), (None, None, "d/radiograph"),
         ("d/1.2.7", 0, "d/xcine#0"), ("d/1.2.7", 3, "d/xcine#3")], key=str
    )  # fmt: skip
    for uri, number in rows(table, "uri", "slice"):
        if number is not None:
            np.testing.assert_array_equal(grey(uri), volume[number])
    table, _ = manifest("dicom", tmp_path / "d", every=3, axis=0)
    assert sorted(n for n in table["slice"].to_pylist() if n is not None) == [0, 0, 3, 3]
    assert said == []


def test_a_table_of_slices(tmp_path):
    lines = [f"{v}{n}.png,{v},{n},{'test' if v == 'b' else 'train'}" for v in "ab" for n in range(1, 8)] + [
        "c.png,,,val"
    ]
    (tmp_path / "t.csv").write_text("path,volume_id,slice,split\n" + "\n".join(lines) + "\n")
    table, said = manifest("csv", tmp_path / "t.csv", every=3)
    assert [i.rpartition("/")[2] for i in table["image_id"].to_pylist()] == [
        "a1.png", "a4.png", "a7.png", "b1.png", "b4.png", "b7.png", "c.png",
    ]  # fmt: skip
    assert [kind for kind, *_ in said] == ["missing_image"] * 7  # of the rows that are kept


def test_the_drawn_split_is_that_of_the_whole_source(tmp_path):
    for n in range(20):
        (tmp_path / f"{n}.nii").write_bytes(nifti(np.zeros((2, 2, 6), np.uint8)))
    splits = [set(rows(manifest("nifti", tmp_path, every=every)[0], "volume_id", "split")) for every in (1, 4)]
    assert splits[0] == splits[1]
    assert len(splits[0]) == 20


# --- as a person asks ------------------------------------------------------------------------------------------------


def test_the_commands_option_is_told_and_recorded(tmp_path, capsys):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.nii").write_bytes(nifti(np.zeros((4, 5, 12), np.uint8)))
    given = ["manifest", "nifti", str(tmp_path / "v"), "--study"]
    assert main([*given, str(tmp_path / "all")]) == 0
    assert main([*given, str(tmp_path / "s"), "--every", "5"]) == 0
    said = capsys.readouterr().out
    assert "note: one of 5 slices of each volume: 3 of 12 rows kept" in said
    study = Study(str(tmp_path / "s"))
    assert study.dataset("manifest").to_table()["slice"].to_pylist() == [0, 5, 10]
    assert study.require("manifest")["parameters"]["every"] == 5
    assert "every" not in Study(str(tmp_path / "all")).require("manifest")["parameters"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("0", "--every 0; expected 1 (every slice of a volume) or more"),
        ("-2", "--every -2; expected 1 (every slice of a volume) or more"),
        ("2", "--every 2: none of the rows is a slice of a volume; leave it out"),
    ],
)
@pytest.mark.parametrize("command", ["manifest", "run"])
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, command, flag, message):
    put(tmp_path / "d" / "a", Modality="DX")
    more = ["--encoder", "pixels32"] if command == "run" else []
    assert main([command, "dicom", str(tmp_path / "d"), "--study", str(tmp_path / "s"), "--every", flag, *more]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "s" / "manifest").exists()


def test_one_changes_nothing_where_there_is_no_volume(tmp_path):
    put(tmp_path / "d" / "a", Modality="DX")
    assert manifest("dicom", tmp_path / "d", every=1)[0].num_rows == 1


def test_a_run_over_every_other_slice(ray_session, tmp_path):
    for n in range(3):
        path = tmp_path / "d" / "ab"[n % 2] / f"{n}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(nifti(RNG.integers(0, 255, (6, 6, 5), np.uint8)))
    study = run_whole("nifti", tmp_path / "d", study=tmp_path / "study", flags=("--every", "2"))
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 9
