"""With --deidentify, nothing of a DICOM header but modality, body part and hashed ids reaches any output of a run.

Files whose every text holds a marker that stands nowhere else go the whole way, broken ones among them, so that errors arise; then every
byte of the study, every value of its tables, what was printed and Ray's logs are searched for the markers.
"""

import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from tests.image_files import dicom
from tests.sources import failures, run_whole

VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
# what decides the pixels, or goes into the manifest as it is
KEPT = ("Modality", "BodyPartExamined", "SpecificCharacterSet", "PhotometricInterpretation", "NumberOfFrames")


# what every marker looks like; found ones are looked up among those that were written
SHAPE = re.compile(
    rb"(?i:zq)\d{6}|1\.2\.999\.77\d{6}\.1|(?<![\d.])77\d{6}(?:\.25)?(?!\d)|(?<![\d.])1[3-7]\d\d0[1-9][12]\d(?!\d)|0\d3\d5\d\.77\d{4}|13\d\d0312101112\.77\d{4}"
)


class Marks:
    """Texts that occur nowhere else: ZQ and a number for words, a number from 77,000,000 on where letters are not allowed."""

    def __init__(self) -> None:
        self.count = 0
        self.made: set[bytes] = set()

    def new(self, vr: str) -> str:
        self.count += 1
        text = {
            "DA": f"{1300 + self.count % 500:04d}0{1 + self.count % 9}{10 + self.count % 18}",
            "TM": f"0{self.count % 10}3{self.count % 10}5{self.count % 10}.77{self.count % 10_000:04d}",
            "DT": f"13{self.count % 90 + 10}0312101112.77{self.count % 10_000:04d}",
            "AS": f"{self.count % 900 + 100}Y",
            "DS": f"77{self.count:06d}.25",
            "IS": f"77{self.count:06d}",
            "UI": f"1.2.999.77{self.count:06d}.1",
        }.get(vr, f"ZQ{self.count:06d}")
        if vr != "AS":  # four characters might be there by chance
            self.made.add(text.encode())
        return text

    def found(self, data: bytes) -> set[bytes]:
        """Those that stand in `data`, in letters of any case."""
        return {found.upper() for found in SHAPE.findall(data)} & self.made


def marked(marks: Marks, values: np.ndarray | None = None, **header) -> Dataset:
    """A DICOM with a marker in every text element of the dictionary, in a sequence and in private elements."""
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) if values is None else values
    data = dicom(values, **header)
    data.Modality, data.BodyPartExamined = header.get("Modality", "CT"), header.get("BodyPartExamined", "CHEST")
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if (
            group in (0x0000, 0x0002, 0x0004, 0x0028, 0xFFFE, 0x7FE0)
            or not keyword
            or keyword in data
            or keyword in KEPT
        ):
            continue
        if vr in VRS and not 0x5000 <= group <= 0x50FF:
            data.add_new(tag, vr, marks.new(vr))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(marks.new("UI"))
    item = Dataset()
    item.PatientName, item.InstitutionName = marks.new("PN"), marks.new("LO")
    data.ReferencedPatientSequence = Sequence([item])
    block = data.private_block(0x0009, marks.new("LO"), create=True)
    block.add_new(0x01, "LO", marks.new("LO"))
    block.add_new(0x02, "UN", marks.new("LO").encode())
    data.file_meta.ImplementationVersionName = marks.new("SH")
    data.file_meta.SourceApplicationEntityTitle = marks.new("AE")
    return data


def stored(data: Dataset) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def replaced(data: bytes, tag: tuple[int, int], text: bytes) -> bytes:
    """A file with another value of equal length in an explicit element; nothing checks it on the way."""
    at = data.index(struct.pack("<HH", *tag))
    size = struct.unpack("<H", data[at + 6 : at + 8])[0]
    return data[: at + 8] + text.ljust(size)[:size] + data[at + 8 + size :]


