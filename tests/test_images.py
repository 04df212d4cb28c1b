"""Files of every format -> pixels: hand-made images, values worked by hand, and files that are broken."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset

from cbmir.images import npz
from cbmir.images.errors import ImageError
from cbmir.images.read import read_image, split_uri
from tests.image_files import dicom, written


def grey(rows) -> np.ndarray:
    """Grey levels (h, w) -> what `read_image` gives for them: (h, w, 3) uint8."""
    return np.repeat(np.asarray(rows, np.uint8)[:, :, None], 3, axis=2)


def saved(path: Path, image: Image.Image, **how) -> str:
    image.save(path, **how)
    return str(path)


def assert_pixels(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def fails(uri, stage: str, message: str | None = None) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read_image(str(uri))
    assert caught.value.stage == stage
    assert "\n" not in str(caught.value)


# --- raster ----------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_colour_comes_back_exactly(tmp_path, suffix):
    how = {"lossless": True} if suffix == "webp" else {}
    assert_pixels(read_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(COLOUR), **how)), COLOUR)


def test_grey_has_three_equal_channels(tmp_path):
    assert_pixels(read_image(saved(tmp_path / "a.png", Image.fromarray(GREY))), grey(GREY))


def test_transparency_is_dropped_not_blended(tmp_path):
    alpha = RNG.integers(0, 256, (5, 7, 1), np.uint8)
    rgba = Image.fromarray(np.concatenate([COLOUR, alpha], axis=2))
    assert_pixels(read_image(saved(tmp_path / "a.png", rgba)), COLOUR)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha[:, :, 0])])
    assert_pixels(read_image(saved(tmp_path / "b.png", grey_alpha)), grey(GREY))


@pytest.mark.parametrize("transparency", [None, 1, b"\x80\x00"])
def test_a_palette_becomes_its_colours(tmp_path, transparency):
    image = Image.frombytes("P", (2, 2), bytes([0, 1, 2, 1]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    how = {} if transparency is None else {"transparency": transparency}
    expected = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]])
    assert_pixels(read_image(saved(tmp_path / "a.png", image, **how)), expected)


def test_one_bit_is_black_and_white(tmp_path):
    image = Image.fromarray(np.array([[True, False], [False, True]]))
    assert_pixels(read_image(saved(tmp_path / "a.png", image)), grey([[255, 0], [0, 255]]))


def test_sixteen_bits_are_scaled_from_their_own_range(tmp_path):
    # (value - 1000) * 255 / 4080: 1000 -> 0, 1016 -> 1, 3040 -> 127.5 (to even), 5080 -> 255, 1008 -> 0.5 (to even)
    deep = np.array([[1000, 1016, 3040], [5080, 1008, 1024]], np.uint16)
    uri = saved(tmp_path / "a.png", Image.fromarray(deep))
    with Image.open(uri) as image:
        assert image.mode == "I;16"
    assert_pixels(read_image(uri), grey([[0, 1, 128], [255, 0, 2]]))


@pytest.mark.parametrize("value", [0, 700, 65534])
def test_sixteen_bits_without_contrast_are_black(tmp_path, value):
    uri = saved(tmp_path / "a.png", Image.fromarray(np.full((2, 3), value, np.uint16)))
    assert_pixels(read_image(uri), grey(np.zeros((2, 3))))


def test_floating_point_is_scaled_and_what_is_not_finite_is_refused(tmp_path):
    values = np.array([[-1.0, 0.0, 1.0]], np.float32)
    assert_pixels(read_image(saved(tmp_path / "a.tif", Image.fromarray(values))), grey([[0, 128, 255]]))
    values[0, 1] = np.nan
    fails(saved(tmp_path / "b.tif", Image.fromarray(values)), "decode", "not finite")


def test_jpeg_comes_back_as_pillow_reads_it(tmp_path):
    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 4
    uri = saved(tmp_path / "a.jpg", Image.fromarray(smooth), quality=95)
    with Image.open(uri) as image:
        assert_pixels(read_image(uri), np.asarray(image.convert("RGB")))
    assert np.abs(read_image(uri).astype(int) - grey(smooth)).max() <= 4  # near what was drawn
    cmyk = saved(tmp_path / "b.jpg", Image.fromarray(COLOUR).convert("CMYK"))
    assert read_image(cmyk).shape == COLOUR.shape


def test_the_first_of_several_frames_is_taken(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    uri = saved(tmp_path / "a.tif", first, save_all=True, append_images=[second])
    assert_pixels(read_image(uri), grey(GREY))


def test_the_bytes_decide_not_the_suffix(tmp_path):
    for name, data in {"a.jpg": png_bytes(), "a.dcm": png_bytes(), "a": png_bytes(), "a.png": dicom_bytes()}.items():
        (tmp_path / name).write_bytes(data)
    for name in ("a.jpg", "a.dcm", "a"):
        assert_pixels(read_image(str(tmp_path / name)), COLOUR)
    assert_pixels(read_image(str(tmp_path / "a.png")), grey([[0, 1, 2, 3]]))


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("keep", [10, 40, 60, -100])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_a_decode_error(tmp_path, kind, keep):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, kind)
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:keep])
    fails(tmp_path / "a.png", "decode")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"not an image\n", "of no image format that is known"),
        (bytes(200), "of no image format that is known"),
        (bytes(128) + b"DICM", "the file ends within its header"),
        (bytes(128) + b"DICM\xff\xff", None),
    ],
)
def test_what_is_no_image_is_a_decode_error(tmp_path, data, message):
    (tmp_path / "a.png").write_bytes(data)
    fails(tmp_path / "a.png", "decode", message)


@pytest.mark.parametrize("uri", ["/nowhere/a.png", "/nowhere/a.npz#array=x&row=0", "ftp://there/a.png", "\0.png"])
def test_what_is_not_there_is_a_read_error(uri):
    fails(uri, "read")


def test_a_directory_is_a_read_error(tmp_path):
    fails(tmp_path, "read", "IsADirectoryError")


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(ImageError("two\nlines", stage="read")))
    assert (str(error), error.stage, type(error)) == ("two lines", "read", ImageError)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", bytes(128) + b"DICM"]))
def test_bytes_that_are_no_image_are_a_decode_error_and_nothing_else(tmp_path_factory, tail, head):
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(head + tail)
    fails(path, "decode")


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("a.png", ("a.png", {})),
        ("a.dcm#frame=3", ("a.dcm", {"frame": "3"})),
        ("a.npz#array=x&row=3&slice=0", ("a.npz", {"array": "x", "row": "3", "slice": "0"})),
        ("case #1.png", ("case #1.png", {})),
        ("case#k=3.png", ("case#k=3.png", {})),
        ("case#1.npz#array=x&row=3", ("case#1.npz", {"array": "x", "row": "3"})),
        ("a#frame=1/b.png", ("a#frame=1/b.png", {})),
        ("s3://bucket/a#b.dcm#frame=0", ("s3://bucket/a#b.dcm", {"frame": "0"})),
        ("a.png#", ("a.png#", {})),
        ("#frame=1", ("#frame=1", {})),
    ],
)
def test_the_part_of_a_file_is_what_stands_behind_the_last_hash(uri, expected):
    assert split_uri(uri) == expected


@pytest.mark.parametrize("name", ["case #1.png", "a#b=c.png", "100%25.png", "ü+&?.png"])
def test_odd_file_names_are_read(tmp_path, name):
    assert_pixels(read_image(saved(tmp_path / name, Image.fromarray(COLOUR))), COLOUR)


# --- npz -------------------------------------------------------------------------------------------------------------

STACK = RNG.integers(0, 256, (6, 4, 5), np.uint8)
RGB_STACK = RNG.integers(0, 256, (3, 4, 5, 3), np.uint8)
VOLUMES = RNG.integers(0, 256, (3, 6, 4, 5), np.uint8)


@pytest.fixture(params=[np.savez, np.savez_compressed], ids=["stored", "compressed"])
def archive(request, tmp_path) -> str:
    path = tmp_path / "case #1.npz"
    request.param(path, grey=STACK, rgb=RGB_STACK, volumes=VOLUMES, deep=STACK.astype(np.int32) * 100)
    return str(path)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 2, 5, 0, 3, 1]])
def test_rows_of_an_array_in_any_order(archive, order):
    for row in order:
        assert_pixels(read_image(f"{archive}#array=grey&row={row}"), grey(STACK[row]))


def test_arrays_of_one_file_in_turn(archive):
    for row in (0, 1, 2, 1):
        assert_pixels(read_image(f"{archive}#array=rgb&row={row}"), RGB_STACK[row])
        assert_pixels(read_image(f"{archive}#array=volumes&row={row}&slice={row + 2}"), grey(VOLUMES[row, row + 2]))


def test_a_row_that_was_given_out_can_be_changed_without_harm(archive):
    uri = f"{archive}#array=rgb&row=1"
    read_image(uri)[:] = 0
    assert_pixels(read_image(uri), RGB_STACK[1])


def test_other_numbers_than_bytes_are_scaled_from_their_own_range(archive):
    low, high = STACK[2].min(), STACK[2].max()
    expected = np.round((STACK[2].astype(float) - low) * 255 / (high - low))
    assert_pixels(read_image(f"{archive}#array=deep&row=2"), grey(expected))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("array=grey&row=6", "row 6 of an array with 6 rows"),
        ("array=grey&row=-1", "row -1 of an array with 6 rows"),
        ("array=volumes&row=0&slice=6", "slice 6 of a volume with 6 slices"),
        ("array=volumes&row=0&slice=-1", "slice -1 of a volume with 6 slices"),
        ("array=volumes&row=0&slice=x", "slice=x; expected a whole number"),
        ("array=grey&row=x", "row=x; expected a whole number"),
        ("array=gray&row=0", "no array 'gray'; the file has grey, rgb, volumes, deep"),
        ("array=grey", "FILE.npz#array=NAME&row=NUMBER"),
        ("row=1", "FILE.npz#array=NAME&row=NUMBER"),
    ],
)
def test_a_row_that_is_not_there_is_a_read_error(archive, part, message):
    fails(f"{archive}#{part}", "read", message)
    assert_pixels(read_image(f"{archive}#array=grey&row=3"), grey(STACK[3]))  # and the next one is well


def test_a_whole_volume_is_no_image(archive):
    fails(f"{archive}#array=volumes&row=0", "decode", r"shape \(6, 4, 5\); expected \(H, W\) or \(H, W, 3\)")


class Bomb:
    """Writes a file where a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "boom"))


