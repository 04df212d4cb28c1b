"""dicom: which files are a volume, in which order; gaps, slices at one place and series of several planes are named."""

import random
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cbmir.cli import main
from cbmir.images.read import read_image
from cbmir.store import Study
from tests.series import AXIAL, CORONAL, FLAT, SAGITTAL, plain, put, put_at, put_stack
from tests.sources import manifest, rows

ALL_KEPT = "all are kept, by instance number"


def volumes(table) -> dict[str | None, list[str]]:
    """Volume -> names of its files in the order of their slices, which are 0, 1, 2 ...; None -> the files of no volume."""
    found: dict = {}
    for volume, number, image in rows(table, "volume_id", "slice", "image_id"):
        found.setdefault(volume, []).append((number, Path(image).name))
    for volume, slices in found.items():
        if volume is not None:
            assert sorted(n for n, _ in slices) == list(range(len(slices)))
            slices.sort()
    return {volume: [name for _, name in slices] for volume, slices in found.items()}


# --- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "orientation", [AXIAL, CORONAL, SAGITTAL, (-1, 0, 0, 0, 1, 0), (0.6, 0.8, 0, 0, 0, -1)], ids=str
)
def test_the_order_is_that_of_places_along_the_normal(tmp_path, orientation):
    """Slices far beside each other in the plane: only the way along the normal counts, also where it points downward."""
    rng = random.Random(2)
    names = [f"{i:02d}" for i in range(12)]
    rng.shuffle(names)
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(across, down)
    for n, name in enumerate(names):
        place = normal * 3 * n + across * rng.uniform(-200, 200) + down * rng.uniform(-200, 200)
        put_at(
            tmp_path / "d" / name, [round(float(v), 9) for v in place], orientation, InstanceNumber=rng.randrange(99)
        )
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {"d/1.2.3": names}
    assert said == []


def test_a_normal_that_points_down_reverses_the_order(tmp_path):
    for name, z in (("a", 0), ("b", 5), ("c", 10)):
        put_at(tmp_path / "up" / name, z, AXIAL, series="1.2.1")
        put_at(tmp_path / "down" / name, z, (1, 0, 0, 0, -1, 0), series="1.2.2")
    assert volumes(plain(tmp_path / "up")[0]) == {"up/1.2.1": ["a", "b", "c"]}
    assert volumes(plain(tmp_path / "down")[0]) == {"down/1.2.2": ["c", "b", "a"]}


def test_the_public_series_is_in_the_order_of_its_positions(shared):
    root = shared / "data" / "dicom" / "mr_t1_series"
    table, said = plain(root)
    expected = {}
    for path in root.iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        across, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3))
        expected[path.name] = float(np.cross(across, down) @ [float(v) for v in header.ImagePositionPatient])
    (found,) = volumes(table).values()
    assert found == sorted(expected, key=expected.get)
    assert len(found) == 24
    assert said == []  # every eighth slice: evenly spaced
    everything, said = plain(root.parent)
    assert set(table["volume_id"].to_pylist()) != {None}
    assert everything["volume_id"].null_count == everything.num_rows - 24
    assert said == []


# --- gaps ------------------------------------------------------------------------------------------------------------


def stack(root: Path, places: list[float], names: str = "hbgacdfe", **more) -> None:
    for place, name in zip(places, names, strict=False):
        put_at(root / name, place, **more)


def test_a_gap_is_named_once_with_its_place_and_size(tmp_path):
    stack(tmp_path / "d", [0, 2.5, 5, 12.5, 15])
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {"d/1.2.3": list("hbgac")}  # kept, and numbered without a gap
    assert said == [
        ("gap_in_series", "a", None, "5 slices, 1 gap: 7.5 mm between slices 2 and 3 where 2.5 mm are usual; 2 slices seem to be missing")
    ]  # fmt: skip


def test_several_gaps_are_one_remark(tmp_path):
    stack(tmp_path / "d", [0, 3, 5, 6, 7, 8, 9, 13])
    (remark,) = plain(tmp_path / "d")[1]
    assert remark == (
        "gap_in_series", "b", None,
        "8 slices, 3 gaps: first 3 mm between slices 0 and 1 where 1 mm are usual; 6 slices seem to be missing",
    )  # fmt: skip


def test_a_gap_lies_between_slices_as_they_are_numbered(tmp_path):
    stack(tmp_path / "d", [0, 0, 0, 2, 4, 8])
    assert [remark[3] for remark in plain(tmp_path / "d")[1]] == [
        "6 slices, 1 gap: 4 mm between slices 4 and 5 where 2 mm are usual; 1 slice seems to be missing",
        f"6 slices at 4 positions; {ALL_KEPT}",
    ]


