"""Tables of every kind -> manifest: one-hot columns, lists, patterns, Parquet, image roots; rows that are odd are named."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbmir.cli import main
from cbmir.datasets import Options
from cbmir.datasets.addresses import expanded
from cbmir.datasets.manifest import read_source
from cbmir.datasets.one_hot import OneHot, label_lists
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.store import Study
from tests.image_files import pillow


def manifest(source: str, *roots, **options) -> tuple[pa.Table, list[tuple]]:
    """A source's manifest, and its remarks as (kind, file name, row, detail); missing images are not looked at here."""
    remarks = Remarks()
    given = Options(**options)
    table, _ = read_source(source, [str(root) for root in roots], given, remarks, salt=lambda: b"0" * 32)
    said = [
        (r["remark"], r["file"] and Path(r["file"]).name, r["row"], r["detail"]) for r in remarks.table().to_pylist()
    ]
    return table, [remark for remark in said if remark[0] != "missing_image"]


def saved(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lists(table: pa.Table) -> list[tuple[list[str], list[str]]]:
    return list(zip(table["labels"].to_pylist(), table["unknown_labels"].to_pylist(), strict=True))


# --- one column a label ------------------------------------------------------------------------------------------------


def test_one_hot_columns_by_name_and_by_pattern(tmp_path):
    text = "path,modality,region,Mass,has_Nodule,has_Edema,age\na,XR,chest,1,0,,50\nb,XR,chest,0,1.0,-1,51\n"
    table, said = manifest("csv", saved(tmp_path / "t.csv", text), one_hot=("Mass", "has_*"))
    assert lists(table) == [
        (["XR/chest/Mass"], ["XR/chest/has_Edema"]),
        (["XR/chest/has_Nodule"], ["XR/chest/has_Edema"]),
    ]
    assert said == []
    assert table["age"].to_pylist() == [50, 51]  # a further column, kept
    assert "Mass" not in table.column_names


def test_one_hot_words(tmp_path):
    text = "path,A,B,C\na,yes,FALSE,\nb,No,true, \nc,maybe,0,1\n"
    table, said = manifest(
        "csv", saved(tmp_path / "t.csv", text), one_hot=("A", "B", "C"), constants={"modality": "US"}
    )
    x = "US/unknown/"
    assert lists(table) == [([f"{x}A"], [f"{x}C"]), ([f"{x}B"], [f"{x}C"]), ([f"{x}C"], [f"{x}A"])]
    assert said == [("odd_value", "t.csv", 4, "A is a word; expected 1, 0, -1 or blank; taken as unknown")]


def test_one_hot_numbers_that_mean_nothing_are_named_and_unknown(tmp_path):
    table, said = manifest("csv", saved(tmp_path / "t.csv", "path,A\na,2\nb,1\nc,0.5\n"), one_hot=("A",))
    assert [len(labels) for labels, _ in lists(table)] == [0, 1, 0]
    assert [len(unknown) for _, unknown in lists(table)] == [1, 0, 1]
    assert [(row, detail[:6]) for _, _, row, detail in said] == [(2, "A is 2"), (4, "A is 0")]


def test_one_hot_beside_a_column_of_labels(tmp_path):
    table, _ = manifest("csv", saved(tmp_path / "t.csv", "path,labels,A,B\na,x|A,1,0\nb,,0,1\n"), one_hot=("A", "B"))
    assert [labels for labels, _ in lists(table)] == [
        ["unknown/unknown/x", "unknown/unknown/A"],
        ["unknown/unknown/B"],
    ]


def test_a_one_hot_column_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"--one-hot Nodul: .*t.csv has no such column; nearest: 'Nodule'"):
        manifest("csv", saved(tmp_path / "t.csv", "path,Nodule\na,1\n"), one_hot=("Nodul",))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["1", "0", "-1", "", "1.0", "3"]), min_size=3, max_size=3), min_size=1, max_size=30
    ),
    st.integers(1, 30),
)
def test_one_hot_is_what_a_loop_over_the_cells_gives(cells, cut):
    columns = ["a", "b", "c"]
    numbers = [[float(cell) if cell else None for cell in row] for row in cells]
    table = pa.table({name: pa.array([row[i] for row in numbers], pa.float32()) for i, name in enumerate(columns)})
    hot = OneHot(columns)
    for start in range(0, len(cells), cut):
        hot.add(table.slice(start, cut))
    assert hot.present.to_pylist() == [
        [n for n, v in zip(columns, row, strict=True) if v in ("1", "1.0")] for row in cells
    ]
    assert hot.unknown.to_pylist() == [
        [n for n, v in zip(columns, row, strict=True) if v in ("-1", "", "3")] for row in cells
    ]
    assert len(hot.odd) == sum(cell == "3" for row in cells for cell in row)


