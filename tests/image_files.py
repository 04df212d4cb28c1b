"""The same picture in every format, for tests of the decoders."""

from __future__ import annotations

import gzip
import io
import warnings
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)


def dicom(values: np.ndarray, *, photometric: str = "MONOCHROME2", bits: int | None = None, **header) -> Dataset:
    """A DICOM of `values` (h, w), (h, w, 3) or, with NumberOfFrames, (n, h, w)."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    rows = values.shape[1:3] if "NumberOfFrames" in header else values.shape[:2]
    data.Rows, data.Columns = rows
    data.SamplesPerPixel = 3 if values.shape[-1] == 3 and photometric in ("RGB", "YBR_FULL") else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    raw = values.tobytes()
    data.PixelData = raw + bytes(len(raw) % 2)
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    for name, value in header.items():
        setattr(data, name, value)
    return data


AXIAL = [1, 0, 0, 0, 1, 0]


def enhanced(
    positions: list[float | None], *, own: dict[int, list[float]] | None = None, shared: bool = True
) -> Dataset:
    """Axial frames at heights `positions`, in each of which the row of its number is bright; own: orientations of single frames."""
    groups = []
    for n, z in enumerate(positions):
        place = {} if z is None else {"PlanePositionSequence": [_item(ImagePositionPatient=[-3, 5, z])]}
        plane = {"PlaneOrientationSequence": [_item(ImageOrientationPatient=own[n])]} if n in (own or {}) else {}
        groups.append(_item(**place, **plane))
    common = _item(**({"PlaneOrientationSequence": [_item(ImageOrientationPatient=AXIAL)]} if shared else {}))
    frames = np.zeros((len(positions), 8, 4), np.uint8)
    frames[np.arange(len(positions)), np.arange(len(positions))] = 255
    return dicom(
        frames,
        NumberOfFrames=len(positions),
        SharedFunctionalGroupsSequence=[common],
        PerFrameFunctionalGroupsSequence=groups,
    )


def _item(**elements) -> Dataset:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item


def written(path: Path, data: Dataset) -> str:
    data.save_as(path, enforce_file_format=True)
    return str(path)


def dicom_bytes(data: Dataset, syntax=ExplicitVRLittleEndian) -> bytes:
    """A DICOM file in a transfer syntax; compressed ones through pydicom's own encoders."""
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        data.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian and data.BitsAllocated == 16:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bare_dicom(data: Dataset, *, little: bool = True) -> bytes:
    """A data set alone, as ACR-NEMA had it: no preamble, no prefix, no meta information."""
    del data.file_meta
    buffer = io.BytesIO()
    data.save_as(buffer, implicit_vr=little, little_endian=little)
    return buffer.getvalue()


def jpeg_dicom(data: Dataset, picture: np.ndarray, **how) -> bytes:
    """A DICOM whose pixels are one baseline JPEG."""
    data.PixelData = encapsulate([pillow(picture, "JPEG", **({"quality": 95} | how))])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return dicom_bytes(data, JPEGBaseline8Bit)


def lossless_jpeg(values: np.ndarray, bits: int) -> bytes:
    """(H, W) -> one lossless JPEG (ITU-T T.81, annex H; predictor 1): what most compressed radiographs are, and no Python library writes."""
    height, width = values.shape
    padded = values.astype(np.int64)
    before = np.empty_like(padded)
    before[:, 1:] = padded[:, :-1]  # the pixel at left; above it in the first column; the middle level at the start
    before[1:, 0] = padded[:-1, 0]
    before[0, 0] = 1 << (bits - 1)
    text = []
    for difference in (padded - before).ravel().tolist():
        size = abs(difference).bit_length()
        rest = difference if difference >= 0 else difference + (1 << size) - 1
        text.append(f"{size:05b}" + (f"{rest:0{size}b}" if 0 < size < 16 else ""))
    joined = "".join(text)
    joined += "1" * (-len(joined) % 8)
    scan = int(joined, 2).to_bytes(len(joined) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = bytes([bits]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([1, 1, 0x11, 0])
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])  # 17 codes of five bits each: 0 .. 16
    segments = ((b"\xff\xc3", frame), (b"\xff\xc4", table), (b"\xff\xda", bytes([1, 1, 0, 1, 0, 0])))
    return b"\xff\xd8" + b"".join(m + (len(d) + 2).to_bytes(2, "big") + d for m, d in segments) + scan + b"\xff\xd9"


