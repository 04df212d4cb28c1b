"""cbmir pack and embed --packed on a real local Ray: nothing lost, no pixel changed that need not be, the same vectors every time; kills, growth and refusals."""

import io
import json
import resource
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from cbmir.cli import main
from cbmir.embedding.decode import DecodeOptions, as_pixels, decode_block
from cbmir.embedding.shards import GONE, packed_files
from cbmir.encoders.build import build
from cbmir.encoders.table import resolve
from cbmir.images.errors import ImageError
from cbmir.images.facts import facts
from cbmir.images.geometry import apply
from cbmir.images.read import read_image
from cbmir.images.shrunk import VERSION, Shrink, as_png, decoded, shrunk, unpacked
from cbmir.lookup import Lookup
from cbmir.querying.inputs import Query
from cbmir.querying.reading import reader
from cbmir.schemas import FAILURES, PACKED, image_key
from cbmir.select import PACKED_LEDGER, attach_ledger, attach_manifest, connect, to_do_packed
from cbmir.shrinking import shards
from cbmir.sql_files import read
from cbmir.store import Study
from tests.image_files import as_volume, dicom, dicom_bytes, nifti, npz, pillow, png16
from tests.processes import children, kill, start, wait_for
from tests.test_kill import alive, workers

SIDE = 200
TINY = "tiny=timm:test_resnet@128~random0"  # resizes to 144 pixels


def drawn(seed: int, width: int, height: int, channels: int = 1) -> np.ndarray:
    """Waves, an edge and some noise, (height, width) or (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = []
    for _ in range(channels):
        waves = sum(np.sin(y * a + x * b) for a, b in rng.normal(0, 0.05, (6, 2)))
        edge = 60.0 * (np.hypot(y - height / 2, x - width / 3) < min(width, height) / 3)
        planes.append(110 + 12 * waves + edge + rng.normal(0, 4, (height, width)))
    picture = np.clip(np.dstack(planes), 0, 255).astype(np.uint8)
    return picture if channels == 3 else picture[:, :, 0]


def turned(picture: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pillow(picture, "JPEG", quality=90, exif=exif)


# name: (file, bytes, part of the uri, (width, height) as it is seen, channels, how many times smaller JPEG may be decoded)
GOOD = {
    "grey jpeg": ("a.jpg", pillow(drawn(1, 1300, 1000), "JPEG", quality=90), "", (1300, 1000), 1, 2),
    "large jpeg": ("aa.jpg", pillow(drawn(14, 1700, 1610), "JPEG", quality=90), "", (1700, 1610), 1, 4),
    "color jpeg": ("b.jpg", pillow(drawn(2, 900, 1201, 3), "JPEG", quality=90), "", (900, 1201), 3, 2),
    "turned jpeg": ("c.jpg", turned(drawn(3, 1002, 1001), 6), "", (1001, 1002), 1, 2),
    "jpeg below twice": ("d.jpg", pillow(drawn(4, 700, 390), "JPEG"), "", (700, 390), 1, 1),
    "grey png": ("e.png", pillow(drawn(5, 640, 481), "PNG"), "", (640, 481), 1, 1),
    "rgb png": ("f.png", pillow(drawn(6, 333, 500, 3), "PNG"), "", (333, 500), 3, 1),
    "grey as rgb": ("g.png", pillow(np.dstack([drawn(7, 500, 400)] * 3), "PNG"), "", (500, 400), 1, 1),
    "16 bits": ("h.png", png16(drawn(8, 450, 300).astype(np.uint16)[:, :, None] * 11 + 700), "", (450, 300), 1, 1),
    "dicom": ("i.dcm", dicom_bytes(dicom(drawn(9, 520, 430).astype(np.uint16) * 9, bits=12)), "", (520, 430), 1, 1),
    "nifti": ("j.nii.gz", nifti(as_volume(drawn(10, 301, 400).astype(np.int16) * 7), packed=True), "#slice=0", (301, 400), 1, 1),
    "npz": ("k.npz", npz(a=drawn(11, 260, 250)[None]), "#array=a&row=0", (260, 250), 1, 1),
    "small": ("l.png", pillow(drawn(12, 150, 199), "PNG"), "", (150, 199), 1, 1),
    "small color jpeg": ("m.jpg", pillow(drawn(13, 640, SIDE, 3), "JPEG"), "", (640, SIDE), 3, 1),
    "one row": ("n.png", pillow(drawn(15, 3000, 1), "PNG"), "", (3000, 1), 1, 1),
}  # fmt: skip
BROKEN = {
    "gone": ("gone.png", None, "", "read"),
    "cut": ("cut.png", pillow(drawn(1, 300, 300), "PNG")[:4000], "", "decode"),
    "text": ("text.jpg", b"no image", "", "decode"),
    "no such slice": ("j.nii.gz", None, "#slice=7", "read"),
}


def put(root: Path, name: str, data: bytes) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
    return root / name


def table(root: Path, rows: list[tuple[str, str]], name: str = "t.csv") -> Path:
    """A table of (image_id, path); every third image is a query."""
    lines = [f"{image},{path},{'test' if i % 3 == 2 else 'train'},a" for i, (image, path) in enumerate(rows)]
    (root / name).write_text("\n".join(["image_id,path,split,labels", *lines]) + "\n")
    return root / name


def run(*arguments: object) -> int:
    """main, with argparse's own exits as codes."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def manifest(study: Path | str, csv: Path, *flags: str) -> None:
    fixed = ("--set", "dataset=t", "--set", "modality=XR", "--set", "region=chest")
    assert run("manifest", "csv", csv, *fixed, "--study", study, *flags) == 0


