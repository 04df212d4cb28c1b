"""cbmir manifest check: a tree with one of everything, hashes against ImageHash, groups against a loop over all pairs, kills and growth."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbmir.cli import main
from cbmir.images.facts import facts
from cbmir.images.hashes import perceptual_hash, pixels_hash
from cbmir.inspecting.alike import hash_groups
from cbmir.inspection import InspectionOptions, inspect
from cbmir.select import connect
from cbmir.store import Study
from tests.image_files import as_volume, dicom, dicom_bytes, nifti, npz, pillow, png16

RNG = np.random.default_rng(4)


def picture(seed: int, side: int = 96) -> np.ndarray:
    """A smooth drawn picture, (side, side) uint8: blobs, as bodies are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    image = sum(
        rng.uniform(0.3, 1) * np.exp(-((x - rng.random()) ** 2 + (y - rng.random()) ** 2) / rng.uniform(0.01, 0.1))
        for _ in range(7)
    )
    return (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)


def save(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A table of images with one of everything that can be wrong."""
    root = tmp_path_factory.mktemp("tree")
    for i in range(6):
        save(root / f"good{i}.png", pillow(picture(i), "PNG"))
    save(root / "same.tif", pillow(picture(0), "TIFF"))  # good0, as another file
    save(root / "bytes.png", (root / "good1.png").read_bytes())
    save(root / "again.jpg", pillow(picture(2), "JPEG", quality=60))  # looks like good2
    save(root / "small.png", pillow(Image.fromarray(picture(3)).resize((64, 64), Image.Resampling.LANCZOS), "PNG"))
    for i in range(3):
        save(root / f"blank{i}.png", pillow(np.full((10 + i, 10), 7 * i, np.uint8), "PNG"))
    save(root / "deep.png", png16(picture(7).astype(np.uint16)[:, :, None] * 200))
    save(root / "cut.png", (root / "good4.png").read_bytes()[:200])
    lines = ["path,split,patient_id,labels"]
    lines += [f"good{i}.png,{'train' if i < 4 else 'test'},p{i},{'a' if i < 4 else 'b'}" for i in range(6)]
    lines += ["same.tif,test,p0,a", "bytes.png,train,p1,b", "again.jpg,val,p9,a", "small.png,train,p3,a"]
    lines += [f"blank{i}.png,train,,a" for i in range(3)]
    lines += ["deep.png,train,p7,a", "cut.png,train,p7,a", "gone.png,train,p7,c", "good5.png#frame=0,test,p5,"]
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def checked(tree, tmp_path_factory) -> Path:
    study = tmp_path_factory.mktemp("checked") / "study"
    assert (
        main(
            [
                "manifest",
                "csv",
                str(tree / "t.csv"),
                "--set",
                "modality=XR",
                "--set",
                "region=chest",
                "--study",
                str(study),
            ]
        )
        == 0
    )
    assert main(["manifest", "check", "--study", str(study), "-k", "3"]) == 0
    return study


def problem_rows(study: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted((study / "problems").glob("*.parquet"))])


def problems(study: Path) -> dict[str, list[str]]:
    """problem -> the ids in its rows, without dataset."""
    found: dict[str, list[str]] = {}
    for row in problem_rows(study).to_pylist():
        found.setdefault(row["problem"], []).append(row["detail"].removeprefix("t/"))
    return found


def test_every_problem_is_found_and_nothing_else(checked):
    found = problems(checked)
    assert found.pop("missing_file") == ["gone.png: FileNotFoundError: No such file or directory"]
    assert [detail.split(":")[0] for detail in found.pop("not_decodable")] == ["cut.png"]
    assert {name: sorted(rows) for name, rows in found.items()} == {
        "exact_duplicates": ["bytes.png (train)", "good0.png (train)", "good1.png (train)", "good5.png (test)", "good5.png#frame=0 (test)", "same.tif (test)"],
        "exact_duplicates_across_splits": ["good0.png (train)", "same.tif (test)"],
        "exact_duplicates_with_other_labels": ["bytes.png: XR/chest/b", "good1.png: XR/chest/a", "good5.png#frame=0: no label", "good5.png: XR/chest/b"],
        "near_duplicates": ["again.jpg (val)", "good2.png (train)", "good3.png (train)", "small.png (train)"],
        "near_duplicates_across_splits": ["again.jpg (val)", "good2.png (train)"],
        "patients_across_splits": ["p0: test 1, train 1"],
        "rare_labels": ["XR/chest/b: 1 in the gallery, 3 in all", "XR/chest/c: 1 in the gallery, 1 in all"],
        "without_label": ["t: 1 of 17 images"],
    }  # fmt: skip


def test_copies_of_one_picture_share_a_group(checked):
    rows = problem_rows(checked).to_pylist()
    groups: dict[int, set[str]] = {}
    for row in rows:
        if row["problem"] == "exact_duplicates":
            groups.setdefault(row["group_id"], set()).add(row["detail"].split(" ")[0])
    assert sorted(map(sorted, groups.values())) == [
        ["t/bytes.png", "t/good1.png"], ["t/good0.png", "t/same.tif"], ["t/good5.png", "t/good5.png#frame=0"],
    ]  # fmt: skip
    assert all(group in {row["image_key"] for row in rows} for group in groups)


def test_what_was_found_of_each_image(checked):
    keys = {
        r["image_key"]: r["image_id"].removeprefix("t/")
        for r in pq.read_table(checked / "manifest" / "manifest.parquet").to_pylist()
    }
    files = [pq.read_table(file) for file in sorted((checked / "image_facts").glob("*.parquet"))]
    rows = {keys[row["image_key"]]: row for row in pa.concat_tables(files).to_pylist()}
    assert len(rows) == 17
    shown = ("format", "width", "height", "channels", "bit_depth")
    assert tuple(rows["good0.png"][name] for name in shown) == ("PNG", 96, 96, 1, 8)
    assert tuple(rows["deep.png"][name] for name in shown) == ("PNG", 96, 96, 1, 16)
    assert tuple(rows["same.tif"][name] for name in shown) == ("TIFF", 96, 96, 1, 8)
    assert rows["again.jpg"]["file_bytes"] > 500
    assert rows["gone.png"]["stage"] == "read"
    assert rows["blank0.png"]["perceptual_hash"] is None
    assert rows["blank0.png"]["pixels_hash"] != rows["blank1.png"]["pixels_hash"]


def test_the_table_at_the_terminal(checked, capsys):
    assert main(["manifest", "check", "--study", str(checked), "-k", "3"]) == 0
    out = capsys.readouterr().out
    assert "check: 17 images, 0 of them looked at now, 2 cannot be used" in out
    lines = out.splitlines()
    assert next(line for line in lines if line.startswith("exact duplicates  ")).split()[2:4] == ["6", "3"]
    assert next(line for line in lines if line.startswith("patients across splits")).split()[3:] == [
        "1",
        "t/p0:",
        "test",
        "1,",
        "train",
        "1",
    ]


def test_other_limits_ask_only_sql_again(checked, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(checked, study)
    before = {file.name: file.stat().st_mtime_ns for file in (study / "image_facts").glob("*.parquet")}
    assert main(["manifest", "check", "--study", str(study), "-k", "1", "--gallery", "true", "--distance", "3"]) == 0
    assert "0 of them looked at now" in capsys.readouterr().out
    assert {file.name: file.stat().st_mtime_ns for file in (study / "image_facts").glob("*.parquet")} == before
    found = problems(study)
    assert "rare_labels" not in found
    assert set(found["near_duplicates"]) >= {"again.jpg (val)", "good2.png (train)"}


def test_only_what_is_new_is_looked_at(tree, checked, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(checked, study)
    table = tree / "t.csv"
    grown = tree / "grown.csv"
    save(tree / "new.png", pillow(picture(50), "PNG"))
    grown.write_text(table.read_text() + "new.png,train,p50,a\n")
    base = [
        "manifest",
        "csv",
        str(grown),
        "--set",
        "modality=XR",
        "--set",
        "region=chest",
        "--set",
        "dataset=t",
        "--study",
        str(study),
    ]
    assert main([*base, "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["manifest", "check", "--study", str(study)]) == 0
    assert "check: 18 images, 1 of them looked at now" in capsys.readouterr().out
    assert main(["manifest", "check", "--study", str(study), "--overwrite"]) == 0
    assert "check: 18 images, 18 of them looked at now" in capsys.readouterr().out


def test_sql_and_the_report_show_it(checked, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(checked, study)
    statement = "SELECT problem, count(*) AS n FROM problems JOIN image_facts USING (image_key) GROUP BY 1 ORDER BY 1"
    assert main(["sql", "--study", str(study), statement, "--csv", str(tmp_path / "out.csv")]) == 0
    assert "exact_duplicates,6" in (tmp_path / "out.csv").read_text()
    assert (
        main(
            [
                "run",
                "--study",
                str(study),
                "--encoder",
                "pixels32",
                "--index",
                "exact",
                "--max-failures",
                "50%",
                "--allow-overlap",
            ]
        )
        == 0
    )
    page = (study / "report" / "report.html").read_text()
    section = page[page.index('id="inspection"') : page.index("</section>", page.index('id="inspection"'))]
    assert "near duplicates across splits" in section
    assert "t/again.jpg" in section
    assert section.count("data:image/jpeg") == 2  # the two that stand in several splits
    assert str(study) not in page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-k", "0"], "-k 0; expected 1 or more"),
        (["--distance", "4"], "--distance 4; expected 0 to 3"),
        (["--gallery", "splitt = 'train'"], "no column 'splitt' in the manifest"),
    ],
)
def test_misuse_is_one_line(checked, capsys, flags, message):
    assert main(["manifest", "check", "--study", str(checked), *flags]) == 2
    assert message in capsys.readouterr().err


def test_without_a_manifest(tmp_path, capsys):
    assert main(["manifest", "check", "--study", str(tmp_path / "none")]) == 2
    assert "no study at" in capsys.readouterr().err


def test_all_images_missing(tmp_path):
    (tmp_path / "t.csv").write_text("path,labels\n" + "".join(f"{i}.png,a\n" for i in range(5)))
    study = str(tmp_path / "study")
    assert main(["manifest", "csv", str(tmp_path / "t.csv"), "--study", study]) == 0
    assert main(["manifest", "check", "--study", study, "--gallery", "true"]) == 0
    assert len(problems(Path(study))["missing_file"]) == 5


def test_a_killed_check_goes_on_where_it_stopped(tmp_path, capsys):
    rows = ["path"]
    for i in range(700):
        save(tmp_path / "d" / f"{i}.png", pillow(RNG.integers(0, 256, (256, 256), np.uint8), "PNG"))
        rows.append(f"d/{i}.png")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    study = tmp_path / "study"
    assert main(["manifest", "csv", str(tmp_path / "t.csv"), "--study", str(study)]) == 0
    command = [sys.executable, "-m", "cbmir", "manifest", "check", "--study", str(study)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((study / "image_facts").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((study / "image_facts").glob("*.parquet"))
    assert not (study / "problems").exists()
    capsys.readouterr()
    assert main(["manifest", "check", "--study", str(study)]) == 0
    said = capsys.readouterr().out
    assert "check: 700 images" in said
    assert not (study / ".staging").exists() or not list((study / ".staging").glob("inspect-*"))
    assert problem_rows(study).to_pylist() == [
        {"problem": "without_label", "group_id": None, "image_key": None, "detail": "t: 700 of 700 images"}
    ]


# --- hashes ------------------------------------------------------------------------------------------------------------


def as_bits(value: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(value.to_bytes(8, "big", signed=True), np.uint8)).astype(bool)


@pytest.mark.parametrize("seed", range(30))
def test_the_perceptual_hash_is_that_of_imagehash(seed):
    grey = picture(seed) if seed % 2 else RNG.integers(0, 256, (40 + seed, 70), np.uint8)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    assert (as_bits(perceptual_hash(rgb)) == imagehash.phash(Image.fromarray(rgb)).hash.ravel()).all()


def test_equal_pixels_have_equal_hashes_and_others_not():
    a = np.repeat(picture(1)[:, :, None], 3, axis=2)
    assert pixels_hash(a) == pixels_hash(a.copy(order="F"))
    b = a.copy()
    b[3, 4, 1] ^= 1
    assert pixels_hash(a) != pixels_hash(b)
    assert pixels_hash(a) != pixels_hash(a.reshape(48, 192, 3))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(0, 3))
def test_groups_are_those_of_a_loop_over_all_pairs(seed, count, distance):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(-(2**63), 2**63, count, np.int64)
    for _ in range(count // 2):  # neighbors of some, by 1 to 4 bits
        i, j = rng.integers(0, count, 2)
        hashes[i] = hashes[j] ^ np.int64(sum(1 << int(b) for b in rng.choice(62, rng.integers(1, 5), replace=False)))
    hashes = np.unique(hashes)
    connection = connect()
    found = hash_groups(connection, hashes, distance=distance)
    groups = dict(zip(found["perceptual_hash"].to_pylist(), found["hash_group"].to_pylist(), strict=True))
    expected = {int(h): int(h) for h in hashes}
    changed = True
    while changed:
        changed = False
        for a in expected:
            for b in expected:
                if ((a ^ b) & (2**64 - 1)).bit_count() <= distance and expected[a] != expected[b]:
                    expected[a] = expected[b] = min(expected[a], expected[b])
                    changed = True
    assert groups == expected


def test_a_crowd_of_alike_hashes_takes_no_square_of_time():
    hashes = np.arange(20_000, dtype=np.int64) << 17  # equal in one band of 16 bits, and in most of another
    began = time.monotonic()
    found = hash_groups(connect(), hashes, distance=3)
    assert time.monotonic() - began < 20
    assert len(found) == 20_000


FORMATS = {
    "dicom": ("a.dcm", dicom_bytes(dicom((picture(1).astype(np.uint16) * 5), bits=12)), "", ("DICOM", 1, 12)),
    "nifti": ("a.nii.gz", nifti(as_volume(picture(1).astype(np.int16)), packed=True), "#slice=0", ("NIfTI", 1, 16)),
    "npz": ("a.npz", npz(a=picture(1)[None].astype(np.uint16)), "#array=a&row=0", ("NPZ", 1, 16)),
    "volume": (
        "a.npz",
        npz(a=picture(1)[None, :, :, None].repeat(3, axis=3).transpose(0, 3, 1, 2)),
        "#array=a&row=0&slice=1",
        ("NPZ", 1, 8),
    ),
    "jpeg": ("a", pillow(np.dstack([picture(1)] * 3), "JPEG"), "", ("JPEG", 3, 8)),
    "color png": ("a.png", png16(np.dstack([picture(1).astype(np.uint16)] * 3)), "", ("PNG", 3, 16)),
    "one bit": ("a.png", pillow(Image.fromarray(picture(1) > 90), "PNG"), "", ("PNG", 1, 1)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_format_channels_and_depth_of_every_carrier(tmp_path, name):
    file, data, part, expected = FORMATS[name]
    found = facts(f"{save(tmp_path / file, data)}{part}")
    assert (found.format, found.channels, found.bit_depth) == expected
    assert (found.width, found.height) == (96, 96)
    assert found.stage is None


# --- real images -------------------------------------------------------------------------------------------------------


def test_public_samples_have_the_copies_that_others_found(shared, tmp_path):
    """Equal files are found by pixels; of the near-duplicate groups that the samples' table names, most by 3 bits."""
    import csv

    with open(shared / "data" / "images.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] in ("busi", "brain_tumor_mri")]
    table = tmp_path / "t.csv"
    table.write_text(
        "path,dataset,dup_group,sha256\n"
        + "".join(f"{shared}/data/{r['path']},{r['source']},{r['dup_group']},{r['sha256']}\n" for r in rows)
    )
    study = Study(str(tmp_path / "study"))
    assert main(["manifest", "csv", str(table), "--study", study.root]) == 0
    inspect(study, InspectionOptions(gallery="true", distance=3), say=lambda line: None)
    ids = {r["image_key"]: r for r in study.dataset("manifest").to_table().to_pylist()}
    facts_of = {r["image_key"]: r for r in study.dataset("image_facts").to_table().to_pylist()}
    by_bytes: dict[str, set[str]] = {}
    for key, row in ids.items():
        by_bytes.setdefault(row["sha256"], set()).add(facts_of[key]["pixels_hash"])
    assert all(len(hashes) == 1 for hashes in by_bytes.values())
    near: dict[int, int] = {}
    for row in study.dataset("problems").to_table().to_pylist():
        if row["problem"] in ("near_duplicates", "exact_duplicates"):
            near[row["image_key"]] = row["group_id"]
    named: dict[str, list[int]] = {}
    for key, row in ids.items():
        if row["dup_group"]:
            named.setdefault(row["dup_group"], []).append(key)
    pairs = [(a, b) for keys in named.values() for i, a in enumerate(keys) for b in keys[:i]]
    assert len(pairs) > 20
    recall = sum(near.get(a) is not None and near.get(a) == near.get(b) for a, b in pairs) / len(pairs)
    print(f"recall of named near-duplicate pairs: {recall:.2f} of {len(pairs)}")
    assert recall > 0.3