@pytest.mark.parametrize(
    ("places", "missing"),
    [([0, 2, 4, 7], None), ([0, 2, 4, 7.001], 1), ([0, 2, 4, 6, 10], 1), ([0, 100], None), ([-3, 0, 3.2, 6], None)],
)
def test_a_gap_is_more_than_one_and_a_half_of_the_usual_spacing(tmp_path, places, missing):
    stack(tmp_path / "d", places)
    said = plain(tmp_path / "d")[1]
    assert [kind for kind, *_ in said] == (["gap_in_series"] if missing else [])
    if missing:
        assert said[0][3].endswith("; 1 slice seems to be missing")


def test_a_lost_file_is_a_gap(shared, tmp_path):
    for path in sorted((shared / "data" / "dicom" / "mr_t1_series").iterdir()):
        if path.name != "N2D_0073.dcm":
            shutil.copy(path, tmp_path / path.name)
    assert plain(tmp_path)[1] == [
        ("gap_in_series", "N2D_0081.dcm", None,
         "23 slices, 1 gap: 10.67 mm between slices 8 and 9 where 5.333 mm are usual; 1 slice seems to be missing")
    ]  # fmt: skip


# --- slices at one place ---------------------------------------------------------------------------------------------


def test_slices_at_one_place_are_kept_and_named(tmp_path):
    for name, z, number in [("a", 5, 2), ("b", 0, 9), ("c", 5.0005, 1), ("d", 10, 4), ("e", 10, 3), ("f", 10, 5)]:
        put_at(tmp_path / "d" / name, z, InstanceNumber=number)
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {"d/1.2.3": list("bcaedf")}
    assert said == [("same_position", "a", None, f"6 slices at 3 positions; {ALL_KEPT}")]


def test_a_micrometer_is_one_place_and_two_are_not(tmp_path):
    stack(tmp_path / "one", [0, 0.0009, 1])
    stack(tmp_path / "two", [0, 0.002, 1], series="1.2.4")
    assert [kind for kind, *_ in plain(tmp_path / "one")[1]] == ["same_position"]
    assert [kind for kind, *_ in plain(tmp_path / "two")[1]] == ["gap_in_series"]


def test_doubles_do_not_make_a_gap(tmp_path):
    stack(tmp_path / "d", [0, 0, 0, 0, 5, 10])
    assert [kind for kind, *_ in plain(tmp_path / "d")[1]] == ["same_position"]


def test_images_at_one_place_alone_are_no_volume(tmp_path):
    stack(tmp_path / "d", [3, 3, 3.0002])
    table, said = plain(tmp_path / "d")
    assert list(volumes(table)) == [None]
    assert said == []


# --- one slice -------------------------------------------------------------------------------------------------------


def test_a_series_of_one_slice_is_an_image_on_its_own(tmp_path):
    path = put_at(tmp_path / "d" / "one", 7)
    stack(tmp_path / "d", [0, 1], names="xy", series="1.2.9")
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {None: ["one"], "d/1.2.9": ["x", "y"]}
    assert (table["uri"][0].as_py(), table["slice"][0].as_py()) == (str(path), None)
    assert said == []


# --- series that are not one volume ----------------------------------------------------------------------------------


def localizer(root: Path, names: str, **more) -> None:
    """Three sagittal, three axial and three coronal slices, toward left, superior and posterior, under so many names."""
    files = iter(names)
    for orientation, axis in ((SAGITTAL, 0), (AXIAL, 2), (CORONAL, 1)):
        for n in range(3):
            put_at(root / next(files), [10 * n if i == axis else 0 for i in range(3)], orientation, **more)


def test_a_localizer_is_a_volume_of_each_plane(tmp_path):
    localizer(tmp_path / "d", "igdebhcaf")
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {
        "d/1.2.3/0": ["d", "g", "i"],  # sagittal, (0, 1, 0, 0, 0, -1): its normal points to the right
        "d/1.2.3/1": ["c", "a", "f"],  # coronal, (1, 0, 0, 0, 0, -1): to posterior
        "d/1.2.3/2": ["e", "b", "h"],  # axial, (1, 0, 0, 0, 1, 0): to superior
    }
    assert said == [("mixed_series", "a", None, "3 orientations: 3 volumes")]
    assert set(table["series_id"].to_pylist()) == {"1.2.3"}


def test_names_of_volumes_do_not_depend_on_names_of_files(tmp_path):
    places = {}
    for root, names in (("one", "abcdefghi"), ("two", "ihgfedcba")):
        localizer(tmp_path / root / "d", names)
        table, _ = plain(tmp_path / root / "d")
        places[root] = {}
        for volume, number, uri in rows(table, "volume_id", "slice", "uri"):
            header = pydicom.dcmread(uri, stop_before_pixels=True)
            where = (*header.ImagePositionPatient, *header.ImageOrientationPatient)
            places[root][tuple(map(float, where))] = (volume, number)
    assert places["one"] == places["two"]
    assert len(places["one"]) == 9


