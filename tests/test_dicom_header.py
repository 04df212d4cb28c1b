"""DICOM headers for a manifest: what is taken, what is tolerated, and files that are cut short or blown up."""

import io
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from cbmir.images.dicom_header import Header, NoDicom, read_header
from cbmir.images.errors import ImageError
from tests.image_files import AXIAL, dicom, dicom_bytes, enhanced

FIELDS = {
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "PatientID": "P-17",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4",
    "SOPInstanceUID": "1.2.3.4.5",
    "InstanceNumber": 12,
    "ImagePositionPatient": ["10", "20", "-30.5"],
    "ImageOrientationPatient": list("100010"),
}
VALUES = np.arange(48, dtype=np.uint16).reshape(6, 8)
EXPECTED = Header(
    "CT",
    "CHEST",
    "P-17",
    "1.2.3",
    "1.2.3.4",
    "1.2.3.4.5",
    12,
    1,
    None,
    6,
    8,
    -30.5,
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    True,
)


def file_of(syntax=ExplicitVRLittleEndian, **more) -> bytes:
    return dicom_bytes(dicom(VALUES, **(FIELDS | more)), syntax)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_what_is_taken_from_a_header(tmp_path, syntax):
    data = file_of(syntax)
    (tmp_path / "a").write_bytes(data)
    assert read_header(data) == read_header(io.BytesIO(data)) == read_header(str(tmp_path / "a")) == EXPECTED


def test_headers_without_preamble_or_prefix():
    data = file_of()
    assert (
        read_header(data[128:]) == read_header(data[132:]) == EXPECTED
    )  # from 'DICM' on, and from the meta information on
    for implicit, little in ((True, True), (False, True), (False, False)):
        bare = dicom(VALUES, **FIELDS)
        del bare.file_meta
        buffer = io.BytesIO()
        bare.save_as(buffer, implicit_vr=implicit, little_endian=little)
        assert read_header(buffer.getvalue()) == EXPECTED


@pytest.mark.parametrize(
    ("row", "column", "place", "position"),
    [
        ([1, 0, 0], [0, 1, 0], [5, 6, 7], 7),  # axial: the normal is z
        ([0, 1, 0], [0, 0, -1], [5, 6, 7], -5),  # sagittal: y x -z = -x
        ([1, 0, 0], [0, 0, -1], [5, 6, 7], 6),  # coronal: x x -z = y
        ([1, 0, 0], [0, 0.6, 0.8], [0, 0, 10], 6),  # oblique: x x (0, .6, .8) = (0, -.8, .6)
    ],
)
def test_the_position_lies_along_the_normal(row, column, place, position):
    data = file_of(ImageOrientationPatient=[*row, *column], ImagePositionPatient=place)
    assert read_header(data).position == pytest.approx(position)


def test_the_orientation_is_rounded_to_a_millionth():
    cosines = [0.99903217644152, -0.0217883751691, -0.0000000001, 0.026519476938784, 0.991413870277297, -0.128043957939]
    data = file_of(ImageOrientationPatient=cosines)
    assert read_header(data).orientation == (0.999032, -0.021788, 0.0, 0.026519, 0.991414, -0.128044)
    assert str(read_header(data).orientation[2]) == "0.0"


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (b"IS\x02\x0012", b"IS\x02\x00xy", ("instance_number",)),
        (b"10\\20\\-30.5", b"10\\20 -30.5", ("position",)),
        (b"10\\20\\-30.5", b"10\\20\\nan  ", ("position",)),
        (b"1\\0\\0\\0\\1\\0", b"1\\0\\0\\0\\1\\?", ("position", "orientation")),
        (b"1\\0\\0\\0\\1\\0", b"1\\0\\0\\0\\100", ("position", "orientation")),
    ],
)
def test_a_value_that_is_nonsense_is_none_and_the_others_stay(before, after, names):
    data = file_of()
    assert data.count(before) == 1
    found = read_header(data.replace(before, after))
    for name in names:
        assert getattr(found, name) is None
    for other in Header.__dataclass_fields__:
        if other not in names:
            assert getattr(found, other) == getattr(EXPECTED, other)


def test_blank_values_are_none():
    found = read_header(file_of(**dict.fromkeys(FIELDS, None)))
    assert found == Header(*[None] * 7, 1, None, 6, 8, None, None, True)


def test_frames():
    data = dicom(np.stack([VALUES] * 3), NumberOfFrames=3)
    assert read_header(dicom_bytes(data)).frames == 3


def test_without_pixels():
    data = dicom(VALUES, **FIELDS)
    del data.PixelData
    assert not read_header(dicom_bytes(data)).has_pixels
    data.add_new(0x00091010, "SQ", [Dataset()])  # the last element is a sequence
    data[0x00091010].is_undefined_length = True
    assert not read_header(dicom_bytes(data)).has_pixels


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_a_header_cut_anywhere_gives_an_error_or_whole_values(undefined):
    item = Dataset()
    item.PatientName = "A^B"
    data = dicom(VALUES, **FIELDS)
    data.add_new(0x00091010, "SQ", [item, item])
    data[0x00091010].is_undefined_length = undefined
    whole = dicom_bytes(data)
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    read, errors = 0, set()
    for cut in range(132, pixels):
        try:
            found = read_header(whole[:cut])
        except ImageError as error:
            errors.add(str(error))
            continue
        read += 1
        assert not found.has_pixels
        for name in Header.__dataclass_fields__:
            if name not in ("frames", "has_pixels"):
                assert getattr(found, name) in (None, getattr(EXPECTED, name))
    assert errors <= {"the file ends within its header", "the DICOM header cannot be read (OSError)"}
    assert 10 < read < 40  # the ends of its elements, where nothing shows that there was more