@pytest.fixture
def archive(tmp_path) -> tuple[Path, Marks]:
    """Files whose headers are full of markers, whole and broken in many ways -> (their directory, the markers)."""
    marks, root = Marks(), tmp_path / "arch"
    root.mkdir()
    whole = stored(marked(marks))
    files = {
        "whole": whole,
        "frames": stored(marked(marks, np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8), NumberOfFrames=3)),
        "pixels-cut": stored(marked(marks))[:-20],
        "header-cut": whole[: len(whole) // 2],
        "no-photometric": replaced(stored(marked(marks)), (0x28, 4), marks.new("CS").encode()),
        "charset": stored(marked(marks, SpecificCharacterSet="ISO_IR 100")).replace(
            b"ISO_IR 100", marks.new("CS").encode().ljust(10)
        ),
        "window": replaced(
            stored(marked(marks, WindowCenter="100.5678", WindowWidth="200")), (0x28, 0x1050), marks.new("CS").encode()
        ),
        "slope": replaced(
            stored(marked(marks, RescaleSlope="1.000000", RescaleIntercept="0")), (0x28, 0x1053), marks.new("CS").encode()
        ),
        "frames-word": replaced(
            stored(marked(marks, np.zeros((2, 8, 8), np.uint8), NumberOfFrames="00000002")), (0x28, 8), marks.new("CS").encode()
        ),
        "body-part": replaced(stored(marked(marks, BodyPartExamined="THORAX_OF_MRS_XY")), (0x18, 0x15), b"MR. " + marks.new("CS").encode()),
        "modality": replaced(stored(marked(marks, Modality="CT_" + "X" * 9)), (0x08, 0x60), b"CT^" + marks.new("CS").encode()),
        "ids": replaced(replaced(stored(marked(marks)), (0x20, 0x0D), b"ZQ" + marks.new("UI")[-10:-2].encode()), (0x10, 0x20), b"\xff\xfe"),
    }  # fmt: skip
    syntax = marked(marks)
    syntax.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    uid = marks.new("UI")
    files["syntax"] = stored(syntax).replace(b"1.2.840.10008.1.2.1\0", uid.encode().ljust(20, b"\0"), 1)
    compressed = stored(marked(marks)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)
    files["no-rle"] = compressed
    report = marked(marks, Modality="SR")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    files["report"] = stored(report)
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root, marks


def test_no_field_of_a_header_reaches_any_output(archive, ray_session, tmp_path, capfd, caplog):
    import ray

    root, marks = archive
    given = b"".join(path.read_bytes() for path in root.iterdir())
    assert len(marks.found(given)) > 20_000  # the files are full of them
    study = run_whole("dicom", root, study=tmp_path / "study", flags=("--max-failures", "100%", "--debug"))
    failed = {Path(uri.partition("#")[0]).name for uri in failures(study)["uri"].to_pylist()}
    assert {"pixels-cut", "syntax", "no-rle", "no-photometric"} <= failed  # errors have arisen
    assert study.require("embeddings", "encoder=pixels32")["rows"] >= 4
    said = capfd.readouterr()
    assert not marks.found((said.out + said.err + caplog.text).encode())
    looked_at = 0
    for path in (tmp_path / "study").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += repr(pq.read_table(path).to_pydict()).encode()
            assert not marks.found(content), path
            looked_at += 1
    assert looked_at > 10
    for path in Path(ray._private.worker._global_node.get_logs_dir_path()).rglob("*"):
        if path.is_file() and os.path.getmtime(path) > root.stat().st_mtime:
            assert not marks.found(path.read_bytes()), path


def test_the_search_finds_what_is_there(archive, ray_session, tmp_path):
    """The same run with ids as they are: now the patient's, the study's and the series' markers are in the manifest."""
    root, marks = archive
    study = run_whole("dicom", root, study=tmp_path / "study", flags=("--max-failures", "100%", "--no-deidentify"))
    table = study.dataset("manifest").to_table()
    for column in ("patient_id", "study_id", "series_id"):
        assert len(marks.found("\n".join(table[column].drop_null().to_pylist()).encode())) >= 10
