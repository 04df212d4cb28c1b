"""NIfTI volumes: which way up a slice is, what its grey levels mean, and files that are broken."""

import gzip
import itertools
import tracemalloc

import nibabel
import numpy as np
import pytest

from cbmir.images import nifti as reader
from cbmir.images.errors import ImageError
from cbmir.images.nifti import volume_shape
from cbmir.images.read import read_image
from tests.image_files import nifti

PLACES = {"right": (0.9, 0, 0), "left": (-0.9, 0, 0), "front": (0, 0.9, 0), "back": (0, -0.9, 0), "top": (0, 0, 0.9), "bottom": (0, 0, -0.9)}  # fmt: skip
# canonical axis -> where a landmark of the patient is seen: (row, column), -1 first, 1 last
SEEN = {
    2: {"front": (-1, 0), "back": (1, 0), "right": (0, -1), "left": (0, 1)},
    1: {"top": (-1, 0), "bottom": (1, 0), "right": (0, -1), "left": (0, 1)},
    0: {"top": (-1, 0), "bottom": (1, 0), "front": (0, -1), "back": (0, 1)},
}


def scanned(
    landmark: str, directions: tuple, order: tuple[int, int, int], size: int = 11
) -> tuple[np.ndarray, np.ndarray]:
    """A scan of a point in the patient (x right, y front, z top, each -1..1), stored with any order and direction of axes."""
    affine = np.eye(4)
    linear = np.zeros((3, 3))
    for stored, world in enumerate(order):
        linear[world, stored] = directions[stored] * 2 / (size - 1)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ np.full(3, (size - 1) / 2)
    voxel = np.round(np.linalg.inv(affine) @ np.array([*PLACES[landmark], 1]))[:3].astype(int)
    volume = np.zeros((size,) * 3, np.uint8)
    volume[tuple(voxel)] = 255
    return volume, affine


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("directions", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_landmarks_are_seen_where_radiologists_look_for_them(tmp_path, axis, order, directions):
    for landmark, (row, column) in SEEN[axis].items():
        volume, affine = scanned(landmark, directions, order)
        path = tmp_path / f"{landmark}.nii"
        path.write_bytes(nifti(volume, affine=affine))
        image = read_image(f"{path}#axis={axis}&slice=5")[:, :, 0]
        found = np.argwhere(image == 255)
        assert len(found) == 1
        assert tuple(np.sign(found[0] - 5)) == (row, column), landmark


def test_slices_are_counted_from_left_back_and_bottom(tmp_path):
    for axis, landmark in ((0, "left"), (1, "back"), (2, "bottom")):
        volume, affine = scanned(landmark, (-1, -1, -1), (2, 0, 1))
        (tmp_path / "a.nii").write_bytes(nifti(volume, affine=affine))
        reader._last.clear()
        levels = [read_image(f"{tmp_path}/a.nii#axis={axis}&slice={i}").max() for i in range(11)]
        assert [i for i, level in enumerate(levels) if level] in ([0], [1])


def test_the_shape_of_every_axis_comes_from_the_header(tmp_path):
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 1, -1, 1, 1  # stored as z, x, y
    (tmp_path / "a.nii.gz").write_bytes(nifti(np.zeros((4, 5, 6), np.int16), affine=affine, packed=True))
    assert volume_shape(str(tmp_path / "a.nii.gz")) == ((5, 6, 4), 1)
    image = nibabel.Nifti2Image(np.zeros((2, 3, 4, 7), np.float32), np.eye(4))
    nibabel.save(image, tmp_path / "b.nii")
    assert volume_shape(str(tmp_path / "b.nii")) == ((2, 3, 4), 7)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "<u1", "<i4", "<u2"])
def test_slices_are_nibabels_values_through_a_window(tmp_path, kind, dtype):
    rng = np.random.default_rng(3)
    stored = rng.integers(0, 200, (5, 6, 7)).astype(dtype)
    image = kind(stored, np.diag([-2.0, 3.0, 1.0, 1.0]))
    image.set_data_dtype(np.dtype(dtype))
    image.header.set_slope_inter(1, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz")).get_fdata()
    for axis in range(3):
        for index in range(canonical.shape[axis]):
            values = np.take(canonical, index, axis)[::-1, ::-1].T
            expected = np.round(np.clip((values - 50) * 255.0 / 100, 0, 255))
            found = read_image(f"{tmp_path}/a.nii.gz#axis={axis}&slice={index}&window=100,100")
            np.testing.assert_array_equal(found[:, :, 1], expected)


def test_volumes_in_time(tmp_path):
    series = np.stack([np.full((3, 4, 5), t, np.uint8) for t in (10, 20, 30)], axis=3)
    (tmp_path / "a.nii").write_bytes(nifti(series))
    assert [read_image(f"{tmp_path}/a.nii#slice=1&time={t}")[0, 0, 0] for t in (2, 0, 1)] == [30, 10, 20]
    with pytest.raises(ImageError, match="time 3 of a file with 3 volumes"):
        read_image(f"{tmp_path}/a.nii#slice=1&time=3")


def test_all_slices_of_a_volume_have_one_scale(tmp_path):
    volume = np.zeros((4, 4, 3), np.int16)
    volume[:, :, 1], volume[:, :, 2] = 100, 400
    (tmp_path / "a.nii").write_bytes(nifti(volume))
    assert [read_image(f"{tmp_path}/a.nii#slice={i}").max() for i in range(3)] == [0, 64, 255]


def test_the_headers_own_display_range_comes_before_the_volumes(tmp_path):
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2) * 100, np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = 0, 1400
    nibabel.save(image, tmp_path / "a.nii")
    assert read_image(f"{tmp_path}/a.nii#slice=1").max() == 128
    assert read_image(f"{tmp_path}/a.nii#slice=1&window=350,700").max() == 255