def test_object_arrays_are_refused_and_their_pickle_does_not_run(tmp_path):
    mark = tmp_path / "mark"
    objects = np.empty(2, object)
    objects[:] = [Bomb(mark), Bomb(mark)]
    np.savez(tmp_path / "a.npz", x=objects)
    fails(f"{tmp_path}/a.npz#array=x&row=0", "read", "array 'x' is an object array")
    assert not mark.exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as loaded:
        assert loaded["x"].shape == (2,)
    assert mark.exists()  # the bomb is real


def test_fortran_order_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(STACK))
    fails(f"{tmp_path}/a.npz#array=x&row=0", "read", "Fortran order")


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04" + bytes(30)])
def test_a_npz_that_is_no_zip_is_a_read_error(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    fails(f"{tmp_path}/a.npz#array=x&row=0", "read", "BadZipFile")


def test_an_array_that_ends_early_gives_its_whole_rows_and_errors_for_the_rest(tmp_path):
    whole = io.BytesIO()
    np.save(whole, STACK)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue()[: -2 * STACK[0].size + 3])  # four rows and a bit
    for row in (3, 4, 5, 4, 0, 5, 1):
        uri = f"{tmp_path}/a.npz#array=x&row={row}"
        if row < 4:
            assert_pixels(read_image(uri), grey(STACK[row]))
        else:
            fails(uri, "read", "the array ends before its last row")