def pack(study: Path | str, *flags: object) -> int:
    return run("pack", "--study", study, "--short-side", SIDE, "--max-failures", "50%", *flags)


def embed(study: Path | str, *flags: object) -> int:
    return run("embed", "--study", study, "--max-failures", "50%", *flags)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """One of everything, and a table of it."""
    root = tmp_path_factory.mktemp("images")
    for file, data, *_ in (*GOOD.values(), *BROKEN.values()):
        if data is not None:
            put(root, file, data)
    rows = [(name, f"{file}{part}") for name, (file, _, part, *_) in (GOOD | BROKEN).items()]
    table(root, rows)
    return root


@pytest.fixture(scope="module")
def packed(images, ray_session, tmp_path_factory) -> Path:
    """A study of them, packed."""
    study = tmp_path_factory.mktemp("packed") / "study"
    manifest(study, images / "t.csv")
    assert pack(study) == 0
    return study


@pytest.fixture(scope="module")
def embedded(packed, tmp_path_factory) -> Path:
    """The same with vectors of two encoders made of packed images, one encoder after the other."""
    study = tmp_path_factory.mktemp("embedded") / "study"
    shutil.copytree(packed, study)
    assert embed(study, "--packed", "--encoder", "pixels32") == 0
    assert embed(study, "--packed", "--encoder", "pixels32", "--encoder", TINY) == 0
    return study


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    shutil.copytree(packed, tmp_path / "study")
    return tmp_path / "study"