def test_what_is_not_finite_is_black(tmp_path):
    volume = np.array([0, 1, np.nan, np.inf, -np.inf, 2], np.float32).reshape(6, 1, 1)
    (tmp_path / "a.nii").write_bytes(nifti(volume))
    assert read_image(f"{tmp_path}/a.nii#slice=0")[0, :, 0].tolist() == [255, 0, 0, 0, 128, 0]
    (tmp_path / "b.nii").write_bytes(nifti(volume * np.float32(np.nan)))
    with pytest.raises(ImageError, match="no voxel of the volume is finite"):
        read_image(f"{tmp_path}/b.nii#slice=0")


def test_a_packed_volume_is_unpacked_once_for_all_its_slices(tmp_path, monkeypatch):
    (tmp_path / "a.nii.gz").write_bytes(nifti(np.zeros((8, 8, 20), np.uint8), packed=True))
    opened = []
    real = reader.unpacked
    monkeypatch.setattr(reader, "unpacked", lambda location: opened.append(location) or real(location))
    for i in range(20):
        read_image(f"{tmp_path}/a.nii.gz#slice={i}")
    assert len(opened) == 1


# --- broken ------------------------------------------------------------------------------------------------------------


def damaged(what: str) -> bytes:
    """A volume of 8 x 8 x 8 int16, broken."""
    whole = bytearray(nifti(np.ones((8, 8, 8), np.int16)))
    if what == "cut":
        return bytes(whole[:-1])
    if what == "header cut":
        return bytes(whole[:200])
    if what == "huge":
        whole[40:56] = np.array([3, 32767, 32767, 32767, 1, 1, 1, 1], "<i2").tobytes()
    if what == "negative":
        whole[42:44] = np.array([-5], "<i2").tobytes()
    if what == "type":
        whole[70:72] = np.array([1999], "<i2").tobytes()
    if what == "complex":
        whole[70:74] = np.array([32, 64], "<i2").tobytes()
    if what == "pair":
        whole[344:348] = b"ni1\0"
    if what == "affine":
        whole[254:256] = np.array([1], "<i2").tobytes()  # sform_code
        whole[280:284] = np.array([np.nan], "<f4").tobytes()
    if what == "five axes":
        whole[40:56] = np.array([5, 2, 2, 2, 2, 32, 1, 1], "<i2").tobytes()
    return bytes(whole)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("cut", "the file ends within its voxels"),
        ("header cut", "the file ends within its header"),
        ("huge", "is larger than 2048 MiB"),
        ("negative", "broken|expected a volume"),
        ("type", "the NIfTI header is broken"),
        ("complex", "expected integers, floats or RGB"),
        ("pair", r"voxels lie in another file \(.hdr and .img\)"),
        ("affine", "affine is not finite"),
        ("five axes", "expected a volume, or volumes in time"),
    ],
)
def test_a_broken_volume_is_an_error_and_takes_no_memory(tmp_path, what, message, packed):
    data = damaged(what)
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    with pytest.raises(ImageError, match=message):
        read_image(f"{path}#slice=0")
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_packed_file_cut_short_and_one_with_a_bad_checksum(tmp_path):
    packed = nifti(np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.uint8), packed=True)
    (tmp_path / "a.nii.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ImageError, match=r"the file (is broken|ends) within its voxels"):
        read_image(f"{tmp_path}/a.nii.gz#slice=0")
    (tmp_path / "b.nii").write_bytes(bytes(400))
    with pytest.raises(ImageError, match="the file is no NIfTI volume"):
        read_image(f"{tmp_path}/b.nii#slice=0")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("axis=3&slice=0", "axis 3 of a volume; expected 0, 1 or 2"),
        ("slice=8", "slice 8 of a volume with 8 slices"),
        ("slice=-1", "slice -1 of a volume"),
        ("slice=0&window=5", "window '5'; expected CENTER,WIDTH"),
        ("slice=0&window=5,0", "expected a width above 0"),
        ("slice=x", "slice=x; expected a whole number"),
    ],
)
def test_a_part_that_is_not_there_is_an_error(tmp_path, part, message):
    (tmp_path / "a.nii").write_bytes(nifti(np.ones((8, 8, 8), np.int16)))
    with pytest.raises(ImageError, match=message):
        read_image(f"{tmp_path}/a.nii#{part}")