def test_a_read_that_fails_half_way_does_not_shift_the_rows_behind_it(archive, monkeypatch):
    assert_pixels(read_image(f"{archive}#array=grey&row=0"), grey(STACK[0]))
    (stream,) = npz._open_streams.values()

    def read_and_break(count):
        del stream._exactly
        stream._exactly(count)
        raise OSError("connection reset")

    stream._exactly = read_and_break
    fails(f"{archive}#array=grey&row=1", "read", "connection reset")
    for row in (1, 2, 3):
        assert_pixels(read_image(f"{archive}#array=grey&row={row}"), grey(STACK[row]))


def test_memory_is_a_row_whatever_the_arrays_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 8, 8)})
        archive.writestr("x.npy", header.getvalue() + bytes(range(64)) * 3)  # says 64 GB, holds three rows
    expected = np.arange(64).reshape(8, 8)
    assert_pixels(read_image(f"{tmp_path}/a.npz#array=x&row=2"), grey(expected))


# --- DICOM -----------------------------------------------------------------------------------------------------------


def dicom_bytes() -> bytes:
    buffer = io.BytesIO()
    dicom(np.array([[0, 1, 2, 3]], np.uint8)).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def shown(tmp_path: Path, data: Dataset, part: str = "") -> list:
    """Grey levels that a DICOM is displayed with."""
    pixels = read_image(written(tmp_path / "a.dcm", data) + part)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0].tolist()


