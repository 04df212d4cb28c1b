"""One picture, every format: the same (H, W, 3) uint8 whichever carries it."""

import io
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from cbmir.images.errors import ImageError
from cbmir.images.read import read_image
from tests.image_files import (
    as_volume,
    dicom,
    dicom_bytes,
    grey_carriers,
    jpeg_dicom,
    nifti,
    npz,
    pillow,
    png16,
    png_bits,
    save,
)

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (40, 46), np.uint8)
GREY[0, 0], GREY[-1, -1] = 0, 255
COLOR = RNG.integers(0, 256, (40, 46, 3), np.uint8)
SMOOTH = np.add.outer(np.arange(40) * 3, np.arange(56) * 2).astype(np.uint8)  # survives lossy compression
CARRIERS = grey_carriers(GREY)


def read(tmp_path, suffix: str, data: bytes, part: str = "") -> np.ndarray:
    return read_image(save(tmp_path, (suffix, data, part)))


@pytest.mark.parametrize("name", CARRIERS)
def test_a_grey_picture_is_the_same_in_every_lossless_format(tmp_path, name):
    found = read_image(save(tmp_path, CARRIERS[name]))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.repeat(GREY[:, :, None], 3, axis=2))


COLORS = {
    "png": ("png", pillow(COLOR, "PNG"), ""),
    "png 16": ("png", png16(COLOR.astype(np.uint16) * 257), ""),
    "png rgba": ("png", pillow(np.dstack([COLOR, GREY]), "PNG"), ""),
    "tiff": ("tif", pillow(COLOR, "TIFF"), ""),
    "tiff cmyk": ("tif", pillow(Image.fromarray(COLOR).convert("CMYK"), "TIFF"), ""),
    "webp": ("webp", pillow(COLOR, "WEBP", lossless=True), ""),
    "dicom rgb": ("dcm", dicom_bytes(dicom(COLOR, photometric="RGB")), ""),
    "dicom rgb rle": ("dcm", dicom_bytes(dicom(COLOR, photometric="RGB"), RLELossless), ""),
    "dicom rgb jpeg-ls": ("dcm", dicom_bytes(dicom(COLOR, photometric="RGB"), JPEGLSLossless), ""),
    "dicom rgb jpeg 2000": ("dcm", dicom_bytes(dicom(COLOR, photometric="RGB"), JPEG2000Lossless), ""),
    "npz": ("npz", npz(a=COLOR[None]), "#array=a&row=0"),
    "nifti rgb": (
        "nii",
        nifti(np.ascontiguousarray(COLOR[::-1, ::-1].swapaxes(0, 1)[:, :, None]).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]),
        "#slice=0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLORS)
def test_a_color_picture_is_the_same_in_every_lossless_format(tmp_path, name):
    np.testing.assert_array_equal(read_image(save(tmp_path, COLORS[name])), COLOR)


def test_color_by_planes_is_the_same(tmp_path):
    data = dicom(COLOR, photometric="RGB")
    data.PlanarConfiguration = 1
    data.PixelData = COLOR.transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(read(tmp_path, "dcm", dicom_bytes(data)), COLOR)


def test_one_bit_is_black_and_white(tmp_path):
    mask = RNG.random((9, 13)) < 0.5
    expected = np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)
    np.testing.assert_array_equal(read(tmp_path, "png", pillow(Image.fromarray(mask), "PNG")), expected)
    np.testing.assert_array_equal(
        read(tmp_path, "tif", pillow(Image.fromarray(mask), "TIFF", compression="group4")), expected
    )


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_spread_over_all_levels(tmp_path, depth):
    levels = RNG.integers(0, 1 << depth, (9, 13))
    found = read(tmp_path, "png", png_bits(levels, depth))
    np.testing.assert_array_equal(found, np.repeat((levels * 255 // ((1 << depth) - 1))[:, :, None], 3, axis=2))


def test_formats_that_start_programs_or_are_found_in_any_bytes_are_not_opened(tmp_path):
    for kind in ("EPS", "TGA"):
        with pytest.raises(ImageError, match="of no image format that is known"):
            read(tmp_path, kind.lower(), pillow(COLOR, kind))


def test_exif_that_cannot_be_read_turns_nothing(tmp_path):
    data = pillow(COLOR, "PNG")
    chunk = b"eXIf" + b"II*\0\xff\xff\xff\xffbroken"
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    np.testing.assert_array_equal(read(tmp_path, "png", data[:33] + chunk + data[33:]), COLOR)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("a.png", "#frame=1", "frame 1 of a picture; of several frames only the first"),
        ("a.png", "#slice=3", "a picture has no part 'slice'; its parts: frame"),
        ("a.dcm", "#slice=3", "a DICOM file has no part 'slice'; its parts: frame"),
        ("a.dcm", "#frame=x", "frame=x; expected a whole number"),
        ("a.nii", "#frame=3", "a NIfTI volume has no part 'frame'; its parts: axis, slice, time, window"),
        ("a.npz", "#array=a&row=0&frame=3", "an array in a .npz has no part 'frame'"),
    ],
)
def test_a_part_that_a_format_does_not_have_is_an_error(tmp_path, name, part, message):
    data = {
        "png": pillow(COLOR, "PNG"),
        "dcm": dicom_bytes(dicom(GREY)),
        "nii": nifti(as_volume(GREY)),
        "npz": npz(a=GREY[None]),
    }
    (tmp_path / name).write_bytes(data[name[2:]])
    with pytest.raises(ImageError, match=message) as caught:
        read_image(f"{tmp_path}/{name}{part}")
    assert caught.value.stage == "read"


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for name in (tmp_path / "a.png", "/dev/zero"):
        with pytest.raises(ImageError, match="no regular file"):
            read_image(str(name))


def test_threads_may_read_parts_of_one_file_and_of_others(tmp_path):
    stack = RNG.integers(0, 256, (24, 20, 20), np.uint8)
    (tmp_path / "a.npz").write_bytes(npz(a=stack, b=255 - stack))
    (tmp_path / "a.nii.gz").write_bytes(
        nifti(np.stack([as_volume(picture)[:, :, 0] for picture in stack], axis=2), packed=True)
    )
    (tmp_path / "a.dcm").write_bytes(dicom_bytes(dicom(stack, NumberOfFrames=24)))
    (tmp_path / "b.dcm").write_bytes(dicom_bytes(dicom(255 - stack, NumberOfFrames=24)))
    uris = []
    for i in range(24):
        uris += [
            (f"a.npz#array=a&row={i}", stack[i]), (f"a.npz#array=b&row={i}", 255 - stack[i]), (f"a.nii.gz#slice={i}", stack[i]),
            (f"a.dcm#frame={i}", stack[i]), (f"b.dcm#frame={i}", 255 - stack[i]),
        ]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda uri: read_image(f"{tmp_path}/{uri[0]}"), uris))
    for pixels, (uri, expected) in zip(found, uris, strict=True):
        np.testing.assert_array_equal(pixels[:, :, 0], expected, err_msg=uri)


