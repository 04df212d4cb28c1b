"""DICOM pixels on display: values worked by hand from the standard, odd headers, and errors that tell nothing of a header."""

import io
import logging
import threading
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from cbmir.images import dicom as decoder
from cbmir.images.channels import in_color
from cbmir.images.dicom_header import read_header
from cbmir.images.errors import ImageError
from cbmir.images.quiet import quiet
from cbmir.images.read import read_image
from tests.image_files import dicom, dicom_bytes, jpeg_dicom, lossless_jpeg_dicom, pillow

RAMP = np.array([[0, 50, 100]], np.uint16)  # from its own range: 0, 127.5 (to even), 255
OWN = [0, 128, 255]


def shown(data: Dataset | bytes, frame: int = 0) -> list[int]:
    """The first row of grey levels."""
    pixels = in_color(decoder.decode(data if isinstance(data, bytes) else dicom_bytes(data), frame=frame))
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[0, :, 0].tolist()


def item(**fields) -> Dataset:
    data = Dataset()
    for name, value in fields.items():
        setattr(data, name, value)
    return data


# --- rescale and window ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleSlope": 0, "RescaleIntercept": 7},
        {"RescaleSlope": 3},
        {"RescaleIntercept": -1024},
        {"RescaleSlope": "2.5", "RescaleIntercept": None},
    ],
)
def test_a_rescale_that_is_blank_half_or_leaves_one_value(header):
    assert shown(dicom(RAMP, **header)) == OWN


def test_half_a_rescale_counts_where_there_is_a_window():
    # stored + 1000 through c = 1050.5, w = 101: ((x - 1050) / 100 + 0.5) * 255
    assert shown(dicom(RAMP, RescaleIntercept=1000, WindowCenter="1050.5", WindowWidth=101)) == OWN


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": "1e300", "WindowWidth": "1e300"},  # all that 16 bits can hold is one level
        {"WindowCenter": 50, "WindowWidth": "1e12"},
        {"WindowCenter": 1_000_000, "WindowWidth": 10},
        {"WindowCenter": -5000, "WindowWidth": 100},
    ],
)
def test_a_window_in_which_all_values_look_the_same_is_passed_over(window):
    assert shown(dicom(RAMP, **window)) == OWN


def test_a_window_in_which_only_this_image_is_black_stays():
    assert shown(dicom(RAMP, WindowCenter=5000, WindowWidth=100)) == [0, 0, 0]


@pytest.mark.parametrize("broken", [b"abcdefgh", b"        ", b"12 apples"[:8], b"--------"])
@pytest.mark.parametrize("name", ["WindowCenter", "WindowWidth"])
def test_a_window_that_is_no_number_is_passed_over(name, broken):
    data = dicom_bytes(dicom(RAMP, **({"WindowCenter": "50.00000", "WindowWidth": "60.00000"} | {name: "71.23456"})))
    assert data.count(b"71.23456") == 1
    assert shown(data.replace(b"71.23456", broken)) == OWN


def test_an_unknown_function_is_linear():
    window = {"WindowCenter": 50, "WindowWidth": 52}  # 5 (x - 24)
    values = np.array([[24, 25, 50, 75]], np.uint16)
    assert shown(dicom(values, VOILUTFunction="EXOTIC", **window)) == [0, 5, 130, 255]


def test_a_window_of_width_one_is_a_threshold():
    assert shown(dicom(np.array([[49, 50, 51]], np.uint16), WindowCenter=50, WindowWidth=1)) == [0, 255, 255]


def test_frames_keep_their_own_window_in_any_order():
    data = dicom(np.stack([RAMP] * 3), NumberOfFrames=3, WindowCenter="50.5", WindowWidth=101)
    data.PerFrameFunctionalGroupsSequence = [
        item(FrameVOILUTSequence=[item(WindowCenter="100.5", WindowWidth=201)]),
        item(PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=0)]),
        item(),
    ]
    expected = {0: [0, 64, 128], 1: [0, 255, 255], 2: OWN}
    whole = dicom_bytes(data)
    for frame in (0, 1, 2, 0, 2, 1):
        assert shown(whole, frame) == expected[frame]