def lossless_jpeg_dicom(data: Dataset, values: np.ndarray, bits: int) -> bytes:
    """A DICOM whose pixels are one lossless JPEG."""
    data.PixelData = encapsulate([lossless_jpeg(values, bits)])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return dicom_bytes(data, JPEGLosslessSV1)


def pillow(picture: np.ndarray | Image.Image, kind: str, **how) -> bytes:
    """Bytes of a picture in one of Pillow's formats."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def png16(channels: np.ndarray) -> bytes:
    """(H, W, n) uint16 -> a PNG of 16 bits a channel; n = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. Written by hand: Pillow cannot."""
    height, width, n = channels.shape
    return png_of(
        channels.astype(">u2").reshape(height, -1).view(np.uint8),
        width=width,
        depth=16,
        kind={1: 0, 2: 4, 3: 2, 4: 6}[n],
    )


def png_of(rows: np.ndarray, *, width: int, depth: int, kind: int) -> bytes:
    """(H, bytes of a row) uint8 -> a PNG."""
    height = rows.shape[0]
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, kind, 0, 0, 0])
    return png_chunks((b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b""))


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(d).to_bytes(4, "big") + t + d + zlib.crc32(t + d).to_bytes(4, "big") for t, d in chunks
    )


def png_interlaced(values: np.ndarray) -> bytes:
    """(H, W) uint8 or (H, W, 2) uint16 -> a PNG in Adam7's seven passes (PNG 8.2)."""
    height, width = values.shape[:2]
    deep = values.ndim == 3
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    data = b""
    for top, left, down, right in passes:
        part = values[top::down, left::right]
        if part.size:
            data += b"".join(b"\0" + (row.astype(">u2") if deep else row).tobytes() for row in part)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16 if deep else 8, 4 if deep else 0, 0, 0, 1])
    return png_chunks((b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b""))


def png_bits(levels: np.ndarray, depth: int) -> bytes:
    """(H, W) levels of 1, 2 or 4 bits -> a grey PNG of them."""
    bits = np.unpackbits(levels.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - depth :]
    return png_of(np.packbits(bits.reshape(len(levels), -1), axis=1), width=levels.shape[1], depth=depth, kind=0)


def nifti(
    volume: np.ndarray, *, affine: np.ndarray | None = None, packed: bool = False, slope=None, inter=None
) -> bytes:
    """(x, y, z) numbers as stored -> a NIfTI-1 file; the affine is RAS unless given."""
    image = nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    header = image.header.copy()
    header["vox_offset"] = 352
    stored = header.binaryblock + bytes(4) + volume.tobytes(order="F")
    return gzip.compress(stored, mtime=0) if packed else stored


def white_is_zero(tiff: bytes) -> bytes:
    """A little-endian TIFF whose photometric interpretation (262) was 1 and becomes 0."""
    before = (262).to_bytes(2, "little") + b"\3\0\1\0\0\0"
    assert tiff.count(before + b"\1\0") == 1
    return tiff.replace(before + b"\1\0", before + b"\0\0")


def as_volume(grey: np.ndarray) -> np.ndarray:
    """(H, W) as it is to be seen -> (W, H, 1) canonical voxels whose axial slice shows it."""
    return grey[::-1, ::-1].T[:, :, None]


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npz_stored(grey: np.ndarray, *, version: tuple[int, int] = (1, 0)) -> bytes:
    """(H, W) -> a .npz that holds it as it is, under a header of a version."""
    array, buffer = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of versions that old programs cannot read
        np.lib.format.write_array(array, grey[None], version=version)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", array.getvalue())
    return buffer.getvalue()