# --- lossy: as Pillow decodes the same bytes -------------------------------------------------------------------------


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_what_pillow_makes_of_it(tmp_path, mode, how):
    data = pillow(Image.fromarray(COLOR).convert(mode), "JPEG", **how)
    np.testing.assert_array_equal(read(tmp_path, "jpg", data), decoded(data))


def test_cmyk_as_adobe_writes_it_is_not_inverted(tmp_path):
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = pillow(red, "JPEG", quality=100)  # Pillow writes CMYK as Adobe does: inverted, with an Adobe marker
    assert b"Adobe" in data
    center = read(tmp_path, "jpg", data)[8, 8].astype(int)
    assert center[0] > 250
    assert center[1:].max() < 5


def test_jpeg_in_dicom_is_what_pillow_makes_of_it(tmp_path):
    jpeg = pillow(SMOOTH, "JPEG", quality=95)
    found = read(tmp_path, "dcm", jpeg_dicom(dicom(SMOOTH), SMOOTH))
    assert np.abs(found.astype(int) - decoded(jpeg)).max() <= 1  # two JPEG decoders may differ by one level


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_stands_upright_as_its_exif_says(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"lossless": True} if kind == "WEBP" else {}
    data = pillow(COLOR, kind, exif=exif, **how)
    stored = decoded(pillow(COLOR, "JPEG")) if kind == "JPEG" else COLOR
    # EXIF 2.32, 4.6.4: which corner of what is seen the first row and column are
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1), 7: np.rot90(stored, 2).swapaxes(0, 1), 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path, kind.lower(), data), upright)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), upright)


# --- deep greys are windowed, never clipped --------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_no_level_of_a_deep_picture_is_clipped(tmp_path, depth):
    deep = np.linspace(0, 2**depth - 1, 30 * 40).reshape(30, 40).astype(np.uint16)
    expected = np.round(deep * (255.0 / (2**depth - 1)))
    carriers = [
        ("png", png16(deep[:, :, None]), ""),
        ("tif", pillow(deep, "TIFF"), ""),
        ("dcm", dicom_bytes(dicom(deep, bits=depth)), ""),
        ("nii", nifti(as_volume(deep)), "#slice=0"),
        ("npz", npz(a=deep[None]), "#array=a&row=0"),
    ]
    for carrier in carriers:
        found = read_image(save(tmp_path, carrier))[:, :, 0]
        assert np.abs(found - expected).max() <= 0.5 + 1e-9 or np.array_equal(found, expected), carrier[0]
        assert len(np.unique(found)) == 256


# --- DICOM: what stands in functional groups, odd windows, padding ---------------------------------------------------


def group(**fields) -> Dataset:
    data = Dataset()
    for name, value in fields.items():
        setattr(data, name, value)
    return data


