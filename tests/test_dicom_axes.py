"""dicom --axis: series cut along the patient's axes, against nibabel's own reorientation; grey scale, refusals, object stores."""

import itertools
import shutil
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.images import dicom_volume
from cbmir.images.errors import ImageError
from cbmir.images.facts import facts
from cbmir.images.read import read_image
from cbmir.querying.inputs import from_arguments
from cbmir.store import Study
from tests.series import AXIAL, CORONAL, FLAT, SAGITTAL, plain, put, put_at, put_stack
from tests.sources import failures, rows, run_whole
from tests.test_nifti import PLACES, SEEN

RNG = np.random.default_rng(7)
VOLUME = RNG.integers(0, 255, (5, 4, 6), np.uint8)  # slices, rows, columns
NAMES = ["d", "a", "e", "b", "c"]


def grey(uri: str) -> np.ndarray:
    return read_image(uri)[:, :, 0]


def affine_of(orientation, places: np.ndarray, spacing=(1.0, 1.0)) -> np.ndarray:
    """(column, row, slice) -> right, anterior, superior in mm, after PS3.3 C.7.6.2.1.1 and nibabel's notes on DICOM."""
    affine = np.eye(4)
    affine[:3, 0] = np.array(orientation[:3]) * spacing[1]
    affine[:3, 1] = np.array(orientation[3:]) * spacing[0]
    affine[:3, 2] = (places[-1] - places[0]) / (len(places) - 1)
    affine[:3, 3] = places[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def canonical(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(slices, rows, columns) -> (x, y, z), by nibabel."""
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine)
    return np.asarray(nibabel.as_closest_canonical(image).dataobj)


# --- which way up ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", list(itertools.product([1, -1], repeat=2)), ids=str)
@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL, (0, 1, 0, 1, 0, 0)], ids=["ax", "cor", "sag", "ax turned"])
def test_landmarks_are_seen_where_radiologists_look_for_them(tmp_path, plane, flips):
    """A point in a cube of 11 voxels from -1 to 1, scanned in any plane: the same places as in a NIfTI volume."""
    across, down = np.array(plane[:3]) * flips[0], np.array(plane[3:]) * flips[1]
    normal = np.cross(across, down)
    for landmark, place in PLACES.items():
        point = np.array(place) * [-1, -1, 1]  # left, posterior, superior
        column_at, row_at, slice_at = (int(np.round(direction @ point * 5 + 5)) for direction in (across, down, normal))
        volume = np.zeros((11, 11, 11), np.uint8)
        volume[slice_at, row_at, column_at] = 255
        names = [f"{(n * 7) % 11:02d}" for n in range(11)]
        put_stack(tmp_path / landmark, volume, (*across.tolist(), *down.tolist()), names=names)
        for axis in [axis for axis in SEEN if landmark in SEEN[axis]]:
            table, _ = plain(tmp_path / landmark, axis=axis)
            found = np.argwhere(grey(table["uri"][5].as_py()) == 255)
            assert len(found) == 1
            assert tuple(np.sign(found[0] - 5)) == SEEN[axis][landmark], (landmark, axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "plane",
    [
        AXIAL,
        SAGITTAL,
        CORONAL,
        (-1, 0, 0, 0, 1, 0),
        (0, -1, 0, 0, 0, 1),
        (0.96, 0.28, 0, 0, 0, -1),
        (0.8, 0, 0.6, 0, 1, 0),
    ],
    ids=str,
)
def test_slices_are_nibabels(tmp_path, plane, axis):
    put_stack(tmp_path / "d", VOLUME, plane, names=NAMES)
    table, said = plain(tmp_path / "d", axis=axis)
    normal = np.cross(plane[:3], plane[3:])
    expected = canonical(VOLUME, affine_of(plane, np.array([normal * n * 2.5 for n in range(5)])))
    assert rows(table, "image_id", "volume_id", "slice", "uri") == [
        (f"d/d#{n}", "d/1.2.3", n, f"{tmp_path}/d/d#axis={axis}&slice={n}&files=5") for n in range(expected.shape[axis])
    ]
    for n, uri in enumerate(table["uri"].to_pylist()):
        np.testing.assert_array_equal(grey(uri), expected.take(n, axis)[::-1, ::-1].T)
    assert said == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_public_series_along_every_axis(shared, axis):
    """An oblique MR of 16 bits without a window, against pydicom's pixels and nibabel's reorientation."""
    root = shared / "data" / "dicom" / "mr_t1_series"
    files = [pydicom.dcmread(path) for path in root.iterdir()]
    orientation = [float(v) for v in files[0].ImageOrientationPatient]
    normal = np.cross(orientation[:3], orientation[3:])
    files.sort(key=lambda file: float(normal @ [float(v) for v in file.ImagePositionPatient]))
    places = np.array([[float(v) for v in file.ImagePositionPatient] for file in files])
    stored = np.stack([file.pixel_array for file in files]).astype(np.float64)
    spacing = tuple(map(float, files[0].PixelSpacing))
    shown = canonical(np.round((stored - stored.min()) * 255 / np.ptp(stored)), affine_of(orientation, places, spacing))
    table, said = plain(root, axis=axis)
    assert table.num_rows == shown.shape[axis]
    assert said == []
    uris = table["uri"].to_pylist()
    for n in {0, 7, len(uris) // 2, len(uris) - 1}:
        np.testing.assert_array_equal(grey(uris[n]), shown.take(n, axis)[::-1, ::-1].T)


# --- grey scale ------------------------------------------------------------------------------------------------------


def column_of(root: Path) -> np.ndarray:
    """A level of each slice, from superior to inferior: the posterior column of a sagittal image."""
    table, _ = plain(root, axis=0)
    return grey(table["uri"][0].as_py())[:, -1]


def test_all_slices_have_one_window_and_each_its_own_slope(tmp_path):
    """Levels as stored times their slice's slope, then the middle slice's window: 0..100 to 0..255 (PS3.3 C.11.2.1.3.2)."""
    for n, (slope, center) in enumerate([(1, 1000), (2, 50), (4, -3)]):
        how = {"WindowCenter": center, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}
        values = np.full((2, 2), 20, np.uint16)
        put_at(tmp_path / "d" / str(n), n, AXIAL, values, RescaleSlope=slope, RescaleIntercept=0, **how)
    assert column_of(tmp_path / "d").tolist() == [204, 102, 51]  # 80, 40, 20 of 100


def test_without_a_window_the_volumes_own_range_counts_and_padding_does_not(tmp_path):
    for n, level in enumerate([100, 300, 500]):
        values = np.array([[level, 9999], [level, level]], np.uint16)
        put_at(tmp_path / "d" / str(n), n, AXIAL, values, PixelPaddingValue=9999)
    assert column_of(tmp_path / "d").tolist() == [255, 128, 0]
    padded = grey(plain(tmp_path / "d", axis=2)[0]["uri"][2].as_py())
    assert padded.tolist() == [[255, 0], [255, 255]]


def test_monochrome1_is_inverted(tmp_path):
    for n, level in enumerate([0, 10, 40]):
        put_at(
            tmp_path / "d" / str(n), n, AXIAL, np.full((2, 2), level, np.uint8), PhotometricInterpretation="MONOCHROME1"
        )
    assert column_of(tmp_path / "d").tolist() == [215, 245, 255]


def test_compressed_slices(tmp_path):
    from pydicom.uid import RLELossless

    from tests.image_files import dicom, dicom_bytes

    for n, name in enumerate(NAMES):
        header = {
            "SeriesInstanceUID": "1.2.3",
            "ImagePositionPatient": [0, 0, n],
            "ImageOrientationPatient": list(AXIAL),
        }
        path = tmp_path / "d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(dicom_bytes(dicom(VOLUME[n], **header), RLELossless))
    table, _ = plain(tmp_path / "d", axis=2)
    for n, uri in enumerate(table["uri"].to_pylist()):
        np.testing.assert_array_equal(grey(uri), VOLUME[n])


# --- what is in a volume ---------------------------------------------------------------------------------------------


def test_what_is_no_volume_stays_as_it_is(tmp_path):
    put_stack(tmp_path / "d", VOLUME, names=NAMES)
    radiograph = put(tmp_path / "d" / "x", series="1.2.9", Modality="DX")
    cine = put(tmp_path / "d" / "y", np.stack([FLAT] * 2), series="1.2.8", NumberOfFrames=2, SOPInstanceUID="1.2.7")
    table, said = plain(tmp_path / "d", axis=1)
    assert rows(table, "image_id", "uri", "slice")[4:] == [
        ("d/x", str(radiograph), None),
        ("d/y#0", f"{cine}#frame=0", 0),
        ("d/y#1", f"{cine}#frame=1", 1),
    ]
    assert [i for (i,) in rows(table, "image_id")[:4]] == [f"d/d#{n}" for n in range(4)]
    assert said == []


def test_gaps_and_several_slices_at_one_place(tmp_path):
    """Of two at one place the first by instance number is shown; a gap stays as it is."""
    for n, (z, number) in enumerate([(0, 1), (1, 5), (1, 2), (2, 3), (9, 4)]):
        put_at(tmp_path / "d" / str(n), z, AXIAL, np.full((2, 2), n, np.uint8), InstanceNumber=number)
    table, said = plain(tmp_path / "d", axis=2)
    assert [grey(uri)[0, 0] for uri in table["uri"].to_pylist()] == [0, 2, 3, 4]
    assert [(kind, detail.rpartition("; ")[2]) for kind, *_, detail in said] == [
        ("gap_in_series", "6 slices seem to be missing"),
        ("same_position", "of each the first by instance number is taken"),
    ]


def test_sizes_and_orientations_of_one_directory_are_volumes_of_their_own(tmp_path):
    other = RNG.integers(0, 255, (3, 2, 2), np.uint8)
    put_stack(tmp_path / "d", VOLUME, names=NAMES)
    put_stack(tmp_path / "d", other, SAGITTAL, names=["x", "z", "y"])
    put_stack(tmp_path / "d", other[::-1], names=["3", "1", "2"], series="1.2.4")
    (tmp_path / "d" / "notes").write_text("no DICOM")
    (tmp_path / "d" / "broken").write_bytes((tmp_path / "d" / "a").read_bytes()[:200])
    table, _ = plain(tmp_path / "d", axis=2)
    found: dict = {}
    for volume, uri in rows(table, "volume_id", "uri"):
        found.setdefault(volume, []).append(grey(uri))
    assert {name: len(images) for name, images in found.items()} == {"d/1.2.3/1": 5, "d/1.2.3/0": 2, "d/1.2.4": 3}
    np.testing.assert_array_equal(found["d/1.2.3/1"], VOLUME)
    np.testing.assert_array_equal(found["d/1.2.4"], other[::-1])
    normal = np.cross(SAGITTAL[:3], SAGITTAL[3:])
    expected = canonical(other, affine_of(SAGITTAL, np.array([normal * n for n in range(3)])))
    np.testing.assert_array_equal(found["d/1.2.3/0"], [expected[:, :, n][::-1, ::-1].T for n in range(2)])


def test_a_series_in_two_directories_is_two_volumes(tmp_path):
    put_stack(tmp_path / "d" / "one", VOLUME, names=NAMES)
    put_stack(tmp_path / "d" / "one" / "two", VOLUME[::-1], names=NAMES)
    shutil.copy(tmp_path / "d" / "one" / "a", tmp_path / "d" / "one" / ".hidden")
    table, said = plain(tmp_path / "d", axis=2)
    found = {volume: [] for volume in table["volume_id"].to_pylist()}
    for volume, uri in rows(table, "volume_id", "uri"):
        found[volume].append(grey(uri))
    np.testing.assert_array_equal([found["d/1.2.3/0"], found["d/1.2.3/1"]], [VOLUME, VOLUME[::-1]])
    assert said == [("mixed_series", "a", None, "2 directories: 2 volumes")]


def test_a_directory_within_another_root_is_a_volume_twice(tmp_path):
    put_stack(tmp_path / "d" / "one", VOLUME, names=NAMES)
    table, said = plain(tmp_path / "d", tmp_path / "d" / "one", axis=2)
    np.testing.assert_array_equal([grey(uri) for (uri,) in rows(table, "uri")], [*VOLUME, *VOLUME])
    assert len(set(table["volume_id"].to_pylist())) == 2
    assert said == [("mixed_series", "a", None, "2 directories: 2 volumes")]


def test_directions_that_mean_nothing_are_taken_as_they_are_stored(tmp_path):
    """Rows that go nowhere to six decimals, and yet positions that differ: columns, rows and slices are x, y and z."""
    for n in range(3):
        put_at(tmp_path / "d" / str(n), [0, 0, n * 1e6], (1, 0, 0, 0, 4e-7, 0), VOLUME[n])
    counts = [plain(tmp_path / "d", axis=axis)[0].num_rows for axis in range(3)]
    assert counts == [6, 4, 3]
    uri = plain(tmp_path / "d", axis=2)[0]["uri"][1].as_py()
    np.testing.assert_array_equal(grey(uri), VOLUME[1][::-1, ::-1])


def test_odd_names(tmp_path):
    names = ["a#frame=1", "b?x", "50% ü", "two words", "c#axis=1&slice=2"]
    put_stack(tmp_path / "d # ?", VOLUME, names=names)
    table, _ = plain(tmp_path / "d # ?", axis=2)
    np.testing.assert_array_equal([grey(uri) for (uri,) in rows(table, "uri")], VOLUME)


def test_a_file_of_a_hand_written_address(tmp_path):
    put_stack(tmp_path, VOLUME, names=NAMES)
    for name in NAMES:  # any file of the volume stands for it
        np.testing.assert_array_equal(grey(f"{tmp_path}/{name}#axis=2&slice=3"), VOLUME[3])
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "a", tmp_path / "one" / "a")
    np.testing.assert_array_equal(grey(f"{tmp_path}/one/a#axis=2&slice=0"), VOLUME[1])  # a volume of one slice


def test_a_slice_is_an_image_to_whoever_asks(tmp_path):
    """Before a study `cbmir manifest check` looks at it, and `cbmir query` takes its address."""
    put_stack(tmp_path, VOLUME, names=NAMES)
    address = f"{tmp_path}/c#axis=1&slice=2"
    found = facts(address)
    assert (found.error, found.format, found.width, found.height, found.bit_depth) == (None, "DICOM", 6, 5, 8)
    assert [(query.uri, query.error) for query in from_arguments([address], say=print)] == [(address, None)]
    assert "slice=7" in facts(f"{tmp_path}/c#axis=1&slice=7x").error


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("axis=3&slice=0", "axis 3 of a volume; expected 0, 1 or 2"),
        ("axis=2&slice=5", "slice 5 of a volume with 5 slices"),
        ("axis=2&slice=-1", "slice -1 of a volume with 5 slices"),
        ("axis=2", "slice=None; expected a whole number"),
        ("slice=1", "a DICOM file has no part 'slice'; its parts: frame"),
        ("axis=2&slice=1&time=1", "a series of DICOM files has no part 'time'; its parts: axis, files, slice"),
        (
            "axis=2&slice=1&files=7",
            "5 files of the volume lie in the directory, 7 when it was listed; make the manifest anew",
        ),
    ],
)
def test_slices_that_are_not_there(tmp_path, part, message):
    put_stack(tmp_path, VOLUME, names=NAMES)
    with pytest.raises(ImageError, match=message):
        read_image(f"{tmp_path}/a#{part}")


def test_a_file_without_a_position_is_no_volume(tmp_path):
    put(tmp_path / "a")
    put(tmp_path / "b", np.stack([FLAT] * 2), NumberOfFrames=2)
    for name in "ab":
        with pytest.raises(ImageError, match="the file is no slice of a series: it has no position, or several frames"):
            read_image(f"{tmp_path}/{name}#axis=0&slice=0")


def test_a_slice_without_its_pixels_fails_the_whole_volume(tmp_path):
    put_stack(tmp_path / "d", VOLUME, names=NAMES)
    whole = (tmp_path / "d" / "b").read_bytes()
    (tmp_path / "d" / "b").write_bytes(whole[:-7])
    table, _ = plain(tmp_path / "d", axis=2)
    assert table.num_rows == 5
    for uri in table["uri"].to_pylist():
        with pytest.raises(ImageError, match=r"DICOM pixels cannot be read|the file ends"):
            read_image(uri)
    (tmp_path / "d" / "b").write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    table, said = plain(tmp_path / "d", axis=2)
    assert [kind for kind, *_ in said] == ["unreadable_file", "gap_in_series"]
    with pytest.raises(ImageError, match="1 of the 5 files of the volume have no pixels"):
        read_image(table["uri"][0].as_py())


def test_color_slices_are_refused(tmp_path):
    header = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    for n in range(3):
        put_at(tmp_path / str(n), n, AXIAL, np.zeros((2, 6), np.uint8), **(header | {"Columns": 2}))
    with pytest.raises(ImageError, match="slices in color; only grey ones are cut along the patient's axes"):
        read_image(f"{tmp_path}/0#axis=0&slice=0")


def test_an_axis_needs_volumes(tmp_path, capsys):
    put(tmp_path / "d" / "a", Modality="DX")
    with pytest.raises(UserError, match="--axis 1: none of the series is a volume; leave it out"):
        plain(tmp_path / "d", axis=1)
    assert main(["manifest", "dicom", str(tmp_path / "d"), "--axis", "1", "--study", str(tmp_path / "s")]) == 2
    assert not (tmp_path / "s").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_volume_that_would_fill_the_memory_is_refused_by_its_headers(tmp_path):
    for n in range(9):
        put_at(tmp_path / str(n), n, AXIAL, np.zeros((2, 2), np.uint8), Rows=11_000, Columns=11_000)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"a volume of 11000 x 11000 x 9 is larger than 2048 MiB"):
        read_image(f"{tmp_path}/0#axis=0&slice=0")
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


# --- read once, elsewhere, the whole way -----------------------------------------------------------------------------


def test_a_volume_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    put_stack(tmp_path / "d", VOLUME, names=NAMES)
    asked = []
    read = dicom_volume.files.read_bytes
    monkeypatch.setattr(dicom_volume.files, "read_bytes", lambda address: asked.append(address) or read(address))
    uris = plain(tmp_path / "d", axis=1)[0]["uri"].to_pylist()
    for uri in uris:
        grey(uri)
    assert sorted(asked) == sorted(f"{tmp_path}/d/{name}" for name in NAMES)
    put_at(tmp_path / "d" / "new", 100, AXIAL, VOLUME[0])
    with pytest.raises(ImageError, match="6 files of the volume lie in the directory, 5 when it was listed"):
        grey(uris[0])
    assert grey(uris[0].partition("&files")[0]).shape == (6, 6)


def test_a_series_on_an_object_store(s3, tmp_path):
    put_stack(tmp_path, VOLUME, names=NAMES)
    for name in NAMES:
        s3.put(f"my arch/s #1/{name} ü", (tmp_path / name).read_bytes())
    s3.put("my arch/s #1/notes", b"hello")
    table, _ = plain(s3.address("my arch"), axis=2)
    np.testing.assert_array_equal([grey(uri) for (uri,) in rows(table, "uri")], VOLUME)


def test_a_run_along_an_axis(ray_session, tmp_path):
    put_stack(tmp_path / "d", RNG.integers(0, 255, (6, 8, 8), np.uint8), names="cafbed")
    put_stack(tmp_path / "d", RNG.integers(0, 255, (4, 8, 8), np.uint8), names="1423", series="1.2.4", PatientID="q")
    cut = put_at(tmp_path / "e" / "a", 0, series="1.2.5")
    put_at(tmp_path / "e" / "b", 1, series="1.2.5")
    cut.write_bytes(cut.read_bytes()[:-5])
    flags = ("--axis", "1", "--every", "2", "--max-failures", "50%")
    study = run_whole("dicom", tmp_path / "d", tmp_path / "e", study=tmp_path / "study", flags=flags)
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 8
    assert {Path(uri.partition("#")[0]).parent.name for uri in failures(study)["uri"].to_pylist()} == {"e"}
    parameters = study.require("manifest")["parameters"]
    assert (parameters["axis"], parameters["every"]) == (1, 2)
    table = Study(study.address).dataset("manifest").to_table()
    assert sorted(table["slice"].to_pylist()) == sorted([0, 2, 4, 6] * 2 + [0, 2])