def grey_carriers(grey: np.ndarray) -> dict[str, tuple[str, bytes, str]]:
    """(H, W) uint8 -> name: (suffix, bytes, part of the uri) of every lossless file that shows exactly it.

    The picture must hold 0 and 255, so that a window over its own range is the identity.
    """
    deep = grey.astype(np.uint16)
    window = {"WindowCenter": 1000 + 128, "WindowWidth": 256}  # PS3.3 C.11.2.1.2: 1000 -> 0, 1255 -> 255
    alpha = np.full_like(grey, 7)
    float_tiff = Image.fromarray(grey.astype(np.float32) * 3 - 100)
    files = {
        "png 8": ("png", pillow(grey, "PNG"), ""),
        "png palette": ("png", pillow(_palette(grey), "PNG"), ""),
        "png grey and alpha": ("png", pillow(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"), ""),
        "png rgba": ("png", pillow(np.dstack([grey, grey, grey, alpha]), "PNG"), ""),
        "png 16, own range": ("png", png16((deep * 11 + 300)[:, :, None]), ""),
        "png 16, times 257": ("png", png16((deep * 257)[:, :, None]), ""),
        "png interlaced": ("png", png_interlaced(grey), ""),
        "png 16, grey and alpha, interlaced": ("png", png_interlaced(np.dstack([deep * 257, deep])), ""),
        "png 16, grey and alpha, own range": ("png", png16(np.dstack([deep * 3 + 77, np.full_like(deep, 9)])), ""),
        "png 16, grey and alpha": ("png", png16(np.dstack([deep * 257, np.full_like(deep, 9)])), ""),
        "png 16, rgb": ("png", png16(np.dstack([deep * 257] * 3)), ""),
        "png 16, rgba": ("png", png16(np.dstack([deep * 257] * 3 + [np.full_like(deep, 9)])), ""),
        "tiff 8": ("tif", pillow(grey, "TIFF"), ""),
        "tiff lzw": ("tif", pillow(grey, "TIFF", compression="tiff_lzw"), ""),
        "tiff deflate": ("tif", pillow(grey, "TIFF", compression="tiff_adobe_deflate"), ""),
        "tiff packbits": ("tif", pillow(grey, "TIFF", compression="packbits"), ""),
        "tiff 16, times 257": ("tif", pillow(deep * 257, "TIFF"), ""),
        "tiff 16, lzw": ("tif", pillow(deep * 11 + 300, "TIFF", compression="tiff_lzw"), ""),
        "tiff 16, white is zero": ("tif", white_is_zero(pillow((255 - deep) * 7 + 5, "TIFF")), ""),
        "tiff 16": ("tif", pillow(deep * 11 + 300, "TIFF"), ""),
        "tiff 32": ("tif", pillow(grey.astype(np.int32) * 9 - 1000, "TIFF"), ""),
        "tiff float": ("tif", pillow(float_tiff, "TIFF"), ""),
        "bmp": ("bmp", pillow(grey, "BMP"), ""),
        "gif": ("gif", pillow(grey, "GIF"), ""),
        "webp": ("webp", pillow(np.dstack([grey] * 3), "WEBP", lossless=True), ""),
        "npz uint8": ("npz", npz(a=grey[None]), "#array=a&row=0"),
        "npz stored": ("npz", npz_stored(grey), "#array=a&row=0"),
        "npz under another name": ("bin", npz(a=grey[None]), "#array=a&row=0"),
        "npz one channel": ("npz", npz(a=grey[None, :, :, None]), "#array=a&row=0"),
        "npz header 2.0": ("npz", npz_stored(grey, version=(2, 0)), "#array=a&row=0"),
        "npz header 3.0": ("npz", npz_stored(grey, version=(3, 0)), "#array=a&row=0"),
        "npz uint16": ("npz", npz(a=deep[None] * 3), "#array=a&row=0"),
        "npz float": ("npz", npz(a=grey[None].astype(np.float32) / 255), "#array=a&row=0"),
        "npz volume": ("npz", npz(a=np.stack([np.zeros_like(grey), grey])[None]), "#array=a&row=0&slice=1"),
        "npz volume, axis 1": ("npz", npz(a=np.stack([grey, grey], axis=1)[None]), "#array=a&row=0&slice=1&axis=1"),
        "npz volume, axis 2": ("npz", npz(a=np.stack([grey, grey], axis=2)[None]), "#array=a&row=0&slice=0&axis=2"),
        "dicom 8, no window": ("dcm", dicom_bytes(dicom(grey)), ""),
        "dicom 8, implicit": ("dcm", dicom_bytes(dicom(grey), ImplicitVRLittleEndian), ""),
        "dicom 8, without suffix": ("", dicom_bytes(dicom(grey)), ""),
        "dicom 8, deflated": ("dcm", dicom_bytes(dicom(grey), DeflatedExplicitVRLittleEndian), ""),
        "dicom 8, in 16": ("dcm", dicom_bytes(dicom(deep, bits=8)), ""),
        "dicom 8, bare": ("", bare_dicom(dicom(grey)), ""),
        "dicom 8, bare big endian": ("", bare_dicom(dicom(deep.astype(">u2"), bits=8), little=False), ""),
        "dicom 8, without preamble": ("dcm", dicom_bytes(dicom(grey))[128:], ""),
        "dicom 16, own range": ("dcm", dicom_bytes(dicom(deep * 5 + 100)), ""),
        "dicom 16, window": ("dcm", dicom_bytes(dicom(deep + 1000, **window)), ""),
        "dicom 16, big endian": ("dcm", dicom_bytes(dicom(deep + 1000, **window), ExplicitVRBigEndian), ""),
        "dicom signed, rescale": (
            "dcm",
            dicom_bytes(dicom(grey.astype(np.int16) - 500, RescaleSlope=2, RescaleIntercept=0)),
            "",
        ),
        "dicom monochrome1": ("dcm", dicom_bytes(dicom(255 - grey, photometric="MONOCHROME1")), ""),
        "dicom rgb": ("dcm", dicom_bytes(dicom(np.dstack([grey] * 3), photometric="RGB")), ""),
        "dicom rle": ("dcm", dicom_bytes(dicom(grey), RLELossless), ""),
        "dicom rle 16": ("dcm", dicom_bytes(dicom(deep + 1000, **window), RLELossless), ""),
        "dicom jpeg-ls": ("dcm", dicom_bytes(dicom(grey), JPEGLSLossless), ""),
        "dicom jpeg-ls 16": ("dcm", dicom_bytes(dicom(deep + 1000, **window), JPEGLSLossless), ""),
        "dicom jpeg 2000": ("dcm", dicom_bytes(dicom(grey), JPEG2000Lossless), ""),
        "dicom jpeg 2000 16": ("dcm", dicom_bytes(dicom(deep + 1000, **window), JPEG2000Lossless), ""),
        "dicom jpeg lossless": ("dcm", lossless_jpeg_dicom(dicom(grey), grey, 8), ""),
        "dicom jpeg lossless 16": ("dcm", lossless_jpeg_dicom(dicom(deep + 1000, **window), deep + 1000, 16), ""),
        "dicom frame": ("dcm", dicom_bytes(dicom(np.stack([255 - grey, grey]), NumberOfFrames=2)), "#frame=1"),
        "dicom frame rle": ("dcm", dicom_bytes(dicom(np.stack([255 - grey, grey]), NumberOfFrames=2), RLELossless), "#frame=1"),
        "nifti uint8": ("nii", nifti(as_volume(grey)), "#axis=2&slice=0"),
        "nifti packed": ("nii.gz", nifti(as_volume(grey), packed=True), "#axis=2&slice=0"),
        "nifti int16": ("nii", nifti(as_volume(grey.astype(np.int16) * 4 - 900)), "#slice=0"),
        "nifti int16, window": ("nii", nifti(as_volume(grey.astype(np.int16) * 2 - 900)), "#slice=0&window=-645,510"),
        "nifti float, scaled": ("nii.gz", nifti(as_volume(grey.astype(np.float32)), packed=True, slope=2.0, inter=-7.0), "#slice=0"),
        "nifti under another name": ("img2", nifti(as_volume(grey), packed=True), "#axis=2&slice=0"),
    }  # fmt: skip
    return files


def _palette(grey: np.ndarray) -> Image.Image:
    """The picture by a palette that runs backward."""
    image = Image.fromarray(255 - grey).convert("P")
    image = Image.frombytes("P", image.size, (255 - grey).tobytes())
    image.putpalette([level for i in range(256) for level in (255 - i,) * 3])
    return image


def save(directory: Path, carrier: tuple[str, bytes, str]) -> str:
    """Write one carrier -> its uri."""
    suffix, data, part = carrier
    path = directory / (f"a.{suffix}" if suffix else "a")
    path.write_bytes(data)
    return f"{path}{part}"