def test_single_views_of_a_mixed_series_are_images_on_their_own(tmp_path):
    put_at(tmp_path / "d" / "a", 0, AXIAL)
    put_at(tmp_path / "d" / "b", 4, SAGITTAL)
    table, said = plain(tmp_path / "d")
    assert list(volumes(table)) == [None]
    assert said == [("mixed_series", "a", None, "2 orientations: 2 images on their own")]
    put_at(tmp_path / "d" / "c", 1, AXIAL)
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {None: ["b"], "d/1.2.3/1": ["a", "c"]}
    assert said == [("mixed_series", "a", None, "2 orientations: 1 volume, 1 image on its own")]


def test_slices_of_other_sizes_are_volumes_of_their_own(tmp_path):
    wide = np.zeros((4, 6), np.uint8)
    for n, name in enumerate("dacb"):
        put_at(tmp_path / "d" / f"{name}1", n)
        put_at(tmp_path / "d" / f"{name}2", n + 0.5, values=wide)
        put_at(tmp_path / "d" / f"{name}3", n, values=wide.T)
    table, said = plain(tmp_path / "d")
    assert volumes(table) == {f"d/1.2.3/{i}": [f"{name}{k}" for name in "dacb"] for i, k in enumerate((1, 2, 3))}
    assert said == [("mixed_series", "a1", None, "3 sizes: 3 volumes")]


def test_orientations_and_sizes_may_both_differ(tmp_path):
    for n in range(2):
        put_at(tmp_path / "d" / f"a{n}", n)
        put_at(tmp_path / "d" / f"b{n}", [n, 0, 0], SAGITTAL, values=FLAT[:2])
    assert plain(tmp_path / "d")[1] == [("mixed_series", "a0", None, "2 orientations and 2 sizes: 2 volumes")]


def test_orientations_that_differ_in_the_last_digits_are_one(tmp_path):
    """Also where the digits lie on both sides of a rounding: 0.0005 and 0.00050001."""
    for n, tilt in enumerate((0.0005, 0.00050001, 0.0004999, 0.0, 0.0009, -0.00001)):
        put_at(tmp_path / "one" / str(n), n * 5, (1, tilt, 0, -tilt, 1, 0))
    for n, tilt in enumerate((0, 0, 0.02, 0.02)):
        put_at(tmp_path / "two" / str(n), n * 5, (1, 0, 0, 0, 1, tilt))
    assert volumes(plain(tmp_path / "one")[0]) == {"one/1.2.3": list("012345")}
    assert [kind for kind, *_ in plain(tmp_path / "two")[1]] == ["mixed_series"]


def test_gaps_and_doubles_are_looked_for_within_each_volume(tmp_path):
    stack(tmp_path / "d", [0, 1, 2, 9], names="abcd")
    for n, x in enumerate((0, 1, 1, 2)):
        put_at(tmp_path / "d" / f"s{n}", [x, 0, 0], SAGITTAL)
    said = plain(tmp_path / "d")[1]
    assert [(kind, file) for kind, file, *_ in said] == [
        ("mixed_series", "a"),
        ("same_position", "s2"),
        ("gap_in_series", "d"),
    ]


def test_hashed_names_of_a_taken_apart_series_stay_apart(tmp_path):
    localizer(tmp_path / "d", "abcdefghi")
    first, _ = manifest("dicom", tmp_path / "d")
    again, said = manifest("dicom", tmp_path / "d")
    names = first["volume_id"].to_pylist()
    assert len(set(names)) == 3
    assert all(len(name) == len("d/") + 20 and "1.2.3" not in name for name in names)
    assert names == again["volume_id"].to_pylist()
    assert "1.2.3" not in str(said)


# --- as a person asks ------------------------------------------------------------------------------------------------


def test_the_command_tells_what_is_odd(tmp_path, capsys):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (5, 4, 4), np.uint8)
    put_stack(tmp_path / "d", picture, names=["4", "1", "3", "0", "2"])
    stack(tmp_path / "d", [0, 1, 2, 12], names="abcd", series="1.2.4")
    localizer(tmp_path / "e", "abcdefghi", series="1.2.6")
    put(tmp_path / "d" / "radiograph", series="1.2.5", Modality="DX")
    study = tmp_path / "study"
    assert main(["manifest", "dicom", str(tmp_path / "d"), str(tmp_path / "e"), "--study", str(study)]) == 0
    said = capsys.readouterr().out
    assert "remark: 1 x mixed_series (" in said
    assert "remark: 1 x gap_in_series (" in said
    table = Study(str(study)).dataset("manifest").to_table()
    by_uri = {Path(uri).name: n for uri, n in rows(table, "uri", "slice") if Path(uri).name in "01234"}
    assert by_uri == {"4": 0, "1": 1, "3": 2, "0": 3, "2": 4}
    for uri, n in rows(table, "uri", "slice"):
        if Path(uri).name in "01234":
            np.testing.assert_array_equal(read_image(uri)[:, :, 0], picture[n])