U16 = np.array([[0, 40, 50, 60, 4095]], np.uint16)
LINEAR = {"WindowCenter": 50, "WindowWidth": 52}
# PS3.3 C.11.2.1.2.1, c = 50, w = 52: x <= 49.5 - 25.5 = 24 -> 0; x > 49.5 + 25.5 = 75 -> 255;
# else ((x - 49.5) / 51 + 0.5) * 255 = 5 (x - 24): 40 -> 80, 50 -> 130, 60 -> 180
SHOWN = [[0, 80, 130, 180, 255]]


def test_window(tmp_path):
    assert shown(tmp_path, dicom(U16, bits=12, **LINEAR)) == SHOWN


def test_window_at_its_edges(tmp_path):
    values = np.array([[24, 25, 74, 75, 76]], np.uint16)
    assert shown(tmp_path, dicom(values, bits=12, **LINEAR)) == [[0, 5, 250, 255, 255]]


def test_a_window_shows_its_range_not_the_images(tmp_path):
    values = np.array([[40, 50, 60]], np.uint16)  # neither black nor white
    assert shown(tmp_path, dicom(values, bits=12, **LINEAR)) == [[80, 130, 180]]


def test_linear_exact_window(tmp_path):
    # C.11.2.1.3.2, c = 50, w = 51: x <= 24.5 -> 0; x > 75.5 -> 255; else ((x - 50) / 51 + 0.5) * 255 = 5 (x - 24.5)
    data = dicom(U16, bits=12, WindowCenter=50, WindowWidth=51, VOILUTFunction="LINEAR_EXACT")
    assert shown(tmp_path, data) == [[0, 78, 128, 178, 255]]  # 77.5 and 127.5 to even


def test_sigmoid_window(tmp_path):
    # C.11.2.1.3.1: 255 / (1 + exp(-4 (x - c) / w)); at x = c half; at x = c + w / 2: 255 / (1 + e^-2) = 224.6
    values = np.array([[0, 1000, 1100, 4095]], np.uint16)
    data = dicom(values, bits=12, WindowCenter=1000, WindowWidth=200, VOILUTFunction="SIGMOID")
    assert shown(tmp_path, data) == [[0, 128, 225, 255]]  # 127.5 to even


def test_rescale_before_window(tmp_path):
    # stored = (x + 1024) / 2 for the x of U16: the window is in rescaled values
    stored = np.array([[512, 532, 537, 542, 1000]], np.uint16)
    data = dicom(stored, bits=12, RescaleSlope=2, RescaleIntercept=-1024, **LINEAR)
    assert shown(tmp_path, data) == SHOWN


