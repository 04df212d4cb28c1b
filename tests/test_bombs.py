"""Small files that promise enormous images: refused quickly and before memory is taken for them."""

import io
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cbmir.images import gdcm_process
from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_PIXELS
from cbmir.images.read import read_image
from tests.image_files import dicom, dicom_bytes, lossless_jpeg_dicom, pillow, save


def png(width: int, height: int, *, text: bytes = b"") -> bytes:
    """A PNG whose pixels are some megabytes of zeros, packed."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    chunks = [
        (b"IHDR", head),
        *([(b"zTXt", b"Comment\0\0" + zlib.compress(text, 9))] if text else []),
        (b"IDAT", rows),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(d).to_bytes(4, "big") + t + d + zlib.crc32(t + d).to_bytes(4, "big") for t, d in chunks
    )


def patched(data: bytes, before: bytes, after: bytes) -> bytes:
    assert data.count(before) == 1
    return data.replace(before, after)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(pillow(np.zeros((8, 8), np.uint8), "BMP"))
    data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(data)


def dicom_of(rows: int, columns: int) -> bytes:
    data = dicom(np.zeros((8, 8), np.uint16))
    data.Rows, data.Columns = rows, columns
    return dicom_bytes(data)


def deflated() -> bytes:
    data = dicom(np.zeros((8, 8), np.uint8))
    data.add_new(0x00091001, "OB", bytes(1 << 20))
    whole = dicom_bytes(data, DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return whole[:start] + b"".join(packer.compress(bytes(1 << 24)) for _ in range(80)) + packer.flush()


def npz_of(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
        member.write(bytes(1 << 20))
    return buffer.getvalue()


BOMBS = {
    "png": ("png", png(60_000, 60_000), "", "pixels"),
    "png, a little too large": ("png", png(MOST_PIXELS // 4096 + 1, 4096), "", "at most 134,217,728 are read"),
    "png text": ("png", png(8, 8, text=bytes(1 << 27)), "", "ValueError|large"),
    "bmp": ("bmp", bmp(100_000, 100_000), "", "pixels"),
    "dicom": ("dcm", dicom_of(65_535, 65_535), "", "an image of 65535 x 65535 pixels; at most"),
    "dicom, deflated": ("dcm", deflated(), "", "a deflated DICOM of more than 1024 MiB"),
    "npz, one image": ("npz", npz_of((1, 1 << 20, 1 << 20)), "#array=a&row=0", "expected rows of at most 2048 MiB"),
    "npz, too large for an image": ("npz", npz_of((1, 1 << 15, 1 << 13)), "#array=a&row=0", "array ends before its last row|at most"),
    "npz, many": ("npz", npz_of((1 << 40, 64, 64)), f"#array=a&row={1 << 39}", "the array ends before its last row"),
    "npz, no axis": ("npz", npz_of(()), "#array=a&row=0", r"array 'a' of shape \(\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_taking_memory(tmp_path, name):
    *carrier, message = BOMBS[name]
    uri = save(tmp_path, tuple(carrier))
    tracemalloc.start()
    with pytest.raises(ImageError, match=message):
        read_image(uri)
    assert tracemalloc.get_traced_memory()[1] < 150 << 20
    tracemalloc.stop()


def test_the_largest_image_that_is_read_is_larger_than_any_radiograph(tmp_path):
    assert MOST_PIXELS > 4 * 6_000 * 5_000
    image = Image.new("L", (6_000, 5_000))
    assert read_image(save(tmp_path, ("png", pillow(image, "PNG"), ""))).shape == (5_000, 6_000, 3)


# --- the process that GDCM has to itself -------------------------------------------------------------------------------


@pytest.fixture
def lossless():
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    yield grey, lossless_jpeg_dicom(dicom(grey), grey, 16)
    gdcm_process._stop()


def test_after_a_crash_the_next_file_is_read(tmp_path, lossless):
    grey, data = lossless
    np.testing.assert_array_equal(gdcm_process.decode(data), grey)
    first = gdcm_process._child.pid
    gdcm_process._child.kill()  # what abort() does to it
    gdcm_process._child.wait()
    np.testing.assert_array_equal(gdcm_process.decode(data), grey)
    assert gdcm_process._child.pid != first


def test_one_that_hangs_is_given_up(monkeypatch, lossless):
    import os
    import signal

    _, data = lossless
    assert gdcm_process.decode(data) is not None
    os.kill(gdcm_process._child.pid, signal.SIGSTOP)
    monkeypatch.setattr(gdcm_process, "PATIENCE", 0.2)
    assert gdcm_process.decode(data) is None
    assert gdcm_process._child is None
    monkeypatch.undo()
    assert gdcm_process.decode(data) is not None


def test_what_is_no_dicom_gives_none(lossless):
    assert gdcm_process.decode(b"nothing") is None
    assert gdcm_process.decode(lossless[1]) is not None