# --- several labels in one text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("a|b|c", "|", ["a", "b", "c"]),
        (" a | b |a||", "|", ["a", "b"]),
        ("a; b", ";", ["a", "b"]),
        ("a|b", ";", ["a|b"]),
        ("['a', 'b, c']", "|", ["a", "b, c"]),
        ('["a", "b"]', "|", ["a", "b"]),
        ("[a, b]", "|", ["a", "b"]),
        ("[]", "|", []),
        ("('a', 'b')", "|", ["('a', 'b')"]),
        ("[__import__('os').system('false')]", "|", ["__import__('os').system('false')"]),
        ("", "|", []),
        (None, "|", []),
        ("[" * 500 + "]" * 500, "|", None),
    ],
)
def test_labels_in_one_text(text, separator, expected):
    found = label_lists(pa.array([text, "x"], pa.string()), separator=separator).to_pylist()
    assert found[1] == ["x"]
    assert expected is None or found[0] == expected


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.int64())])
def test_lists_of_a_parquet_table(kind):
    values = [[1, 2, 1], None, []] if kind.value_type == pa.int64() else [["a", " b ", "a"], None, []]
    expected = [["1", "2"], [], []] if kind.value_type == pa.int64() else [["a", "b"], [], []]
    assert label_lists(pa.array(values, kind), separator="|").to_pylist() == expected


def test_a_parquet_table_is_a_table(tmp_path):
    table = pa.table({"path": ["a.png", "b.png"], "labels": [["x", "y"], []], "patient_id": [7, 8], "A": [1, 0]})
    pq.write_table(table, tmp_path / "t.parquet")
    found, _ = manifest("csv", tmp_path / "t.parquet", one_hot=("A",))
    assert found["image_id"].to_pylist() == ["t/a.png", "t/b.png"]
    assert found["labels"].to_pylist() == [["unknown/unknown/x", "unknown/unknown/y", "unknown/unknown/A"], []]
    assert found["patient_id"].to_pylist() == ["7", "8"]


def test_tabs_between_columns(tmp_path):
    found, _ = manifest("csv", saved(tmp_path / "t.tsv", "path\tnote\na,1.png\thas, commas\n"))
    assert found["note"].to_pylist() == ["has, commas"]


# --- patterns and roots ------------------------------------------------------------------------------------------------


def test_patterns_name_several_tables(tmp_path):
    for name in ("one", "two", "deep/er/three"):
        saved(tmp_path / f"{name}.csv", "path\na.png\n")
    assert manifest("csv", tmp_path / "*.csv")[0]["image_id"].to_pylist() == ["one/a.png", "two/a.png"]
    assert len(manifest("csv", f"{tmp_path}/**/*.csv")[0]) == 3
    assert len(manifest("csv", tmp_path / "*.csv", tmp_path / "one.csv")[0]) == 2  # a file is read once
    with pytest.raises(UserError, match=r"no file fits .*/x\*\.csv; expected at least one"):
        manifest("csv", tmp_path / "x*.csv")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    odd = saved(tmp_path / "t[1].csv", "path\na.png\n")
    saved(tmp_path / "t1.csv", "path\nb.png\n")
    assert expanded([str(odd)], Remarks()) == [str(odd)]


def test_relative_paths_begin_at_the_image_root_of_their_dataset(tmp_path):
    text = "path,dataset\na.png,nih\nb/../c.png,mimic\n/abs.png,nih\ns3://b/k.png,nih\nd.png,other\n"
    table = saved(tmp_path / "t.csv", text)
    found, _ = manifest("csv", table, image_root={"nih": "/data/nih", "mimic": "s3://bucket/m?region=eu-1"})
    assert found["uri"].to_pylist() == [
        "/data/nih/a.png",
        "s3://bucket/m/b/../c.png?region=eu-1",
        "/abs.png",
        "s3://b/k.png",
        f"{tmp_path}/d.png",
    ]
    assert manifest("csv", table, image_root={"": "/all"})[0]["uri"].to_pylist()[0] == "/all/a.png"


# --- what is odd is named, and the rest goes on ------------------------------------------------------------------------