def test_negative_slope_turns_the_stored_values_not_the_window(tmp_path):
    stored = np.array([[1000, 960, 950, 940, 0]], np.uint16)  # 1000 - stored = 0, 40, 50, 60, 1000
    data = dicom(stored, bits=12, RescaleSlope=-1, RescaleIntercept=1000, **LINEAR)
    assert shown(tmp_path, data) == SHOWN


def test_signed_values(tmp_path):
    values = np.array([[-1000, 40, 50, 60, 1000]], np.int16)
    assert shown(tmp_path, dicom(values, **LINEAR)) == SHOWN


def test_the_first_of_two_windows_is_used(tmp_path):
    data = dicom(U16, bits=12, WindowCenter=[50, 2000], WindowWidth=[52, 4000])
    assert shown(tmp_path, data) == SHOWN


def test_without_a_window_minimum_to_maximum(tmp_path):
    values = np.array([[100, 110, 151]], np.uint16)  # (x - 100) * 5
    assert shown(tmp_path, dicom(values, bits=12)) == [[0, 50, 255]]
    assert shown(tmp_path, dicom(values, RescaleSlope=3, RescaleIntercept=-7)) == [[0, 50, 255]]
    assert shown(tmp_path, dicom(values, WindowCenter=None, WindowWidth=None)) == [[0, 50, 255]]


@pytest.mark.parametrize("window", [LINEAR, {}], ids=["window", "no window"])
def test_monochrome1_is_the_negative_of_monochrome2(tmp_path, window):
    positive = shown(tmp_path, dicom(U16, bits=12, **window))
    negative = shown(tmp_path, dicom(U16, photometric="MONOCHROME1", bits=12, **window))
    np.testing.assert_array_equal(np.add(positive, negative), 255)


def lut(entries: list[int], *, first: int = 0, bits: int = 8, **more) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    for name, value in more.items():
        setattr(item, name, value)
    return item


def test_a_voi_lut_goes_before_a_window(tmp_path):
    values = np.array([[0, 9, 10, 11, 12, 13, 99]], np.uint16)
    data = dicom(values, bits=12, VOILUTSequence=[lut([7, 100, 200, 255], first=10)], **LINEAR)
    assert shown(tmp_path, data) == [[7, 7, 7, 100, 200, 255, 255]]


def test_a_voi_lut_of_ten_bits_is_scaled_from_its_own_depth(tmp_path):
    values = np.array([[0, 1, 2, 3]], np.uint16)
    data = dicom(values, bits=12, VOILUTSequence=[lut([0, 341, 682, 1023], bits=10), lut([9, 9, 9, 9])])
    assert shown(tmp_path, data) == [[0, 85, 170, 255]]


