"""Small files that promise enormous images: refused quickly and before memory is taken for them."""

import gzip
import io
import re
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from cbmir.images import gdcm_process
from cbmir.images.limits import MOST_PIXELS
from cbmir.images.read import read_image
from tests.image_files import (
    dicom,
    dicom_bytes,
    jpeg_dicom,
    lossless_jpeg_dicom,
    nifti,
    pillow,
    png_chunks,
    save,
)

ZEROS = zlib.compress(bytes(1 << 27), 9)  # 128 MiB in 130 kB


def png(width: int, height: int) -> bytes:
    """A PNG whose pixels are many megabytes of zeros, packed."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return png_chunks((b"IHDR", head), (b"IDAT", ZEROS), (b"IEND", b""))


def png_with(*chunks: tuple[bytes, bytes], last: bool = False) -> bytes:
    """A small PNG with more chunks before its pixels, or behind them."""
    row = zlib.compress(bytes(9))
    head, pixels = (b"IHDR", (8).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])), (b"IDAT", row)
    return png_chunks(head, *((pixels, *chunks) if last else (*chunks, pixels)), (b"IEND", b""))


def patched(data: bytes, marker: bytes, **places: bytes) -> bytes:
    """Bytes with others put in, so many behind a marker: at5=b'...'."""
    assert data.count(marker) == 1
    changed = bytearray(data)
    for place, value in places.items():
        at = data.index(marker) + int(place.removeprefix("at"))
        changed[at : at + len(value)] = value
    return bytes(changed)


def webp(width: int, height: int) -> bytes:
    """A small WebP under an extended header of another size."""
    body = pillow(np.zeros((8, 8, 3), np.uint8), "WEBP", lossless=True)[12:]
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    whole = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + body
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def dicom_of(rows: int, columns: int, syntax=ExplicitVRLittleEndian) -> bytes:
    data = dicom(np.zeros((64, 64), np.uint8))
    if syntax != ExplicitVRLittleEndian:
        dicom_bytes(data, syntax)
    data.Rows, data.Columns = rows, columns
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def deflated() -> bytes:
    data = dicom(np.zeros((8, 8), np.uint8))
    data.add_new(0x00091001, "OB", bytes(1 << 20))
    whole = dicom_bytes(data, DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return whole[:start] + b"".join(packer.compress(bytes(1 << 24)) for _ in range(80)) + packer.flush()


def npz_of(shape: tuple[int, ...], *, header: int = 0, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A .npz that says `shape`, or that its header has so many bytes, and holds a megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive, archive.open("a.npy", "w") as member:
        if header:
            member.write(b"\x93NUMPY\2\0" + struct.pack("<I", header))
            for _ in range(header >> 24):
                member.write(bytes(1 << 24))
        else:
            np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
        member.write(bytes(1 << 20))
    return buffer.getvalue()


def nifti_of(*, shape: tuple[int, ...] = (8, 8, 8), offset: float = 352.0, zeros: int = 0) -> bytes:
    """A packed NIfTI file that says a shape and where its voxels begin, and `zeros` MiB of zeros behind it."""
    whole = bytearray(nifti(np.zeros((8, 8, 8), np.uint8)))
    whole[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    whole[108:112] = struct.pack("<f", offset)
    return gzip.compress(bytes(whole)) + gzip.compress(bytes(1 << 24), 9) * (zeros // 16)


SMALL = np.zeros((64, 64), np.uint8)
WIDE = struct.pack(">HH", 65_500, 65_500)
BOMBS = {
    "png": ("png", png(60_000, 60_000), "", "pixels"),
    "png, a little too large": ("png", png(MOST_PIXELS // 4096 + 1, 4096), "", "at most 134,217,728 are read"),
    "png text": ("png", png_with((b"zTXt", b"C\0\0" + ZEROS)), "", "too large"),
    "png text behind the pixels": ("png", png_with((b"zTXt", b"C\0\0" + ZEROS), last=True), "", "too large"),
    "png international text": ("png", png_with((b"iTXt", b"C\0\1\0\0\0" + ZEROS)), "", "too large"),
    "png many texts": ("png", png_with(*[(b"zTXt", b"C\0\0" + zlib.compress(bytes(1_000_000), 9))] * 100), "", "Too much memory"),
    "png color profile": ("png", png_with((b"iCCP", b"p\0\0" + ZEROS)), "", "too large"),
    "jpeg": ("jpg", patched(pillow(SMALL, "JPEG"), b"\xff\xc0\x00", at5=WIDE), "", "pixels"),
    "jpeg 2000": ("j2k", patched(pillow(SMALL, "JPEG2000", no_jp2=True), b"\xff\x51", at6=struct.pack(">II", 60_000, 60_000), at22=struct.pack(">II", 60_000, 60_000)), "", "pixels"),
    "webp": ("webp", webp(16_383, 16_383), "", "pixels"),
    "tiff": ("tif", patched(pillow(SMALL, "TIFF"), b"\0\1\4\0\1\0\0\0\x40\0\0\0", at8=struct.pack("<I", 1 << 22)), "", "pixels"),
    "bmp": ("bmp", patched(pillow(SMALL, "BMP"), b"BM", at18=struct.pack("<II", 100_000, 100_000)), "", "pixels"),
    "gif": ("gif", patched(pillow(SMALL, "GIF"), b"GIF8", at6=b"\xff\xff\xff\xff"), "", "pixels"),
    "dicom": ("dcm", dicom_of(65_535, 65_535), "", "an image of 65535 x 65535 pixels; at most"),
    "dicom rle": ("dcm", dicom_of(11_000, 12_000, RLELossless), "", "cannot be decoded"),
    "dicom, deflated": ("dcm", deflated(), "", "a deflated DICOM of more than 1024 MiB"),
    "dicom jpeg": ("dcm", patched(jpeg_dicom(dicom(SMALL), SMALL), b"\xff\xc0\x00", at5=WIDE), "", "65500 x 65500, but"),
    "dicom lossless jpeg": ("dcm", patched(lossless_jpeg_dicom(dicom(SMALL), SMALL, 8), b"\xff\xc3\x00", at5=WIDE), "", "65500 x 65500, but"),
    "dicom jpeg-ls": ("dcm", patched(dicom_bytes(dicom(SMALL), JPEGLSLossless), b"\xff\xf7\x00", at5=WIDE), "", "65500 x 65500, but"),
    "dicom jpeg 2000": ("dcm", patched(dicom_bytes(dicom(SMALL), JPEG2000Lossless), b"\xff\x51", at6=struct.pack(">II", 60_000, 60_000)), "", "60000 x 60000, but"),
    "npz, one image": ("npz", npz_of((1, 1 << 20, 1 << 20)), "#array=a&row=0", "expected rows of at most 2048 MiB"),
    "npz, an overflow": ("npz", npz_of((1, 1 << 32, 1 << 32)), "#array=a&row=0", "expected rows of at most 2048 MiB"),
    "npz, a negative length": ("npz", npz_of((1, -8, 8)), "#array=a&row=0", "expected rows of at most 2048 MiB"),
    "npz, too large for an image": ("npz", npz_of((1, 1 << 15, 1 << 13)), "#array=a&row=0", "array ends before its last row|at most"),
    "npz, many": ("npz", npz_of((1 << 40, 64, 64)), f"#array=a&row={1 << 39}", "the array ends before its last row"),
    "npz, no axis": ("npz", npz_of(()), "#array=a&row=0", r"array 'a' of shape \(\)"),
    "npz, header": ("npz", npz_of((), header=1 << 28), "#array=a&row=0", "no header that NumPy writes"),
    "npz, packed otherwise": ("npz", npz_of((1, 8, 8), packing=zipfile.ZIP_BZIP2), "#array=a&row=0", "packed in a way"),
    "nifti, one slice": ("nii.gz", nifti_of(shape=(20_000, 20_000, 2)), "#slice=0", "an image of 20000 x 20000 pixels"),
    "nifti, a volume": ("nii.gz", nifti_of(shape=(4000, 4000, 4000)), "#slice=0", "larger than 2048 MiB"),
    "nifti, more than gzip can hold": ("nii.gz", nifti_of(shape=(1000, 1000, 1000)), "#slice=0", "ends within its voxels"),
    "nifti, in time": ("nii.gz", nifti_of(shape=(1000, 1000, 1000, 30_000), zeros=256), "#slice=0&time=29999", "ends within its voxels"),
    "nifti, before the voxels": ("nii.gz", nifti_of(offset=1e30, zeros=256), "#slice=0", "begin at byte 1e\\+30"),
}  # fmt: skip
ONE = """
import resource, sys, time
from cbmir.images.errors import ImageError
from cbmir.images.read import read_image
import nibabel, pydicom, pydicom.pixels, PIL.Image
PIL.Image.init()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (320 << 20),) * 2)  # room for what the file itself takes, and for little else
for uri in sys.argv[1:]:
    begin = time.monotonic()
    try:
        said = f"an image of {read_image(uri).shape}"
    except ImageError as error:
        said = str(error)
    print(f"{time.monotonic() - begin:.2f}|{said}")
"""


def test_bombs_are_refused_soon_and_without_taking_memory(tmp_path):
    uris = []
    for i, (suffix, data, part, _) in enumerate(BOMBS.values()):
        assert len(data) < 2 << 20
        (tmp_path / f"{i}.{suffix}").write_bytes(data)
        uris.append(f"{tmp_path}/{i}.{suffix}{part}")
    done = subprocess.run([sys.executable, "-c", ONE, *uris], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(BOMBS)
    for (name, (*_, expected)), line in zip(BOMBS.items(), lines, strict=True):
        seconds, _, said = line.partition("|")
        assert re.search(expected, said), f"{name}: {said}"
        assert float(seconds) < 10, name


def test_the_limit_of_that_test_is_felt(tmp_path):
    (tmp_path / "a.png").write_bytes(pillow(np.zeros((11_000, 11_000), np.uint8), "PNG"))
    done = subprocess.run(
        [sys.executable, "-c", ONE, str(tmp_path / "a.png")], capture_output=True, text=True, check=False
    )
    assert "MemoryError" in done.stdout


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