def test_an_enhanced_files_frames_have_their_own_rescale_and_window(tmp_path):
    frames = np.stack([np.array([[0, 10, 20]], np.uint16)] * 2)
    data = dicom(frames, NumberOfFrames=2)
    data.SharedFunctionalGroupsSequence = [
        group(PixelValueTransformationSequence=[group(RescaleIntercept=100, RescaleSlope=1, RescaleType="US")])
    ]
    data.PerFrameFunctionalGroupsSequence = [
        group(FrameVOILUTSequence=[group(WindowCenter=110.5, WindowWidth=21)]),
        group(FrameVOILUTSequence=[group(WindowCenter=[120.5, 5], WindowWidth=[41, 5])]),
    ]
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255 with x = 100, 110, 120
    first = read(tmp_path, "dcm", dicom_bytes(data))[0, :, 0]
    assert first.tolist() == [0, 128, 255]
    second = read(tmp_path, "dcm", dicom_bytes(data), "#frame=1")[0, :, 0]
    assert second.tolist() == [0, 64, 128]


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 50, "WindowWidth": 0},
        {"WindowCenter": 50, "WindowWidth": -3},
        {"WindowCenter": 50},
        {"WindowWidth": 50},
        {"WindowCenter": 50, "WindowWidth": 0.5},
        {"WindowCenter": None, "WindowWidth": None},
    ],
)
def test_a_window_that_means_nothing_is_passed_over(tmp_path, window):
    found = read(tmp_path, "dcm", dicom_bytes(dicom(np.array([[0, 50, 100]], np.uint16), **window)))
    assert found[0, :, 0].tolist() == [0, 128, 255]


def test_pixels_that_only_pad_do_not_count_for_the_range(tmp_path):
    values = np.array([[63536, 0, 50, 100]], np.uint16).view(np.int16)  # -2000
    found = read(tmp_path, "dcm", dicom_bytes(dicom(values, PixelPaddingValue=-2000)))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255]
    limited = np.array([[0, 5, 10, 60, 110]], np.uint16)
    found = read(tmp_path, "dcm", dicom_bytes(dicom(limited, PixelPaddingValue=0, PixelPaddingRangeLimit=5)))
    assert found[0, :, 0].tolist() == [0, 0, 0, 128, 255]


def test_eight_bits_that_are_not_plain_levels_are_scaled(tmp_path):
    values = np.array([[10, 20, 30]], np.uint8)
    for header in ({"RescaleIntercept": 5, "RescaleSlope": 1}, {"bits": 6}):
        assert read(tmp_path, "dcm", dicom_bytes(dicom(values, **header)))[0, :, 0].tolist() == [0, 128, 255]


def test_a_bare_data_set_without_preamble_is_read(tmp_path):
    whole = dicom_bytes(dicom(GREY))
    np.testing.assert_array_equal(read(tmp_path, "", whole[132:])[:, :, 0], GREY)
    buffer = io.BytesIO()
    data = dicom(GREY)
    del data.file_meta
    data.save_as(buffer, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read(tmp_path, "", buffer.getvalue())[:, :, 0], GREY)


def test_a_syntax_whose_decoder_is_not_installed_names_it_and_the_remedy(tmp_path, monkeypatch):
    from pydicom.pixels.decoders import JPEG2000LosslessDecoder

    data = dicom_bytes(dicom(GREY), JPEG2000Lossless)
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    with pytest.raises(ImageError, match=r"JPEG 2000 .*pip install 'cbmir\[dicom\]'"):
        read(tmp_path, "dcm", data)


@pytest.mark.parametrize(
    "broken",
    [
        {"PhotometricInterpretation": "DOE JANE"},
        {"BitsStored": 99},
        {"PixelData": b"\1\2"},
        {"SamplesPerPixel": 5},
        {"PixelRepresentation": 3},
        {"Rows": 0},
        {"VOILUTSequence": [Dataset()]},
        {"ModalityLUTSequence": [Dataset()]},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_errors_hold_nothing_of_the_header(tmp_path, broken):
    data = dicom(GREY)
    data.PatientName = data.PatientID = data.PatientComments = data.InstitutionName = "DOE^JANE"
    for name, value in broken.items():
        setattr(data, name, value)
    with pytest.raises(ImageError) as caught:
        read(tmp_path, "dcm", dicom_bytes(data))
    assert "DOE" not in str(caught.value)
    assert "JANE" not in str(caught.value)


def test_a_number_that_is_a_name_is_not_quoted_in_the_error(tmp_path):
    whole = dicom_bytes(dicom(GREY.astype(np.uint16), RescaleSlope="1.0000000", RescaleIntercept="0"))
    whole = whole.replace(b"1.0000000", b"DOE^JANE ")
    with pytest.raises(ImageError, match=r"the DICOM cannot be read \(\w+\)"):
        read(tmp_path, "dcm", whole)