def test_a_voi_lut_of_eight_bits_may_have_more_than_256_entries(tmp_path):
    values = np.array([[0, 255, 256, 300, 1023, 4000]], np.uint16)
    data = dicom(values, bits=12, VOILUTSequence=[lut([i // 4 for i in range(1024)])])
    assert shown(tmp_path, data) == [[0, 63, 64, 75, 255, 255]]


def test_a_modality_lut_goes_before_the_window(tmp_path):
    values = np.array([[0, 1, 2, 3, 4]], np.uint16)
    table = lut([0, 40, 50, 60, 4095], bits=16, ModalityLUTType="US")
    assert shown(tmp_path, dicom(values, bits=12, ModalityLUTSequence=[table], **LINEAR)) == SHOWN


def test_rgb(tmp_path):
    data = dicom(COLOUR, photometric="RGB")
    assert_pixels(read_image(written(tmp_path / "a.dcm", data)), COLOUR)


def test_rgb_by_planes(tmp_path):
    data = dicom(COLOUR, photometric="RGB", PlanarConfiguration=1)
    data.PixelData = COLOUR.transpose(2, 0, 1).tobytes() + b"\0"
    assert_pixels(read_image(written(tmp_path / "a.dcm", data)), COLOUR)


def test_rgb_of_twelve_bits(tmp_path):
    deep = np.array([[[0, 4095, 2048]]], np.uint16)  # 2048 * 255 / 4095 = 127.53
    data = dicom(deep, photometric="RGB", bits=12)
    assert_pixels(read_image(written(tmp_path / "a.dcm", data)), np.array([[[0, 255, 128]]]))


def test_ybr_becomes_rgb(tmp_path):
    # PS3.3 C.7.6.3.1.2: grey has Cb = Cr = 128; pure red is Y 76, Cb 85, Cr 255
    ybr = np.array([[[90, 128, 128], [76, 85, 255]]], np.uint8)
    found = read_image(written(tmp_path / "a.dcm", dicom(ybr, photometric="YBR_FULL"))).astype(int)
    assert np.abs(found - [[[90, 90, 90], [255, 0, 0]]]).max() <= 2


@pytest.mark.parametrize(
    ("bits", "kind", "scale"),
    [(8, np.uint8, 1), (16, np.uint16, 257), (8, np.uint16, 1)],
    ids=["8 bits", "16 bits", "8 bits stored as 16"],
)
def test_palette(tmp_path, bits, kind, scale):
    data = dicom(np.array([[0, 1], [2, 1]], np.uint8), photometric="PALETTE COLOR")
    colours = {"Red": [0, 10, 255, 3], "Green": [255, 20, 0, 3], "Blue": [7, 30, 1, 3]}
    for name, values in colours.items():
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [4, 0, bits])
        setattr(data, f"{name}PaletteColorLookupTableData", (np.array(values, kind) * scale).astype(kind).tobytes())
    expected = np.array(list(colours.values())).T[[[0, 1], [2, 1]]]
    assert_pixels(read_image(written(tmp_path / "a.dcm", data)), expected)


def test_frames(tmp_path):
    frames = np.stack([U16, U16[:, ::-1], U16 + 1])
    data = dicom(frames, bits=13, NumberOfFrames=3, **LINEAR)
    assert shown(tmp_path, data) == SHOWN
    assert shown(tmp_path, data, "#frame=0") == SHOWN
    assert shown(tmp_path, data, "#frame=1") == [SHOWN[0][::-1]]
    assert shown(tmp_path, data, "#frame=2") == [[0, 85, 135, 185, 255]]
    for frame in (3, -1):
        fails(f"{tmp_path}/a.dcm#frame={frame}", "decode", f"frame {frame} of a DICOM with 3")


def test_dicom_without_pixels(tmp_path):
    data = dicom(U16)
    del data.PixelData
    fails(written(tmp_path / "a.dcm", data), "decode", "DICOM without pixel data")


def test_dicom_cut_short(tmp_path):
    whole = dicom(np.zeros((50, 50), np.uint16))
    path = Path(written(tmp_path / "a.dcm", whole))
    path.write_bytes(path.read_bytes()[:-1000])
    fails(path, "decode")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CT_small.dcm", (128, 128)),
        ("MR_small.dcm", (64, 64)),
        ("examples_overlay.dcm", (300, 484)),
        ("examples_palette.dcm", (350, 800)),
        ("examples_rgb_color.dcm", (240, 320)),
        ("J2K_pixelrep_mismatch.dcm", (512, 512)),
        ("mr_t1_series", (384, 274)),
    ],
)
def test_public_samples_are_displayed(shared, name, shape):
    path = shared / "data" / "dicom" / name
    for file in sorted(path.iterdir())[::8] if path.is_dir() else [path]:
        pixels = read_image(str(file))
        assert pixels.shape == (*shape, 3)
        assert pixels.std() > 5


def test_a_public_mr_is_displayed_as_the_standard_says(shared):
    path = shared / "data" / "dicom" / "MR_small.dcm"
    stored = pydicom.dcmread(path).pixel_array.astype(float)  # window 600 / 1600, no rescale
    expected = np.clip(((stored - 599.5) / 1599 + 0.5) * 255, 0, 255).round()
    assert_pixels(read_image(str(path)), grey(expected))