# --- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables_of_words(syntax, name):
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    table = item()
    table.add_new(0x00283002, "US", [3, 10, 16])
    table.add_new(0x00283006, "OW", np.array([0, 32768, 65535], f"{order}u2").tobytes())
    data = dicom(np.array([[9, 10, 11, 12, 13]], np.uint16))
    data.add_new(name, "SQ", [table])
    expected = [0, 0, 128, 255, 255]  # 32768 * 255 / 65535 = 127.502
    assert shown(dicom_bytes(data, syntax)) == expected


def test_a_table_of_twelve_bits_is_scaled_from_them():
    table = item()
    table.add_new(0x00283002, "US", [2, 0, 12])
    table.add_new(0x00283006, "US", [819, 4095])
    assert shown(dicom(np.array([[0, 1]], np.uint16), VOILUTSequence=[table])) == [51, 255]


def test_a_table_below_zero_takes_signed_values():
    table = item(ModalityLUTType="US")
    table.add_new(0x00283002, "SS", [4, -2, 16])
    table.add_new(0x00283006, "US", [0, 10, 20, 30])
    values = np.array([[-3, -2, -1, 0, 1, 2]], np.int16)
    assert shown(dicom(values, ModalityLUTSequence=[table])) == [0, 0, 85, 170, 255, 255]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([0, 4, 0, 100, 200, 255], [0, 100, 200, 255]),  # PS3.3 C.7.9.2.1: discrete
        ([0, 1, 0, 1, 3, 255], [0, 85, 170, 255]),  # C.7.9.2.2: three more, linear up to 255
    ],
)
def test_a_segmented_palette(segments, expected):
    data = dicom(np.array([[0, 1, 2, 3]], np.uint8), photometric="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(data, f"Segmented{name}PaletteColorLookupTableData", bytes(segments))
    assert shown(data) == expected


def test_a_palette_that_repeats_itself_is_refused():
    data = dicom(np.array([[0, 1]], np.uint8), photometric="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 8])
        setattr(data, f"Segmented{name}PaletteColorLookupTableData", bytes([0, 1, 9, 2, 1, 0, 0, 0, 0, 0]))
    with pytest.raises(ImageError, match="indirect segments"):
        shown(data)


# --- levels without a window ---------------------------------------------------------------------------------------------


def test_eight_bits_are_levels_also_in_sixteen():
    assert shown(dicom(RAMP, bits=8)) == [0, 50, 100]
    assert shown(dicom(RAMP.astype(np.int16), bits=8)) == OWN  # signed ones are not


@pytest.mark.parametrize(("bits", "expected"), [(0b1011, [255, 255, 0, 255]), (0b1111, [255] * 4), (0, [0] * 4)])
def test_a_mask_of_one_bit_is_black_and_white(bits, expected):
    data = dicom(np.zeros((1, 4), np.uint8))
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit = 0
    data.PixelData = bytes([bits, 0])
    assert shown(data) == expected


def test_floating_point_pixels():
    data = dicom(RAMP)
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.BitsAllocated, data.FloatPixelData = 32, (RAMP / 1000).astype("<f4").tobytes()
    assert shown(data) == OWN
    data.WindowCenter, data.WindowWidth, data.VOILUTFunction = "0.05", "0.2", "LINEAR_EXACT"  # (x / 0.2 + 0.25) * 255
    assert shown(data) == [64, 128, 191]


def test_padding_is_dark_in_a_negative_too():
    values = np.array([[-2000, 0, 50, 100]], np.int16)
    assert shown(dicom(values, photometric="MONOCHROME1", PixelPaddingValue=-2000)) == [0, 255, 127, 0]


def test_padding_that_is_written_without_its_sign():
    data = dicom(np.array([[-2000, 0, 50, 100]], np.int16))
    data.add_new(0x00280120, "US", 63536)  # 65536 - 2000
    assert shown(data) == [0, 0, 128, 255]


def test_overlays_in_unused_bits_are_not_shown():
    values = np.array([[0, 50, 100]], np.uint16) | np.array([[0x8000, 0x4000, 0xF000]], np.uint16)
    assert shown(dicom(values, bits=12)) == OWN


# --- compressed ----------------------------------------------------------------------------------------------------------


def test_color_jpeg_is_what_pillow_makes_of_it():
    rows, columns = np.mgrid[0:48, 0:64]
    picture = np.dstack([rows * 5, columns * 3, 255 - rows - columns]).astype(np.uint8)
    for subsampling, kind in ((0, "YBR_FULL"), (1, "YBR_FULL_422"), (2, "YBR_FULL_422"), (0, "RGB")):
        data = dicom(picture, photometric="RGB")
        data.PhotometricInterpretation = kind
        with Image.open(io.BytesIO(pillow(picture, "JPEG", quality=95, subsampling=subsampling))) as image:
            expected = np.asarray(image.convert("RGB")).astype(int)
        found = decoder.decode(jpeg_dicom(data, picture, subsampling=subsampling)).astype(int)
        assert np.abs(found - expected).max() <= 3  # colors come back from YBR once in integers, once in floats


def test_jpeg_2000_whose_sign_differs_from_the_headers(shared):
    path = shared / "data" / "dicom" / "J2K_pixelrep_mismatch.dcm"
    header = pydicom.dcmread(path)
    stream = pydicom.encaps.get_frame(header.PixelData, 0, number_of_frames=1)
    with Image.open(io.BytesIO(stream)) as image:  # another decoder, and the sign worked out by hand
        bits = header.BitsStored
        stored = np.asarray(image).astype(int) >> (16 - bits)  # Pillow shifts 13 bits up to 16
    stored = np.where(stored >= 1 << (bits - 1), stored - (1 << bits), stored)
    values = stored * float(header.RescaleSlope) + float(header.RescaleIntercept)
    center, width = (float(np.atleast_1d(v)[0]) for v in (header.WindowCenter, header.WindowWidth))
    expected = np.round(np.clip(((values - center + 0.5) / (width - 1) + 0.5) * 255, 0, 255))
    np.testing.assert_array_equal(read_image(str(path))[:, :, 0], expected)
    assert expected.std() > 20


PICTURE = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
STREAMS = {
    "JPEG 2000": (dicom_bytes(dicom(PICTURE), JPEG2000Lossless), b"\xff\x51", (6, 10), 4),
    "JPEG-LS": (dicom_bytes(dicom(PICTURE), JPEGLSLossless), b"\xff\xf7\x00", (7, 5), 2),
    "JPEG": (jpeg_dicom(dicom(PICTURE), PICTURE), b"\xff\xc0\x00", (7, 5), 2),
    "lossless JPEG": (lossless_jpeg_dicom(dicom(PICTURE), PICTURE, 8), b"\xff\xc3\x00", (7, 5), 2),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_another_size_than_the_headers_is_not_decoded(name, monkeypatch):
    data, marker, places, width = STREAMS[name]
    assert data.count(marker) == 1
    decoder.decode(data)
    large = bytearray(data)
    for place in places:
        at = data.index(marker) + place
        large[at : at + width] = (65_535).to_bytes(width, "big")
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="compressed pixels of 65535 x 65535, but the header says 64 x 64"):
        decoder.decode(bytes(large))


def test_a_stream_of_many_components_is_not_decoded():
    data = bytearray(STREAMS["JPEG 2000"][0])
    at = data.index(b"\xff\x51") + 38
    assert data[at : at + 2] == b"\0\1"
    data[at : at + 2] = b"\x40\0"
    with pytest.raises(ImageError, match="16384 components"):
        decoder.decode(bytes(data))


def test_a_file_is_read_and_parsed_once_for_all_its_frames(tmp_path, monkeypatch):
    frames = np.random.default_rng(2).integers(0, 256, (5, 4, 6), np.uint8)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(dicom(frames, NumberOfFrames=5)))
    parsed = []
    real = decoder.read_data_set
    monkeypatch.setattr(decoder, "read_data_set", lambda file: parsed.append(file) or real(file))
    for frame in (0, 1, 2, 3, 4, 2):
        np.testing.assert_array_equal(read_image(f"{path}#frame={frame}")[:, :, 0], frames[frame])
    assert len(parsed) == 1
    path.write_bytes(dicom_bytes(dicom(255 - frames, NumberOfFrames=5, Modality="MR")))
    np.testing.assert_array_equal(read_image(f"{path}#frame=1")[:, :, 0], 255 - frames[1])  # another file by now


# --- errors hold nothing of a header ---------------------------------------------------------------------------------------

MARK = "QZXJ"  # in every text; pydicom quotes values in its errors, warnings and log lines
TEXTS = (
    "PatientName", "PatientID", "PatientComments", "InstitutionName", "ReferringPhysicianName", "StudyDescription", "Modality", "BodyPartExamined",
    "AccessionNumber", "StationName", "RescaleType", "VOILUTFunction", "ImageType", "ProtocolName", "LUTExplanation",
)  # fmt: skip


def marked(picture: np.ndarray, **more) -> Dataset:
    data = dicom(picture, **(dict.fromkeys(TEXTS, MARK) | {"SpecificCharacterSet": "ISO_IR 100"} | more))
    data.OtherPatientIDsSequence = [item(PatientID=MARK, PatientName=MARK)]
    data.add_new(0x00091010, "LO", MARK)
    return data


BREAKABLE = {
    "PatientBirthDate": "DA", "StudyTime": "TM", "PatientAge": "AS", "PatientWeight": "DS", "InstanceNumber": "IS", "WindowCenter": "DS",
    "WindowWidth": "DS", "RescaleSlope": "DS", "RescaleIntercept": "DS", "NumberOfFrames": "IS", "StudyInstanceUID": "UI",
    "ImagePositionPatient": "DS", "PhotometricInterpretation": "CS", "SOPInstanceUID": "UI", "PixelSpacing": "DS",
}  # fmt: skip


@pytest.fixture
def said(capfd, caplog, recwarn):
    """What was printed, logged and warned of since it was last asked for."""
    caplog.set_level(logging.DEBUG)

    def take() -> str:
        out = capfd.readouterr()
        text = out.out + out.err + caplog.text + "".join(str(w.message) for w in recwarn)
        caplog.clear()
        recwarn.clear()
        return text

    return take


def error_texts(data: bytes) -> set[str]:
    """What the readers say of a file."""
    found = set()
    for act in (decoder.decode, read_header, decoder.describe):
        try:
            act(data)
        except ImageError as error:
            found.add(str(error))
    return found


def test_the_mark_is_quoted_where_nobody_prevents_it(said):
    data = dicom_bytes(marked(PICTURE, InstanceNumber=7)).replace(b"ISO_IR 100", MARK.encode() + b"      ")
    said()
    with pytest.warns(UserWarning, match=MARK):
        str(pydicom.dcmread(io.BytesIO(data)))
    assert MARK in said()


@pytest.mark.parametrize("name", BREAKABLE)
def test_a_value_of_the_wrong_kind_is_not_quoted(name, said):
    data = marked(PICTURE.astype(np.uint16), WindowCenter=1, WindowWidth=2, RescaleSlope=1, RescaleIntercept=0)
    if name in data:
        del data[name]
    data.add_new(name, "LO", f"{MARK} {MARK}1")  # text under a tag that has none
    whole = dicom_bytes(data).replace(b"ISO_IR 100", MARK.encode() + b"      ")
    value = whole.rindex(f"{MARK} {MARK}1".encode())
    assert whole[value - 4 : value - 2] == b"LO"
    said()
    texts = error_texts(whole[: value - 4] + BREAKABLE[name].encode() + whole[value - 2 :])
    assert not [text for text in texts if MARK in text]
    assert MARK not in said()


@pytest.mark.parametrize("kind", ["plain", "rle", "jpeg", "frames"])
def test_no_damage_brings_a_header_into_an_error(kind, said):
    picture = PICTURE[:16, :16].copy()
    whole = {
        "plain": lambda: dicom_bytes(marked(picture.astype(np.uint16), WindowCenter=1, WindowWidth=2)),
        "rle": lambda: dicom_bytes(marked(picture), pydicom.uid.RLELossless),
        "jpeg": lambda: jpeg_dicom(marked(picture), picture),
        "frames": lambda: dicom_bytes(marked(np.stack([picture] * 2), NumberOfFrames=2)),
    }[kind]()
    rng = np.random.default_rng(3)
    said()
    texts = set()
    for _ in range(400):
        broken = bytearray(whole)
        for at in rng.integers(132, len(whole), 12):
            broken[at] = rng.integers(256)
        texts |= error_texts(bytes(broken))
    assert len(texts) > 5
    assert not [text for text in texts if MARK in text]
    assert MARK not in said()


def test_quiet_lasts_until_the_last_thread_leaves():
    logger, before = logging.getLogger("pydicom"), list(warnings.filters)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with quiet():
        thread.start()
        assert entered.wait(10)
    assert logger.disabled  # the other one is still in there
    assert warnings.filters[0][0] == "ignore"
    leave.set()
    thread.join()
    assert (logger.disabled, logger.propagate, list(warnings.filters)) == (False, True, before)