@pytest.mark.parametrize(
    "data",
    [b"", b"DICM", b"no DICOM at all", bytes(1000), b"\x89PNG\r\n\x1a\n" + bytes(300), b"\x08\x00\x05\x00" + bytes(600), b"\x02\x00\x00\x00UL\x04\x00" + b"x" * 300],
)  # fmt: skip
def test_what_is_no_dicom_is_named(data):
    with pytest.raises(NoDicom) as caught:
        read_header(data)
    assert caught.value.stage == "decode"


def test_a_directory_of_dicom_files_is_named():
    data = Dataset()
    data.file_meta = dicom(VALUES).file_meta
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    data.FileSetID = "X"
    data.DirectoryRecordSequence = [Dataset()]
    with pytest.raises(NoDicom, match="a directory of DICOM files"):
        read_header(dicom_bytes(data))


def test_a_missing_file_is_a_read_error(tmp_path):
    with pytest.raises(ImageError, match="FileNotFoundError") as caught:
        read_header(str(tmp_path / "gone"))
    assert caught.value.stage == "read"


# --- small files that become large ---------------------------------------------------------------------------------------


def deflated_with(middle: bytes, repeats: int) -> bytes:
    """A deflated file whose data set goes on with `middle`, many times, before its pixels."""
    plain = file_of()
    start = 144 + int.from_bytes(plain[140:144], "little")
    before, after = plain[start : plain.index(b"\x28\x00\x02\x00")], plain[plain.index(b"\x28\x00\x02\x00") :]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(before) + b"".join(packer.compress(middle) for _ in range(repeats))
    whole = file_of(DeflatedExplicitVRLittleEndian)
    return whole[: 144 + int.from_bytes(whole[140:144], "little")] + packed + packer.compress(after) + packer.flush()


SEQUENCE = b"\x09\x00\x10\x10SQ\x00\x00\xff\xff\xff\xff"
BLOWN_UP = {
    "zeros": (deflated_with(bytes(1 << 24), 20), "ends within its header"),
    "one long value": (deflated_with(b"\x09\x00\x10\x10OB\x00\x00\x00\x00\x00\x10" + bytes(1 << 28), 1), "ends within its header"),
    "elements": (deflated_with(b"\x09\x00\x10\x10LO\x00\x00" * 100_000, 20), "more than 100,000 elements"),
    "items": (deflated_with(SEQUENCE + b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 1_000_000, 1), "more than 131,072 items"),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOWN_UP)
def test_a_small_file_that_becomes_large_ends_soon(name):
    data, message = BLOWN_UP[name]
    assert len(data) < 1 << 20
    tracemalloc.start()
    begin = time.monotonic()
    with pytest.raises(ImageError, match=message):
        read_header(data)
    assert time.monotonic() - begin < 10
    assert tracemalloc.get_traced_memory()[1] < 300 << 20
    tracemalloc.stop()


def test_zeros_where_elements_should_be_are_not_walked_through():
    data = file_of()
    data = data[: data.index(b"\x28\x00\x02\x00")] + bytes(1 << 26)
    begin = time.monotonic()
    with pytest.raises(ImageError, match="ends within its header"):
        read_header(data)
    assert time.monotonic() - begin < 3


# --- frames ------------------------------------------------------------------------------------------------------------

CORONAL = [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(
    "positions, order",
    [
        ([30, 10, 20], [1, 2, 0]),
        ([3, 2, 1, 3, 2, 1], [2, 5, 1, 4, 0, 3]),  # two visits: at one place as stored
        ([1, 2, 3], [0, 1, 2]),
        ([2.0004, 2.0, 1], [2, 0, 1]),  # less than a micrometer apart: one place
        ([3, None, 1], [0, 1, 2]),  # one frame has no position: as stored
    ],
)
def test_frames_of_an_enhanced_file_follow_their_positions(positions, order):
    assert read_header(dicom_bytes(enhanced(positions))).frames_in_order == order


def test_frames_without_one_orientation_stay_as_stored():
    assert read_header(dicom_bytes(enhanced([2, 1], own={1: CORONAL}))).frames_in_order == [0, 1]
    assert read_header(dicom_bytes(enhanced([2, 1], shared=False))).frames_in_order == [0, 1]
    own = {0: AXIAL, 1: [1, 0.0005, 0, 0, 1, 0]}
    assert read_header(dicom_bytes(enhanced([2, 1], own=own, shared=False))).frames_in_order == [1, 0]
    fewer = enhanced([2, 1])
    fewer.NumberOfFrames = 3
    assert read_header(dicom_bytes(fewer)).frames_in_order == [0, 1, 2]
