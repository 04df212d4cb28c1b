"""Sources -> manifest: what all sources share, and tables."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from cbmir.datasets import SOURCES, Options, reader
from cbmir.datasets.manifest import content_hash, read_source, write_manifest
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.schemas import image_key
from cbmir.store import Study


def manifest(source: str, *roots, **options) -> pa.Table:
    return manifest_and_remarks(source, *roots, **options)[0]


def manifest_and_remarks(source: str, *roots, **options) -> tuple[pa.Table, list[tuple]]:
    """A source's manifest, and its remarks as (kind, file name, line, detail)."""
    remarks = Remarks()
    given = Options(**options)
    table, _ = read_source(source, [str(root) for root in roots], given, remarks, salt=lambda: b"0" * 32)
    said = [
        (r["remark"], r["file"] and Path(r["file"]).name, r["row"], r["detail"]) for r in remarks.table().to_pylist()
    ]
    return table, said


def rows(table: pa.Table, *columns: str) -> list[tuple]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


# --- what all sources share ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_can_be_read_by_name_and_says_what_it_is(source):
    assert callable(reader(source))
    assert SOURCES[source].summary
    assert SOURCES[source].example.startswith(f"cbmir manifest {source} ")


def test_an_unknown_source_is_named_with_the_nearest():
    with pytest.raises(UserError, match="unknown source 'medminst'; nearest: 'medmnist'"):
        reader("medminst")
    with pytest.raises(UserError, match="unknown source 'xyz'; sources: folder, csv"):
        reader("xyz")


def test_keys_are_those_of_the_ids(tmp_path):
    table = manifest("folder", touch(tmp_path / "d", "a.png", "b.png"))
    assert rows(table, "image_id", "image_key") == [(i, image_key(i)) for i in ("d/a.png", "d/b.png")]


@pytest.mark.parametrize("name", ["color", "image_id", "image_key", "uri", "slice"])
def test_only_some_columns_can_be_set(tmp_path, name):
    with pytest.raises(UserError, match=f"--set {name}=...: not a column that can be set; expected dataset, split"):
        manifest("folder", touch(tmp_path / "d", "a.png"), constants={name: "1"})


def test_every_other_column_can_be_set(tmp_path):
    given = {"dataset": "x", "split": "val", "patient_id": "p", "study_id": "s", "volume_id": "v", "labels": "a|CT/b/c"}
    (row,) = manifest("folder", touch(tmp_path / "d", "z/a.png"), constants=given).to_pylist()
    assert row["image_id"] == "x/z/a.png"
    assert row["labels"] == ["unknown/unknown/a", "CT/b/c"]
    assert {name: row[name] for name in given if name != "labels"} == {k: v for k, v in given.items() if k != "labels"}


# --- csv -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Writes the text of a table -> its path."""

    def write(text: str | bytes, name: str = "t.csv") -> Path:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("theirs", "ours", "value", "expected"),
    [
        ("image_id", "image_id", "q", "q"),
        ("dataset", "dataset", "q", "q"),
        ("source", "dataset", "q", "q"),
        ("SPLIT", "split", "Validation", "val"),
        ("patient_id", "patient_id", "007", "007"),
        ("Study_ID", "study_id", "1e5", "1e5"),
        ("modality", "modality", " mr ", "MR"),
        ("region", "region", "Brain", "brain"),
        ("body_part", "region", "Brain", "brain"),
        ("anatomic_region", "region", "Brain", "brain"),
        ("labels", "labels", "XR/a/b", ["XR/a/b"]),
        ("Label", "labels", "XR/a/b", ["XR/a/b"]),
        ("finding", "labels", "XR/a/b", ["XR/a/b"]),
        ("unknown_labels", "unknown_labels", "XR/a/b", ["XR/a/b"]),
        ("volume_id", "volume_id", "01", "01"),
        ("slice", "slice", "3", 3),
    ],
)
def test_columns_are_known_by_their_synonyms(table, theirs, ours, value, expected):
    found = manifest("csv", table(f"path,{theirs}\na.png,{value}\n"))
    assert found[ours].to_pylist() == [expected]
    assert found.column_names == manifest("csv", table("path\na.png\n")).column_names  # no further column