def test_rows_that_cannot_be_read_are_named_and_the_others_kept(tmp_path):
    text = "path,split\na.png,train\nb.png\nc.png,test,9\n,train\nd.png,holdout\ne.png,\na.png,test\n"
    table, said = manifest("csv", saved(tmp_path / "t.csv", text))
    found = list(zip(table["image_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert found == [("t/a.png", "train"), ("t/d.png", "unknown"), ("t/e.png", "unknown")]
    assert said == [
        ("unreadable_row", "t.csv", 3, "not 2 values, as the header has"),
        ("unreadable_row", "t.csv", 4, "not 2 values, as the header has"),
        ("unreadable_row", "t.csv", 5, "the path is blank"),
        ("duplicate_id", "t.csv", 8, f"t/a.png: {tmp_path}/a.png"),
        ("unknown_split", "t.csv", 6, "t/d.png: holdout"),
        ("unknown_split", "t.csv", 7, "t/e.png: blank"),
    ]


def test_missing_images_are_named_kept_and_dropped_when_asked(tmp_path, capsys):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    table = saved(tmp_path / "t.csv", "path\na.png\nnone.png\n")
    study = str(tmp_path / "kept")
    assert main(["manifest", "csv", str(table), "--study", study]) == 0
    out = capsys.readouterr().out
    assert "manifest: 2 images" in out
    assert (
        f"1 x missing_image (rows whose image is not there), first: t.csv row 3: t/none.png: {tmp_path}/none.png" in out
    )
    assert main(["sql", "--study", study, "SELECT remark, row FROM remarks", "--csv", str(tmp_path / "r.csv")]) == 0
    assert (tmp_path / "r.csv").read_text().split() == ["remark,row", "missing_image,3"]
    capsys.readouterr()
    assert main(["manifest", "csv", str(table), "--study", f"{study}2", "--missing-images", "drop"]) == 0
    assert "manifest: 1 images" in capsys.readouterr().out
    (tmp_path / "a.png").unlink()
    assert main(["manifest", "csv", str(table), "--study", f"{study}3", "--missing-images", "drop"]) == 2
    assert "none of 2 images is there" in capsys.readouterr().err


def test_a_part_of_a_file_is_there_if_its_file_is(tmp_path):
    (tmp_path / "f.dcm").write_bytes(b"")
    (tmp_path / "odd#name.png").write_bytes(b"")
    table = saved(tmp_path / "t.csv", "path\nf.dcm#frame=2\nodd#name.png\nnone.dcm#frame=0\n")
    remarks = Remarks()
    read_source("csv", [str(table)], Options(), remarks, salt=lambda: b"")
    assert [r["row"] for r in remarks.table().to_pylist()] == [4]


def test_a_truncated_archive_is_named(tmp_path):
    whole = gzip.compress(b"path,note\n" + b"".join(b"%d.png,%d\n" % (i, i * 7919) for i in range(20_000)))
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"t\.csv\.gz is not a table that can be read"):
        manifest("csv", tmp_path / "t.csv.gz")


@pytest.mark.parametrize(
    ("source", "flags", "message"),
    [
        ("folder", ["--one-hot", "a"], "--one-hot has no meaning for folder; expected it with csv"),
        ("folder", ["--image-root", "x"], "--image-root has no meaning for folder"),
        ("csv", ["--axis", "1"], "--axis has no meaning for csv; expected it with dicom, nifti, medmnist"),
        ("csv", ["--window", "40,400"], "--window has no meaning for csv; expected it with nifti"),
        ("csv", ["--protocol", "denner2024"], "--protocol denner2024: csv has none; it is a protocol of nih14"),
        ("csv", ["--salt-file", "/nowhere"], "--salt-file /nowhere: No such file"),
    ],
)
def test_flags_without_meaning_are_refused(tmp_path, capsys, source, flags, message):
    (tmp_path / "a.png").write_bytes(b"")
    root = saved(tmp_path / "t.csv", "path\na.png\n") if source == "csv" else tmp_path
    more = ["--deidentify"] if "--salt-file" in flags else []
    assert main(["manifest", source, str(root), "--study", str(tmp_path / "study"), *flags, *more]) == 2
    assert message in capsys.readouterr().err
    assert not Study(str(tmp_path / "study")).exists("manifest")


# --- the published split files -----------------------------------------------------------------------------------------

HEAD = "filepath,dataset,split,modality,anatomic_region"


def test_published_split_files_with_different_labels(tmp_path):
    one = saved(
        tmp_path / "a.csv",
        f"{HEAD},XR/chest/Mass,XR/chest/Edema\nx/1.png,nih14,train,XR,chest,1,0\nx/2.png,nih14,val,XR,chest,0,\n",
    )
    two = saved(tmp_path / "b.csv", f"{HEAD},CT/lung/normal,XR/chest/Mass\ny/1.png,radiology_ai,test,CT,lung,1.0,0.0\n")
    table, said = manifest("denner-csv", one, two)
    assert said == []
    assert table["image_id"].to_pylist() == ["nih14/x/1.png", "nih14/x/2.png", "radiology_ai/y/1.png"]
    assert table["filepath"].to_pylist() == ["x/1.png", "x/2.png", "y/1.png"]
    assert table["uri"].to_pylist()[0] == f"{tmp_path}/x/1.png"
    assert table["split"].to_pylist() == ["train", "val", "test"]
    assert table["region"].to_pylist() == ["chest", "chest", "lung"]
    assert lists(table) == [
        (["XR/chest/Mass"], []),
        ([], []),
        (["CT/lung/normal"], []),
    ]  # blank is 0, as the authors read it


def test_published_split_files_keep_further_columns_and_forget_pandas_index(tmp_path):
    text = f"Unnamed: 0,{HEAD},age,XR/chest/Mass\n0,1.png,d,train,XR,chest,50,1\n"
    table, _ = manifest("denner-csv", saved(tmp_path / "a.csv", text))
    assert table["age"].to_pylist() == [50]
    assert not [name for name in table.column_names if name.startswith(("Unnamed", "XR/"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filepath,dataset,split,modality\na,b,c,d\n", "has no column anatomic_region; expected filepath, dataset"),
        (f"{HEAD},age\na,d,train,XR,chest,5\n", "has no label column such as XR/chest/Pneumonia"),
        (f"{HEAD},XR/c/a,XR/c/a\na,d,train,XR,chest,1,0\n", "has 2 columns 'XR/c/a'"),
    ],
)
def test_tables_of_another_layout_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        manifest("denner-csv", saved(tmp_path / "a.csv", text))


def test_odd_rows_of_published_split_files_are_named(tmp_path):
    rows = [
        "1.png,d,train,XR,chest,1,0",
        "2.png,d,train,XR,chest,7,0",
        ",d,train,XR,chest,1,0",
        "3.png,d,dev,XR,chest,0,1",
        "4.png",
    ]
    text = "\n".join([f"{HEAD},XR/chest/A,XR/chest/B", *rows]) + "\n"
    table, said = manifest("denner-csv", saved(tmp_path / "a.csv", text))
    assert table["image_id"].to_pylist() == ["d/1.png", "d/2.png", "d/3.png"]
    assert lists(table) == [(["XR/chest/A"], []), ([], ["XR/chest/A"]), (["XR/chest/B"], [])]
    assert [(kind, row) for kind, _, row, _ in said] == [
        ("unreadable_row", 6),
        ("odd_value", 3),
        ("unreadable_row", 4),
        ("unknown_split", 5),
    ]


def test_the_published_format_through_the_whole_run(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = [f"{HEAD},XR/chest/A,XR/chest/B"]
    for i in range(24):
        (tmp_path / "img").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(tmp_path / "img" / f"{i}.png")
        lines.append(f"img/{i}.png,syn,{('train', 'test')[i % 2]},XR,chest,{i % 3 == 0:d},{i % 3 != 0:d}")
    table = saved(tmp_path / "tables" / "all.csv", "\n".join(lines) + "\n")
    command = ["run", "denner-csv", str(table), "--image-root", str(tmp_path), "--study", str(tmp_path / "study")]
    assert main([*command, "--encoder", "pixels32", "--index", "exact"]) == 0
    assert "24 embedded, 0 failed" in capsys.readouterr().out


def test_the_golden_split_files(shared):
    files = [shared / "golden" / "denner" / f"{split}.csv" for split in ("train", "val", "test")]
    table, _ = manifest("denner-csv", *files)
    expected = []
    for file in files:
        with open(file) as text:
            for row in csv.DictReader(text):
                labels = [name for name, value in row.items() if name.count("/") == 2 and value == "1"]
                expected.append((row["filepath"], row["split"], row["modality"], row["anatomic_region"], labels))
    columns = ("filepath", "split", "modality", "region", "labels")
    assert list(zip(*(table[c].to_pylist() for c in columns), strict=True)) == expected
    assert len(expected) == 2100


# --- ids that nobody can trace -----------------------------------------------------------------------------------------


def deidentified(tmp_path, name: str, *flags: str) -> pa.Table:
    text = "path,patient_id,study_id,volume_id,slice\nDoe/a.png,DOE,S1,V,0\nDoe/b.png,DOE,S2,V,1\nc.dcm#7,,,,\nd.png,ROE,DOE,,\n"
    table = saved(tmp_path / "in" / "t.csv", text)
    study = tmp_path / name
    assert main(["manifest", "csv", str(table), "--study", str(study), "--deidentify", *flags]) == 0
    return pq.read_table(study / "manifest" / "manifest.parquet")


def test_ids_become_salted_hashes(tmp_path, capsys):
    found = deidentified(tmp_path, "one")
    patients = found["patient_id"].to_pylist()
    assert patients[0] == patients[1] != patients[3]
    assert patients[2] is None
    assert all(len(p) == 20 for p in patients if p)
    assert found["study_id"].to_pylist()[3] != patients[0]  # the same text as a patient and as a study
    ids = found["image_id"].to_pylist()
    assert all(i.startswith("t/") and "oe" not in i for i in ids)
    assert ids[2].endswith("#7")
    assert len(set(ids)) == 4
    salt = tmp_path / "one" / "salt.hex"
    assert salt.stat().st_mode & 0o077 == 0
    assert found.equals(deidentified(tmp_path, "one"))  # again: the study's own salt, nothing new
    assert "(unchanged)" in capsys.readouterr().out
    assert deidentified(tmp_path, "two")["patient_id"].to_pylist() != patients
    assert deidentified(tmp_path, "three", "--salt-file", str(salt))["patient_id"].to_pylist() == patients


@pytest.mark.parametrize("text", ["", "zz", "00", "é"])
def test_a_file_that_is_no_salt_is_refused(tmp_path, capsys, text):
    (tmp_path / "salt").write_text(text)
    table = saved(tmp_path / "t.csv", "path\na.png\n")
    flags = ["--deidentify", "--salt-file", str(tmp_path / "salt")]
    assert main(["manifest", "csv", str(table), "--study", str(tmp_path / "study"), *flags]) == 2
    assert "hex digits" in capsys.readouterr().err


def test_run_json_says_what_was_asked_and_what_was_odd(tmp_path):
    table = saved(tmp_path / "t.csv", "path,A\na.png,5\n")
    main(["manifest", "csv", str(table), "--one-hot", "A", "--set", "modality=XR", "--study", str(tmp_path / "study")])
    run = json.loads((tmp_path / "study" / "manifest" / "run.json").read_text())
    assert run["parameters"]["one_hot"] == ["A"]
    assert run["parameters"]["constants"] == {"modality": "XR"}
    assert {r["remark"]: r["count"] for r in run["remarks"]} == {"odd_value": 1, "missing_image": 1}


# --- on an object store ------------------------------------------------------------------------------------------------


def test_tables_and_images_on_an_object_store_through_the_whole_run(s3, tmp_path, capsys):
    """Relative paths, a pattern, an image root and a study that all lie behind s3:// addresses, on a real S3 server."""
    rng = np.random.default_rng(1)
    for i in range(16):
        s3.put(f"scans/a b/{i}#1.png", pillow(rng.integers(0, 256, (20, 20), np.uint8), "PNG"))
    head = "path,split,modality,region,labels\n"
    rows = [f"a b/{i}#1.png,{('train', 'test')[i % 2]},XR,chest,{'ab'[i % 4 // 2]}\n" for i in range(16)]
    s3.put("scans/one.csv", (head + "".join(rows[:8])).encode())
    s3.put("scans/two.csv", (head + "".join(rows[8:])).encode())
    s3.put("elsewhere/all.csv", (head + "".join(rows)).encode())
    study = s3.address("studies/one")
    command = ["run", "csv", s3.address("scans/*.csv"), "--study", study, "--encoder", "pixels32", "--index", "exact"]
    assert main(command) == 0
    assert "pixels32: 16 embedded, 0 failed" in capsys.readouterr().out
    assert Study(study).require("manifest")["rows"] == 16
    other = str(tmp_path / "other")
    assert (
        main(
            ["manifest", "csv", s3.address("elsewhere/all.csv"), "--image-root", s3.address("scans"), "--study", other]
        )
        == 0
    )
    assert main(["manifest", "check", "--study", other, "--gallery", "true"]) == 0
    assert "16 of them looked at now, 0 cannot be used" in capsys.readouterr().out