def rows_of(study: Path, *parts: str) -> list[dict]:
    """Rows of a dataset's files, which pyarrow reads alone."""
    files = sorted(study.joinpath(*parts).glob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def of_name(study: Path) -> dict[str, dict]:
    """Name of an image -> its row of packed."""
    names = {image_key(name): name for name in GOOD}
    return {names[row["image_key"]]: row for row in rows_of(study, "packed")}


def pixels(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"])))


def vectors(study: Path, encoder: str) -> dict[int, np.ndarray]:
    rows = rows_of(study, "embeddings", f"encoder={encoder}")
    return {row["image_key"]: np.array(row["embedding"], np.float64) for row in rows}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def conserved(study: Path) -> None:
    """Every row of the manifest is one packed image or one failure, by the check that embeddings are held to."""
    opened, connection = Study(str(study)), connect()
    attach_manifest(connection, opened)
    attach_ledger(connection, "done", opened, PACKED_LEDGER)
    assert connection.execute(read("checks", "conservation")).fetchall() == []
    assert not list(study.glob("**/*.tmp-*"))
    assert not list(study.glob(".staging/*"))


# --- what is packed ----------------------------------------------------------------------------------------------------


def test_every_row_is_one_packed_image_or_one_failure_and_the_contracts_hold(packed):
    conserved(packed)
    assert of_name(packed).keys() == GOOD.keys()
    told = json.loads((packed / "packed" / "run.json").read_text())
    assert (told["rows"], told["failed"], told["last_attempt"]["images"]) == (
        len(GOOD),
        len(BROKEN),
        len(GOOD | BROKEN),
    )
    assert told["parameters"] == {"short_side": SIDE, "whole": False, "interpolation": "bicubic", "version": VERSION}
    assert told["bytes"] == sum(file.stat().st_size for file in packed.glob("packed/*.parquet"))
    assert set(told["last_attempt"]["seconds_by"]) == {"read", "decode", "shrink", "encode", "write"}
    for dataset, contract in (("packed", PACKED), ("packed_failures", FAILURES)):
        for file in packed.glob(f"{dataset}/*.parquet"):
            assert pq.ParquetFile(file).schema_arrow.equals(contract)


def test_failures_say_what_looking_at_the_image_says(packed):
    found = {row["uri"]: (row["stage"], row["error"]) for row in rows_of(packed, "packed_failures")}
    assert len(found) == len(BROKEN)
    for uri, verdict in found.items():
        fact = facts(uri)
        assert verdict == (fact.stage, fact.error)
    assert sorted(stage for stage, _ in found.values()) == sorted(stage for *_, stage in BROKEN.values())


def shrunk_by_others(images: Path, name: str) -> Image.Image:
    """The image as Pillow reads it, JPEG as small as it may be decoded, and as torchvision shrinks it."""
    file, _, part, size, channels, factor = GOOD[name]
    if file.endswith((".jpg", ".png")) and name != "16 bits":
        image = Image.open(images / file)
        image.draft(None, tuple(-(-side // factor) for side in image.size))
        image = ImageOps.exif_transpose(image)
    else:
        image = Image.fromarray(read_image(f"{images / file}{part}"))
    image = image.convert("L" if channels == 1 else "RGB")
    return resize(image, SIDE, InterpolationMode.BICUBIC, antialias=True) if min(size) > SIDE else image


@pytest.mark.parametrize("name", GOOD)
def test_packed_pixels_are_the_shrunk_ones_exactly(packed, images, name):
    row = of_name(packed)[name]
    expected = shrunk_by_others(images, name)
    found = pixels(row)
    assert np.array_equal(found, np.asarray(expected))
    assert (row["width"], row["height"]) == expected.size
    assert (row["source_width"], row["source_height"]) == GOOD[name][3]
    assert row["image"].startswith(b"\x89PNG")
    depth, kind = row["image"][24], row["image"][25]
    assert (depth, kind) == (8, 0 if GOOD[name][4] == 1 else 2)  # PNG 11.2.1: grey, truecolor


def test_what_is_small_stays_as_it_is(packed, images):
    rows = of_name(packed)
    assert np.array_equal(pixels(rows["small"]), drawn(12, 150, 199))
    assert np.array_equal(pixels(rows["one row"]), drawn(15, 3000, 1))
    assert np.array_equal(pixels(rows["small color jpeg"]), np.asarray(Image.open(images / "m.jpg")))


def test_whole_decode_takes_all_pixels_of_a_jpeg(images):
    file = str(images / "a.jpg")
    small, size = decoded(file, Shrink(SIDE))
    whole, whole_size = decoded(file, Shrink(SIDE, whole=True))
    assert (small.shape, whole.shape) == ((500, 650), (1000, 1300))
    assert size == whole_size == (1300, 1000)
    assert not np.array_equal(shrunk(small, Shrink(SIDE)), shrunk(whole, Shrink(SIDE)))


@settings(max_examples=60, deadline=None)
@given(
    nps.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.integers(8, 45),
)  # fmt: skip
def test_png_loses_nothing_and_only_what_is_larger_is_shrunk(picture, side):
    assert np.array_equal(unpacked(as_png(picture)), picture)
    small = shrunk(picture, Shrink(side))
    assert min(small.shape[:2]) == min(side, *picture.shape[:2])
    assert small.shape[2:] == picture.shape[2:]
    assert (small is picture) == (min(picture.shape[:2]) <= side)


# --- resumption, growth, refusals --------------------------------------------------------------------------------------


def test_packed_again_nothing_is_done(copy, capsys, monkeypatch):
    monkeypatch.setattr("cbmir.pack.ray_session", lambda *_: pytest.fail("Ray was started"))
    before = {p: p.stat().st_mtime_ns for p in copy.glob("packed*/*")}
    assert pack(copy) == 0
    assert {p: p.stat().st_mtime_ns for p in copy.glob("packed*/*")} == before
    assert capsys.readouterr().out.startswith("pack: 15 images packed, 4 failed: see packed_failures; short side 200, ")


@pytest.mark.slow
def test_a_killed_pack_goes_on_where_it_stopped(tmp_path, ray_session):
    for i in range(6):
        put(tmp_path / "d", f"{i}.png", pillow(drawn(i, 700, 720), "PNG"))
    count = 600
    csv = table(tmp_path, [(str(i), f"d/{i % 6}.png" if i != 99 else "d/none.png") for i in range(count)])
    study = tmp_path / "study"
    manifest(study, csv)
    process = start("pack", "--study", str(study), "--short-side", str(SIDE))
    below: dict[int, str] = {}
    try:
        assert wait_for(lambda: list(study.glob("packed/*.parquet")), seconds=120, process=process)
        below = children(process.pid)
        kill(process.pid)
        process.wait()
        process.stdout.close()
        assert wait_for(lambda: not any(map(alive, workers(below))), seconds=60)
    finally:
        for pid in filter(alive, below):
            kill(pid)
    done = {file: file.stat().st_mtime_ns for file in study.glob("packed/*.parquet")}
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in (*done, *study.glob("packed_failures/*.parquet")))
    assert 0 < rows < count
    assert not (study / "packed" / "run.json").exists()
    assert list(study.glob(".staging/pack-*"))
    (study / "packed" / "half.parquet.tmp-0123").write_bytes(b"debris")
    assert embed(study, "--packed", "--encoder", "pixels32") == 2
    assert pack(study) == 0
    conserved(study)
    told = json.loads((study / "packed" / "run.json").read_text())
    assert (told["rows"], told["failed"], told["last_attempt"]["images"]) == (count - 1, 1, count - rows)
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_a_grown_manifest_has_only_its_new_images_packed(copy, images, capsys):
    before = {file: file.stat().st_mtime_ns for file in copy.glob("packed/*.parquet")}
    put(images, "new.png", pillow(drawn(50, 300, 310), "PNG"))
    rows = [(name, f"{file}{part}") for name, (file, _, part, *_) in (GOOD | BROKEN).items()]
    manifest(copy, table(images, [*rows, ("new", "new.png")], "grown.csv"), "--overwrite")
    assert embed(copy, "--packed", "--encoder", "pixels32") == 2
    said = capsys.readouterr().err
    assert "1 of the manifest's 20 images are not packed; pack them first: cbmir pack --study" in said
    assert "--short-side 200" in said
    assert pack(copy) == 0
    conserved(copy)
    assert json.loads((copy / "packed" / "run.json").read_text())["last_attempt"]["images"] == 1
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_images_packed_otherwise_are_refused_until_overwritten(copy, capsys):
    before = of_name(copy)
    for flags, difference in (
        (("--short-side", 100), "short_side 200 there, 100 now"),
        (("--whole-decode",), "whole False there, True now"),
    ):
        assert pack(copy, *flags) == 2
        assert (
            capsys.readouterr().err
            == f"cbmir pack: the study has images packed otherwise ({difference}); --overwrite packs all of them anew\n"
        )
    assert of_name(copy) == before
    assert pack(copy, "--short-side", 100, "--overwrite") == 0
    conserved(copy)
    assert {(r["width"], r["height"]) for r in of_name(copy).values() if r["image_key"] == image_key("grey png")} == {
        (133, 100)
    }


def test_failures_are_tried_again_when_asked(copy, images, capsys):
    mended = images / "gone.png"
    mended.write_bytes(pillow(drawn(51, 210, 205), "PNG"))
    try:
        assert pack(copy) == 0
        assert len(rows_of(copy, "packed_failures")) == 4
        assert pack(copy, "--retry-failures") == 0
    finally:
        mended.unlink()
    conserved(copy)
    assert len(rows_of(copy, "packed_failures")) == 3
    assert run("pack", "--study", copy, "--short-side", SIDE) == 3
    assert (
        "pack: 3 of 19 images failed (15.8%), more than --max-failures 1.0%; what succeeded is kept"
        in capsys.readouterr().err
    )


def test_a_lost_shard_is_packed_again(copy):
    lost = sorted(copy.glob("packed/*.parquet"))[0]
    rows = pq.ParquetFile(lost).metadata.num_rows
    lost.unlink()
    assert pack(copy) == 0
    conserved(copy)
    assert json.loads((copy / "packed" / "run.json").read_text())["last_attempt"]["images"] == rows


def test_rows_that_stand_twice_are_dropped(copy):
    """A task of a killed run that still wrote while the next one was reading."""
    first = sorted(copy.glob("packed/*.parquet"))[0]
    again = pq.ParquetFile(first).read().slice(0, 2)
    Study(str(copy)).write_table(again, "packed", "zombie.parquet")
    (copy / "packed" / "run.json").unlink()
    assert pack(copy) == 0
    conserved(copy)
    assert json.loads((copy / "packed" / "run.json").read_text())["last_attempt"]["doubles_removed"] == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--short-side", "7"], "--short-side 7; expected 8 to 4096 pixels"),
        (["--short-side", "x"], "invalid int value: 'x'"),
        (["--max-failures", "2"], "--max-failures 2.0; expected a share"),
    ],
)
def test_misuse_is_one_line(packed, capsys, flags, message):
    assert run("pack", "--study", packed, *flags) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said


def test_without_a_manifest(tmp_path, capsys):
    assert pack(tmp_path / "none") == 2
    assert "no study at" in capsys.readouterr().err


# --- one task of it, without Ray ---------------------------------------------------------------------------------------


@pytest.fixture
def task(images, tmp_path):
    """A function that packs a block of GOOD and BROKEN images in this process."""
    study = Study(str(tmp_path / "alone"))
    study.write_json({"attempt": "mine"}, "packed", "started.json")
    names = [*GOOD, *BROKEN]
    uris = [f"{images / file}{part}" for file, _, part, *_ in (GOOD | BROKEN).values()]
    block = pa.table({"image_key": [image_key(name) for name in names], "uri": uris})

    def call(attempt: str = "mine") -> dict:
        (told,) = shards.pack_block(block, address=study.root, attempt=attempt, how=Shrink(SIDE)).to_pylist()
        return told

    return call, Path(study.root)


def test_a_shard_is_written_when_it_is_large_enough_and_again_under_the_same_name(task, monkeypatch):
    call, root = task
    monkeypatch.setattr(shards, "SHARD_BYTES", 60_000)
    told = call()
    assert (told["rows"], told["failed"], told["stop"]) == (len(GOOD | BROKEN), len(BROKEN), None)
    first = {file.name: file.read_bytes() for file in root.glob("packed*/*.parquet")}
    sizes = [
        sum(len(row["image"]) for row in pq.ParquetFile(file).read().to_pylist())
        for file in root.glob("packed/*.parquet")
    ]
    assert len(sizes) >= 4
    assert all(size < 60_000 + 130_000 for size in sizes)
    assert of_name(root).keys() == GOOD.keys()
    call()
    assert {file.name: file.read_bytes() for file in root.glob("packed*/*.parquet")} == first


def test_a_task_of_a_run_that_another_has_taken_over_writes_nothing(task):
    call, root = task
    assert call("theirs")["stop"] == "another run has taken over the packed images; this one stops"
    assert not list(root.glob("packed*/*.parquet"))


def test_a_disk_that_takes_no_more_ends_the_run_and_leaves_no_half_a_file(task):
    call, root = task
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        stop = call()["stop"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert stop.startswith(f"cannot write packed images to {root}: [Errno 27] File too large")
    assert stop.endswith("the same command goes on")
    assert [file.name for file in root.glob("**/*") if file.is_file()] == ["started.json"]


def addresses(study: Path, encoder: str = "new", rows: int = 1000) -> pa.Table:
    return pa.Table.from_batches(list(to_do_packed(Study(str(study)), [encoder], rows=rows)))


def test_packed_images_come_in_the_order_of_the_rows_and_failures_with_them(packed):
    block = addresses(packed)
    found = dict(zip(block["image_key"].to_pylist(), packed_files(str(packed), block), strict=True))
    assert {key: data for key, data in found.items() if isinstance(data, bytes)} == {
        r["image_key"]: r["image"] for r in rows_of(packed, "packed")
    }
    failures = {row["image_key"]: (row["stage"], row["error"]) for row in rows_of(packed, "packed_failures")}
    assert {key: (e.stage, str(e)) for key, e in found.items() if isinstance(e, ImageError)} == failures
    backward = block.take(list(range(block.num_rows))[::-1])
    assert list(packed_files(str(packed), backward))[-1] == next(packed_files(str(packed), block))
    again = dict(zip(backward["image_key"].to_pylist(), packed_files(str(packed), backward), strict=True))
    assert {key: data for key, data in again.items() if isinstance(data, bytes)} == {
        key: data for key, data in found.items() if isinstance(data, bytes)
    }


def test_addresses_stand_in_the_order_in_which_the_images_lie(copy):
    rows = rows_of(copy, "packed")
    for file in copy.glob("packed/*.parquet"):
        file.unlink()
    lying = {"a.parquet": rows[1::2][::-1], "b.parquet": rows[::2][::-1]}
    for name, some in lying.items():
        Study(str(copy)).write_table(pa.Table.from_pylist(some, PACKED), "packed", name)
    found = list(zip(*(addresses(copy)[name].to_pylist() for name in ("shard", "image_key")), strict=True))
    expected = [(name, row["image_key"]) for name, some in lying.items() for row in some]
    assert [pair for pair in found if pair[0]] == expected
    assert len(found) == len(GOOD | BROKEN)


def test_only_row_groups_with_a_wanted_image_are_read(packed, monkeypatch, tmp_path):
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in sorted(packed.glob("packed/*.parquet"))])
    study = Study(str(tmp_path / "study"))
    study.write_table(table, "packed", "one.parquet", row_group_size=4)
    keys = [table["image_key"][i].as_py() for i in (2, 3, 9)]
    block = pa.table(
        {
            "image_key": keys,
            "shard": ["one.parquet"] * 3,
            "stage": pa.nulls(3, pa.string()),
            "error": pa.nulls(3, pa.string()),
        }
    )
    groups, real = [], pq.ParquetFile.read_row_group

    def told(self, i, **how):
        groups.append(i)
        return real(self, i, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", told)
    assert list(packed_files(study.root, block)) == [table["image"][i].as_py() for i in (2, 3, 9)]
    assert groups == [0, 2]


def test_an_image_that_is_no_longer_in_its_shard_is_gone_and_no_failure(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "study")
    block = addresses(tmp_path / "study")
    shard = block["shard"][0].as_py()
    of_shard = [i for i, name in enumerate(block["shard"].to_pylist()) if name == shard]
    file = tmp_path / "study" / "packed" / shard
    Study(str(tmp_path / "study")).write_table(pq.ParquetFile(file).read().slice(0, 1), "packed", shard)
    found = list(packed_files(str(tmp_path / "study"), block))
    assert isinstance(found[of_shard[0]], bytes)
    assert {found[i].stage for i in of_shard[1:]} == {GONE}
    file.write_bytes(b"PAR1 and no more")
    assert {e.stage for i, e in enumerate(packed_files(str(tmp_path / "study"), block)) if i in of_shard} == {GONE}
    file.unlink()
    assert {e.stage for i, e in enumerate(packed_files(str(tmp_path / "study"), block)) if i in of_shard} == {GONE}


# --- embedding packed images -------------------------------------------------------------------------------------------


def test_embeddings_and_failures_are_those_of_the_packed_images(embedded):
    expected = {row["image_key"]: pixels(row) for row in rows_of(embedded, "packed")}
    encoder = build(resolve("pixels32"))
    found = vectors(embedded, "pixels32")
    assert found.keys() == expected.keys()
    for key, vector in found.items():
        np.testing.assert_allclose(
            vector, encoder.encode(apply(encoder.spec.geometry, expected[key])[None])[0], atol=1e-6
        )
    for name in ("pixels32", "tiny~random0"):
        failed = sorted(rows_of(embedded, "failures", f"encoder={name}"), key=lambda row: row["image_key"])
        assert failed == sorted(rows_of(embedded, "packed_failures"), key=lambda row: row["image_key"])
        assert len(vectors(embedded, name)) == len(GOOD)


def test_grey_packed_images_resized_in_color_give_the_same_pixels(packed):
    geometry, block = resolve(TINY).geometry, addresses(packed)
    blocks = [
        decode_block(block, options=DecodeOptions([geometry], color=color, packed=str(packed)))
        for color in (False, True)
    ]
    assert blocks[0].equals(blocks[1])
    good = blocks[0].filter(pc.is_null(blocks[0]["error"]))
    expected = {row["image_key"]: apply(geometry, pixels(row)) for row in rows_of(packed, "packed")}
    assert good["image_key"].to_pylist() == [key for key in block["image_key"].to_pylist() if key in expected]
    for key, found in zip(good["image_key"].to_pylist(), as_pixels(good["pixels_0"], geometry), strict=True):
        assert np.array_equal(found, expected[key])


def test_only_what_an_encoder_lacks_is_taken(embedded, tmp_path):
    directory = embedded / "embeddings" / "encoder=tiny~random0"
    assert json.loads((directory / "run.json").read_text())["last_attempt"]["images"] == len(GOOD | BROKEN)
    study = tmp_path / "study"
    shutil.copytree(embedded, study)
    first = sorted(study.glob("embeddings/encoder=tiny~random0/*.parquet"))[0]
    left = pq.ParquetFile(first).read().slice(3)
    Study(str(study)).write_table(left, "embeddings", "encoder=tiny~random0", first.name)
    block = addresses(study, "tiny~random0")
    assert block.num_rows == 3
    assert (
        set(block["image_key"].to_pylist())
        == vectors(embedded, "tiny~random0").keys() - vectors(study, "tiny~random0").keys()
    )


def test_how_the_images_were_packed_is_kept_with_the_vectors(embedded):
    how = json.loads((embedded / "packed" / "run.json").read_text())
    for name in ("started.json", "run.json"):
        told = json.loads((embedded / "embeddings" / "encoder=pixels32" / name).read_text())
        assert told["decode"] == f"packed {SIDE} {how['packed']}"
        assert told["packed"] == how["parameters"]
    spec = resolve("pixels32")
    prints = {
        spec.fingerprint("none", "float32", decode=d) for d in ("whole", "reduced", "packed 200 ab", "packed 200 cd")
    }
    assert len(prints) == 4


def test_vectors_of_files_and_of_packed_images_do_not_mix(embedded, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(embedded, study)
    assert embed(study, "--encoder", "pixels32") == 2
    said = capsys.readouterr().err
    assert "the study has embeddings of pixels32 made otherwise (of images packed at a short side of 200 (" in said
    assert (
        ") there, of files, JPEG decoded small now (--packed)); use another name (--encoder NAME=...), or --overwrite"
        in said
    )
    assert pack(study, "--short-side", 180, "--overwrite") == 0
    capsys.readouterr()
    assert embed(study, "--encoder", "pixels32", "--packed") == 2
    said = capsys.readouterr().err
    assert "images packed at a short side of 200" in said
    assert "images packed at a short side of 180" in said
    assert len(vectors(study, "pixels32")) == len(GOOD)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--encoder", "pixels32", "--encoder", "timm:test_vit~random0"], "encoder timm:test_vit~random0 resizes to 168 pixels, and the packed images have a short side of 160"),
        (["--encoder", "big=pixels32@161"], "encoder big resizes to 161 pixels"),
        (["--encoder", "pixels32", "--whole-decode"], "--whole-decode with --packed: packed images are decoded already; give it to cbmir pack"),
    ],
)  # fmt: skip
def test_what_packed_images_are_too_small_for_is_refused_in_one_line(copy, capsys, monkeypatch, flags, message):
    monkeypatch.setattr("cbmir.embed.ray_session", lambda *_: pytest.fail("Ray was started"))
    run_json = copy / "packed" / "run.json"
    told = json.loads(run_json.read_text())
    told["parameters"]["short_side"] = 160
    run_json.write_text(json.dumps(told))
    for command in (("embed",), ("run", "--index", "exact")):
        assert run(*command, "--study", copy, "--packed", *flags) == 2
        said = capsys.readouterr().err.strip()
        assert message in said
        assert "\n" not in said
        assert "resizes" not in said or f"pack larger ones with: cbmir pack --study {copy} --short-side 16" in said
    assert not (copy / "embeddings").exists()


def test_a_study_that_is_not_packed_or_not_finished_is_refused(copy, capsys):
    (copy / "packed" / "run.json").unlink()
    assert embed(copy, "--packed", "--encoder", "pixels32") == 2
    assert "packed is unfinished (it has no run.json); finish it with: cbmir pack" in capsys.readouterr().err
    assert run("run", "csv", copy / "t.csv", "--study", copy.parent / "new", "--packed", "--encoder", "pixels32") == 2
    assert "no study at" in capsys.readouterr().err
    assert not (copy.parent / "new").exists()  # it is said before the manifest is made
    shutil.rmtree(copy / "packed")
    for command in (("embed",), ("run", "--index", "exact")):
        assert run(*command, "--study", copy, "--packed", "--encoder", "pixels32") == 2
        assert "packed is not in the study" in (said := capsys.readouterr().err)
        assert "make it with: cbmir pack" in said


def test_images_that_go_while_they_are_read_are_left_to_do(embedded, tmp_path, monkeypatch, capsys):
    from cbmir import embed as stage

    study = tmp_path / "study"
    shutil.copytree(embedded, study)
    real = stage.write_addresses

    def then_gone(*arguments, **options):
        made = real(*arguments, **options)
        sorted(study.glob("packed/*.parquet"))[0].unlink()
        return made

    monkeypatch.setattr(stage, "write_addresses", then_gone)
    assert embed(study, "--packed", "--encoder", "late=pixels32") == 2
    said = capsys.readouterr().err
    assert "still to do: packed images could not be read; run the same command again" in said
    assert len(rows_of(study, "failures", "encoder=late")) == len(BROKEN)
    monkeypatch.undo()
    assert embed(study, "--packed", "--encoder", "late=pixels32") == 2
    assert "images are not packed; pack them first" in capsys.readouterr().err
    assert pack(study) == 0
    assert embed(study, "--packed", "--encoder", "late=pixels32") == 0
    assert vectors(study, "late").keys() == vectors(embedded, "pixels32").keys()


def test_the_whole_way_with_packed_images_and_queries_shrunk_alike(embedded, images, capsys):
    everything = ("--gallery", "true", "--queries", "true")
    flags = ("--packed", "--encoder", "pixels32", "--encoder", TINY, "--index", "exact", "--max-failures", "50%")
    assert run("run", "--study", embedded, *flags, *everything) == 0
    assert "packed 200" in (embedded / "report" / "report.html").read_text()
    study = Study(str(embedded))
    uris = {name: f"{images / file}{part}" for name, (file, _, part, *_) in GOOD.items()}
    shutil.move(embedded / "packed", embedded / "away")  # a query needs none of it
    try:
        for encoder in ("pixels32", "tiny~random0"):
            found = Lookup(study, encoder, "exact", gallery="true").answers(
                [Query(uri, uri) for uri in uris.values()], k=1
            )
            for name, answer in zip(uris, found, strict=True):
                (nearest,) = answer.neighbors
                assert nearest["image_id"] == name
                assert nearest["distance"] < 1e-6
    finally:
        shutil.move(embedded / "away", embedded / "packed")
    told = study.require("embeddings", "encoder=tiny~random0")
    model = build(resolve(TINY))
    geometry = model.spec.geometry
    as_packed, as_file = (
        apply(geometry, reader(run).read(uris["grey png"], geometry))
        for run in (told, told | {"packed": None, "decode": "reduced"})
    )
    assert not np.array_equal(as_packed, as_file)  # or nothing is shown
    with pytest.raises(ValueError, match=r"packed by another version of cbmir \(packed format 99, here"):
        reader(told | {"packed": told["packed"] | {"version": 99}})


def test_sql_and_doctor_know_the_packed_images(embedded, tmp_path, capsys):
    statement = "SELECT count(*) AS n, count(*) FILTER (WHERE width < source_width) AS shrunk FROM packed JOIN manifest USING (image_key)"
    assert run("sql", "--study", embedded, statement, "--csv", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text() == "n,shrunk\n15,12\n"
    assert (
        run(
            "sql",
            "--study",
            embedded,
            "SELECT stage, count(*) AS n FROM packed_failures GROUP BY 1",
            "--csv",
            tmp_path / "out.csv",
        )
        == 0
    )
    assert sorted((tmp_path / "out.csv").read_text().split()) == ["decode,2", "read,2", "stage,n"]
    assert (
        run(
            "sql",
            "--study",
            embedded,
            "SELECT dataset, rows FROM runs WHERE dataset = 'packed'",
            "--csv",
            tmp_path / "out.csv",
        )
        == 0
    )
    assert (tmp_path / "out.csv").read_text() == "dataset,rows\npacked,15\n"
    capsys.readouterr()
    assert run("sql", "--study", embedded, "SELECT * FROM packed") == 0
    said = capsys.readouterr().out
    assert "bytes" in said
    assert len(said) < 10_000  # a picture on the terminal helps nobody
    assert run("doctor", "--study", embedded) == 0
    again = f"cbmir pack --study {embedded} --short-side 200 --retry-failures"
    assert (
        f"note  pack: 15 images packed, 4 failed: see packed_failures; try them again with: {again}"
        in capsys.readouterr().out
    )


def test_a_study_without_one_readable_image(tmp_path, ray_session, capsys):
    study = tmp_path / "study"
    manifest(study, table(tmp_path, [(str(i), f"{i}.png") for i in range(3)]))
    assert pack(study, "--max-failures", "100%") == 0
    assert run("embed", "--study", study, "--packed", "--encoder", "pixels32", "--max-failures", "100%") == 0
    assert len(rows_of(study, "failures", "encoder=pixels32")) == 3
    capsys.readouterr()
    assert run("sql", "--study", study, "SELECT count(width) || ' of 3' FROM packed") == 0
    assert "0 of 3" in capsys.readouterr().out


def test_what_is_unfinished_is_said(copy, capsys):
    (copy / "packed" / "run.json").unlink()
    sorted(copy.glob("packed/*.parquet"))[0].unlink()
    assert run("sql", "--study", copy, "SELECT count(*) FROM manifest") == 0
    assert "packed: unfinished and left out; finish it with: cbmir pack" in capsys.readouterr().err
    assert run("doctor", "--study", copy) == 0
    assert f"go on with: cbmir pack --study {copy} --short-side 200\n" in (said := capsys.readouterr().out)
    assert "act   pack: " in said


def test_a_study_on_an_object_store(s3, images, embedded, tmp_path):
    """Images, packed images and vectors in a bucket, read by plain pyarrow."""
    rows = [(name, f"{file}{part}") for name, (file, _, part, *_) in (GOOD | BROKEN).items()]
    for file in {file for file, data, *_ in (*GOOD.values(), *BROKEN.values()) if data is not None}:
        s3.put(f"images/{file}", (images / file).read_bytes())
    address = s3.address("study")
    csv = table(
        tmp_path,
        [
            (name, s3.address(f"images/{path.partition('#')[0]}") + "".join(path.partition("#")[1:]))
            for name, path in rows
        ],
    )
    manifest(address, csv)
    assert pack(address) == 0
    assert embed(address, "--packed", "--encoder", "pixels32") == 0
    study = Study(address)
    found = study.dataset("packed").to_table().to_pylist()
    assert {row["image_key"]: row["image"] for row in found} == {
        row["image_key"]: row["image"] for row in rows_of(embedded, "packed")
    }
    assert study.dataset("packed_failures").count_rows() == len(BROKEN)
    table_ = study.dataset("embeddings", "encoder=pixels32").to_table()
    expected = vectors(embedded, "pixels32")
    got = dict(zip(table_["image_key"].to_pylist(), table_["embedding"].to_pylist(), strict=True))
    assert got.keys() == expected.keys()
    assert all(np.allclose(got[key], expected[key]) for key in got)
    assert (
        run(
            "sql",
            "--study",
            address,
            "SELECT count(*) AS n, sum(width) AS w FROM packed",
            "--csv",
            tmp_path / "out.csv",
        )
        == 0
    )
    count, width = duckdb.sql(f"SELECT count(*), sum(width) FROM '{embedded}/packed/*.parquet'").fetchall()[0]
    assert (tmp_path / "out.csv").read_text() == f"n,w\n{count},{width}\n"
    assert pack(address) == 0


# --- what shrinking costs ----------------------------------------------------------------------------------------------

LEAST_COSINE = 0.99


def test_vectors_of_packed_images_are_close_to_those_of_the_files(tmp_path, shared_or_none):
    """Drawn images of 1,000 to 2,000 pixels packed at 512. Untrained encoders and, where its weights are at hand, a trained one."""
    rng = np.random.default_rng(4)
    files = []
    for i in range(12):
        width, height = (int(side) for side in rng.integers(1000, 2001, 2))
        kind = ("PNG", "JPEG")[i % 2]
        files.append(str(put(tmp_path, f"{i}.{kind.lower()}", pillow(drawn(100 + i, width, height), kind))))
    encoders = [build(resolve(name)) for name in ("pixels32", "timm:resnet18~random0", "timm:test_vit@224~random0")]
    if shared_or_none:
        weights = str(shared_or_none / "weights" / "mobilenetv2_100.tfqat_in1k_imagenetnorm.safetensors")
        for name in ("timm:mobilenetv2_100,pad_type=same", "timm:mobilenetv2_100,pad_type=same@416"):
            encoders.append(build(resolve(name, weights=weights)))
    how = Shrink(512)
    for encoder in encoders:
        geometry = encoder.spec.geometry
        straight, by_pack = (
            encoder.encode(np.stack([apply(geometry, read.read(file, geometry)) for file in files]))
            for read in (reader({"decode": "reduced"}), reader({"decode": "packed", "packed": how.as_dict()}))
        )
        found = [cosine(a, b) for a, b in zip(straight.astype(np.float64), by_pack.astype(np.float64), strict=True)]
        side = encoder.spec.geometry.resize or encoder.spec.geometry.size
        print(f"{encoder.spec.name}, {side} px: least cosine {min(found):.6f} of {len(found)} images packed at 512")
        assert min(found) >= LEAST_COSINE
        assert not np.array_equal(straight, by_pack)