@pytest.mark.parametrize("column", ["path", "filepath", "uri", "Path", "FILEPATH"])
def test_the_path_by_its_synonyms(table, tmp_path, column):
    assert rows(manifest("csv", table(f"{column}\na.png\n")), "uri", "image_id") == [(f"{tmp_path}/a.png", "t/a.png")]


def test_a_mapped_column_goes_before_a_synonym(table):
    found = manifest("csv", table("path,label,diag\na.png,x,XR/a/y\n"), columns={"labels": "diag"})
    assert found["labels"].to_pylist() == [["XR/a/y"]]
    assert found["label"].to_pylist() == ["x"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": "diagnos"}, r"--column labels=diagnos: .*t\.csv has no column 'diagnos'; nearest: 'diagnosis'"),
        ({"labels": "zzz"}, r"has no column 'zzz'; columns: file, diagnosis"),
        ({"label": "diagnosis"}, r"--column label=...: not a column of the manifest; nearest: 'labels'"),
        ({"zzz": "diagnosis"}, r"--column zzz=...: not a column of the manifest; expected one of: image_id, path"),
        ({}, r"has no column path, filepath or uri; found: file, diagnosis; map one with --column path=NAME"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_the_nearest(table, columns, message):
    with pytest.raises(UserError, match=message):
        manifest("csv", table("file,diagnosis\na.png,x\n"), columns=columns)


def test_further_columns_keep_their_types(table):
    found = manifest("csv", table("path,age,weight,smoker,seen,view\na,50,1.5,true,2020-01-02,PA\nb,,,,,\n"))
    types = {name: str(found.schema.field(name).type) for name in ("age", "weight", "smoker", "seen", "view")}
    assert types == {"age": "int64", "weight": "double", "smoker": "bool", "seen": "date32[day]", "view": "string"}
    assert rows(found, "age", "weight", "smoker", "view") == [(50, 1.5, True, "PA"), (None, None, None, None)]


@pytest.mark.parametrize("column", ["patient_id", "subject_id", "PatientID", "Patient ID", "id"])
@pytest.mark.parametrize("before", ["", "\n", "\ufeff"], ids=["", "blank line", "byte order mark"])
def test_ids_keep_their_leading_zeros(table, column, before):
    found = manifest("csv", table(f"{before}path,{column}\r\na.png,007\r\n"))
    assert found[column].to_pylist() == ["007"]


def test_a_mapped_id_keeps_its_leading_zeros(table):
    found = manifest("csv", table("path,person\na,007\n"), columns={"patient_id": "person"})
    assert found["patient_id"].to_pylist() == ["007"]


def test_labels_are_split_at_bars_and_qualified_where_they_are_bare(table):
    found = manifest(
        "csv",
        table(
            "path,modality,region,labels,unknown_labels\n"
            "a,xr,Chest,Effusion| Nodule |Effusion,Mass\n"
            "b,CT,head,CT/head/bleed|x,\n"
            "c,,,  ,\n"
            "d,MR,,No Finding,a|\n"
        ),
    )
    assert rows(found, "labels", "unknown_labels") == [
        (["XR/chest/Effusion", "XR/chest/Nodule"], ["XR/chest/Mass"]),
        (["CT/head/bleed", "CT/head/x"], []),
        ([], []),
        (["MR/unknown/No Finding"], ["MR/unknown/a"]),
    ]


def test_addresses_are_relative_to_the_table_or_absolute(table, tmp_path):
    found = manifest(
        "csv", table("path\nimages/a.png\n./b.png\n../c.png\n/data/d.png\ns3://bucket/e.png\nf.dcm#frame=2\n")
    )
    assert found["uri"].to_pylist() == [
        f"{tmp_path}/images/a.png",
        f"{tmp_path}/b.png",
        f"{tmp_path.parent}/c.png",
        "/data/d.png",
        "s3://bucket/e.png",
        f"{tmp_path}/f.dcm#frame=2",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,path\nq,a\n,b\n", r"column image_id is blank in 1 rows"),
        ("image_id,path\nq,a\nq,b\nq,c\n", r"2 of 3 rows have an image id that stands before them already, first 'q'"),
        ("path,split\na,dev\nb,\n", r"column split holds 'dev'; expected train, val or test"),
        ("path,age\na\n", r"the source holds no image.*; t\.csv row 2: not 2 values, as the header has"),
        ("path,image_key\na,1\n", r"has a column 'image_key', which the manifest computes itself"),
        ("path,Image_Key\na,1\n", r"has a column 'Image_Key', which the manifest computes itself"),
        ("path,uri\na,b\n", r"has a column 'uri', which the manifest computes itself"),
        ("path,x,x\na,1,2\n", r"has 2 columns 'x'; expected each name once"),
        ("path,slice\na,1.5\n", r"t\.csv: a slice is no whole number .*; expected 0, 1, 2"),
        ("path,slice\na,first\n", r"t\.csv: a slice is no whole number"),
        ("", r"is not a table that can be read \(Empty CSV file\)"),
        ("\n\n", r"is not a table that can be read"),
        ("path,age\n", r"the source holds no image"),
        (b"path,labels\na,\xe4\n", r"is not a table that can be read .*invalid UTF8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"t\.csv is not a table that can be read"),
    ],
)
def test_a_table_that_cannot_be_a_manifest_is_refused(table, text, message):
    with pytest.raises(UserError, match=message):
        manifest("csv", table(text))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no table at .*/none.csv; expected a table with a header"):
        manifest("csv", tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"is not a table that can be read .*is a directory"):
        manifest("csv", tmp_path)


def test_quoted_fields_hold_commas_lines_and_quotes(table, tmp_path):
    text = '"path","no\nte",patient_id\r\n"a,1.png","two\nlines, ""quoted""","007"\r\nb.png,,8\r\n'
    found = manifest("csv", table(text))
    assert rows(found, "uri", "no\nte", "patient_id") == [
        (f"{tmp_path}/a,1.png", 'two\nlines, "quoted"', "007"),
        (f"{tmp_path}/b.png", None, "8"),
    ]


def test_a_compressed_table_is_read_by_its_suffix(table):
    plain = table("path,patient_id\na.png,007\n")
    packed = table(gzip.compress(plain.read_bytes()), "t.csv.gz")
    assert manifest("csv", packed).equals(manifest("csv", plain))  # the dataset is t in both


def test_tables_may_differ_in_their_further_columns(table):
    one = table("path,age,labels\na,50,XR/a/x\n", "one.csv")
    two = table("path,age,view,split_note\nb,1.5,PA,\n", "two.csv")
    found = manifest("csv", one, two)
    assert rows(found, "image_id", "dataset", "age", "view", "labels") == [
        ("one/a", "one", 50.0, None, ["XR/a/x"]),
        ("two/b", "two", 1.5, "PA", []),
    ]


def test_tables_that_cannot_be_joined_name_the_column(table):
    one, two = table("path,age\na,50\n", "one.csv"), table("path,age\nb,old\n", "two.csv")
    with pytest.raises(UserError, match=r"one\.csv, .*two\.csv cannot be one .*age has incompatible types"):
        manifest("csv", one, two)


# --- the split that is drawn -----------------------------------------------------------------------------------------


def drawn_split(table, ids: range, *, seed: int = 0, by: str = "patient_id") -> dict[str, set]:
    """Two images a patient; -> the `by` of each split."""
    lines = "".join(f"{i}.png,p{i // 2}\n" for i in ids)
    found = manifest("csv", table("path,patient_id\n" + lines), seed=seed)
    groups: dict[str, set] = {"train": set(), "val": set(), "test": set()}
    for split, value in rows(found, "split", by):
        groups[split].add(value)
    return groups


def test_a_drawn_split_keeps_patients_together_in_shares_of_70_10_20(table):
    groups = drawn_split(table, range(4000))
    assert sum(map(len, groups.values())) == 2000  # no patient in two
    assert [len(groups[split]) / 2000 for split in groups] == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_a_drawn_split_is_the_same_again_in_any_order_and_when_data_grows(table):
    first = drawn_split(table, range(400), by="image_id")
    assert drawn_split(table, range(399, -1, -1), by="image_id") == first
    grown = drawn_split(table, range(600), by="image_id")
    assert all(first[split] <= grown[split] for split in first)


def test_images_without_a_patient_are_drawn_by_themselves_and_the_others_stay_together(table):
    lines = "".join(f"{i}.png,{'p' + str(i // 50) if i < 200 else ''}\n" for i in range(400))
    found = manifest("csv", table("path,patient_id\n" + lines))
    split = found["split"].to_pylist()
    assert [len(set(split[i : i + 50])) for i in range(0, 200, 50)] == [1, 1, 1, 1]
    assert len(set(split[200:])) == 3


def test_a_drawn_split_changes_with_its_seed(table):
    assert drawn_split(table, range(400), seed=1) != drawn_split(table, range(400), seed=2)


def notes(table, text: str) -> list[str]:
    return read_source("csv", [str(table(text))], Options(seed=3), Remarks(), salt=lambda: b"")[1]


def test_a_drawn_split_is_noted_with_its_seed(table):
    assert notes(table, "path,patient_id\na,1\n") == ["split drawn by patient with seed 3: the source has none"]
    assert notes(table, "path\na\n") == ["split drawn by image with seed 3: the source has none"]
    (note,) = notes(table, "path,patient_id\na,1\nb,\n")
    assert note.startswith("split drawn by patient (by image where it has none)")
    assert notes(table, "path,split\na,train\n") == []


def test_a_split_column_without_any_value_is_no_split(table):
    assert len(notes(table, "path,split\na,\nb,\n")) == 1


# --- the study's manifest --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    return touch(tmp_path / "d", "train/x/a.png", "test/x/b.png")


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(str(tmp_path / "study"))


def write(study: Study, root: Path, **how) -> tuple[dict, bool]:
    return write_manifest(study, "folder", [str(root)], Options(), **how)


def test_the_same_manifest_again_changes_nothing(study, folder):
    run, new = write(study, folder)
    assert new
    assert run["rows"] == 2
    (file,) = study.files("manifest")
    stamp = os.stat(file).st_mtime_ns
    assert write(study, folder) == (study.require("manifest"), False)
    assert os.stat(file).st_mtime_ns == stamp


def test_another_manifest_is_refused_unless_overwrite_is_asked(study, folder):
    before, _ = write(study, folder)
    touch(folder, "test/x/c.png")
    with pytest.raises(
        UserError, match=r"has another manifest \(2 images from 'folder'\); found 3 images .*--overwrite"
    ):
        write(study, folder)
    assert study.require("manifest") == before
    after, new = write(study, folder, overwrite=True)
    assert new
    assert after["rows"] == 3
    assert after["fingerprint"] != before["fingerprint"]
    assert study.dataset("manifest").count_rows() == 3


def test_the_content_hash_knows_values_and_names_not_chunks():
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert chunked["a"].num_chunks == 2
    assert content_hash(chunked) == content_hash(table)
    others = [
        pa.table({"a": [1, 2, 4], "b": ["x", None, "z"]}),
        pa.table({"a": [1, 2, 3], "b": ["x", "", "z"]}),
        pa.table({"a": [1, 2, 3], "c": ["x", None, "z"]}),
        table.take([1, 0, 2]),
    ]
    assert len({content_hash(t) for t in [table, *others]}) == 5


# --- public samples --------------------------------------------------------------------------------------------------


def test_the_public_samples_table(shared):
    found = manifest("csv", shared / "data" / "images.csv", columns={"region": "body_part"})
    assert found.num_rows == 8464
    counts = {row["values"]: row["counts"] for row in pc.value_counts(found["dataset"]).to_pylist()}
    assert counts == {
        "nih_cxr14": 487,
        "nih_cxr14_64px": 498,
        "kermany_pneumonia": 1000,
        "brain_tumor_mri": 1200,
        "busi": 479,
        "mednist_64px": 4800,
    }
    assert {"age", "sex", "view", "sublabel", "sha256"} < set(found.column_names)
    with Image.open(found["uri"][0].as_py()) as image:
        assert image.size == (found["width"][0].as_py(), found["height"][0].as_py())


def test_a_manifest_that_names_other_files_under_the_same_ids_is_refused_once_there_are_vectors(tmp_path):
    from tests.studies import make_study

    study = make_study(tmp_path / "study", [{"image_id": "hand/1"}], {"hand/1": [1.0, 2.0]})
    (tmp_path / "new.csv").write_text("image_id,path,modality\nhand/1,elsewhere.png,XR\n")
    with pytest.raises(UserError, match="1 images keep their id but lie elsewhere now, first 'hand/1'"):
        write_manifest(study, "csv", [str(tmp_path / "new.csv")], Options(), overwrite=True)
    study.delete("embeddings")
    assert write_manifest(study, "csv", [str(tmp_path / "new.csv")], Options(), overwrite=True)[1]
