"""One study directory: whole publication, run.json, names as path segments."""

import os
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cbmir import store
from cbmir.schemas import MANIFEST, ContractError
from cbmir.store import Study, fingerprint, open_filesystem, path_name, run_record

FAILED = pa.table(
    {
        "image_key": pa.array([1, 2], pa.int64()),
        "uri": ["a.png", "b.png"],
        "stage": ["read", "decode"],
        "error": ["gone", "broken"],
    }
)
TARGET = ("failures", "encoder=pixels32")


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its content, and every empty directory."""
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    empty = {p.relative_to(root).as_posix() + "/": b"" for p in root.rglob("*") if p.is_dir() and not any(p.iterdir())}
    return found | empty


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(str(tmp_path / "study"))


def publish(study: Study, table: pa.Table = FAILED, *, name: str = "part.parquet", **run) -> None:
    with study.publishing(*TARGET) as out:
        out.write_table(table, name, "failures")
        out.run = run


def test_a_published_dataset_is_there_with_its_run_json(study):
    publish(study, rows=2)
    assert study.require(*TARGET) == {"rows": 2}
    assert study.dataset(*TARGET).to_table().equals(FAILED)
    assert [os.path.basename(path) for path in study.files(*TARGET)] == ["part.parquet"]
    assert sorted(tree(Path(study.root))) == [f"{'/'.join(TARGET)}/{name}" for name in ("part.parquet", "run.json")]


def test_nothing_is_visible_before_the_block_ends(study):
    with study.publishing(*TARGET) as out:
        out.write_table(FAILED, "part.parquet", "failures")
        assert not study.exists(*TARGET)
        out.run = {"rows": 2}
    assert study.exists(*TARGET)


class Killed(BaseException):
    """As KeyboardInterrupt is: no Exception."""


@pytest.mark.parametrize("error", [RuntimeError, Killed])
def test_an_error_in_the_block_leaves_the_old_dataset_and_nothing_new(study, error):
    publish(study, rows=2)
    before = tree(Path(study.root))

    def broken_writer():
        with study.publishing(*TARGET) as out:
            out.write_table(FAILED.slice(0, 1), "part.parquet", "failures")
            out.write_table(FAILED.slice(1), "more.parquet", "failures")
            raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        broken_writer()
    left = {name: data for name, data in tree(Path(study.root)).items() if not name.startswith(".staging/")}
    assert left == before
    assert study.names(".staging") == []


def test_a_table_that_breaks_its_contract_is_not_published(study):
    with pytest.raises(ContractError, match="failures: column 'error' is missing"):
        publish(study, FAILED.drop_columns("error"))
    assert not study.exists(*TARGET)


def test_a_second_publication_replaces_the_first_whole(study):
    publish(study, name="old.parquet", rows=2)
    publish(study, FAILED.slice(0, 1), name="new.parquet", rows=1)
    assert sorted(tree(Path(study.root))) == [f"{'/'.join(TARGET)}/{name}" for name in ("new.parquet", "run.json")]
    assert study.require(*TARGET) == {"rows": 1}


def test_what_a_killed_writer_left_is_swept_by_the_next_of_the_same_dataset(study):
    killed = study.publishing(*TARGET)
    out = killed.__enter__()  # and never left, as if the process had been killed
    out.write_table(FAILED, "part.parquet", "failures")
    other = study.publishing("failures", "encoder=other")
    other.__enter__()
    assert len(study.names(".staging")) == 2

    publish(study, rows=2)
    (staged,) = study.names(".staging")  # another dataset's writer goes on undisturbed
    assert staged.startswith(fingerprint("failures", "encoder=other"))
    assert study.require(*TARGET) == {"rows": 2}


def test_require_tells_no_study_from_no_dataset_from_an_unfinished_one(study):
    with pytest.raises(ContractError, match=r"^no study at .*/study; expected a directory made by: cbmir manifest"):
        study.require("manifest")
    study.write_bytes(b"x", "manifest", "manifest.parquet")
    with pytest.raises(ContractError, match=r"^manifest is unfinished .*; finish it with: cbmir manifest"):
        study.require("manifest")
    with pytest.raises(ContractError, match=r"^index/a/b is not in the study .*; make it with: cbmir index"):
        study.require("index", path_name("a/b"))
    study.write_json({"rows": 3}, "manifest", "run.json")
    assert study.require("manifest") == {"rows": 3}


def test_a_damaged_run_json_is_named(study):
    study.write_bytes(b'{"rows": 3', "manifest", "run.json")
    with pytest.raises(ContractError, match=r"^manifest/run\.json is not JSON .*; delete it and run the stage again"):
        study.require("manifest")


def test_write_bytes_replaces_whole_and_leaves_nothing_beside(study):
    study.write_bytes(b"old", "a", "b.bin")
    study.write_bytes(pa.py_buffer(b"new"), "a", "b.bin")
    assert tree(Path(study.root)) == {"a/b.bin": b"new"}


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside(study, monkeypatch):
    study.write_bytes(b"old", "a", "b.bin")

    def no_space(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(store.os, "fsync", no_space)
    with pytest.raises(OSError, match="no space left"):
        study.write_bytes(b"new", "a", "b.bin")
    assert tree(Path(study.root)) == {"a/b.bin": b"old"}


def test_an_unfinished_file_is_no_file_of_the_dataset(study):
    study.write_table(FAILED, *TARGET, "a.parquet")
    study.write_bytes(b"half", *TARGET, "b.parquet.tmp-0123")
    assert [os.path.basename(path) for path in study.files(*TARGET)] == ["a.parquet"]


def test_delete_takes_a_file_or_a_directory_and_forgives_what_is_not_there(study):
    study.write_bytes(b"x", "a", "b", "c.bin")
    study.delete("a", "b", "d.bin")
    study.delete("a", "b", "c.bin")
    assert not study.exists("a", "b", "c.bin")
    study.delete("a")
    assert not study.exists("a")


def test_an_address_that_no_filesystem_knows_is_refused():
    with pytest.raises(ContractError, match=r"^cannot open ftp://there/study: .*expected a local path, s3://"):
        open_filesystem("ftp://there/study")


NAMES = ["timm:vit@64~random0", "open_clip:ViT-B-32/openai", "a,b=c", "50% + more", "ä b", "timm:m,pad_type=same@128"]


@pytest.mark.parametrize("name", NAMES)
def test_names_come_back_from_duckdb_pyarrow_and_the_study(study, name):
    study.write_table(FAILED, "failures", f"encoder={path_name(name)}", "part.parquet")
    root = study.path("failures")
    hive = f"SELECT DISTINCT encoder FROM read_parquet('{root}/*/*.parquet', hive_partitioning = true)"
    assert duckdb.sql(hive).fetchall() == [(name,)]
    assert set(pads.dataset(root, partitioning="hive").to_table()["encoder"].to_pylist()) == {name}
    assert study.names("failures") == [name]


@pytest.mark.parametrize("name", [*NAMES, "..", ".hidden", "_draft"])
def test_a_dataset_named_by_a_bare_segment_stays_in_its_place_and_is_listed(study, name):
    study.write_table(FAILED, "index", path_name(name), "part.parquet")
    assert study.names("index") == [name]
    assert pads.dataset(study.path("index")).to_table().equals(FAILED)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30))
@example("..")
@example("a/../b")
def test_a_name_is_one_segment_of_printable_ascii(name):
    segment = path_name(name)
    assert re.fullmatch(r"[!-.0-~]+", segment)  # no slash, no blank
    assert not segment.startswith((".", "_"))
    assert store.unquote(segment) == name


def test_tables_can_be_read_without_cbmir(study):
    study.write_table(FAILED, *TARGET, "part.parquet")
    assert pq.read_table(study.path(*TARGET, "part.parquet"), partitioning=None).equals(FAILED)


def record(stage: str = "embed", **changes) -> dict:
    return run_record(stage, **{"parameters": {"size": 64}, "inputs": {"manifest": "abc"}, "rows": 10} | changes)


def test_the_fingerprint_does_not_know_the_time(monkeypatch):
    first = record()
    monkeypatch.setattr(store.time, "gmtime", lambda: (2031, 5, 6, 7, 8, 9, 0, 0, 0))
    second = record()
    assert second["finished"] == "2031-05-06T07:08:09Z" != first["finished"]
    assert first["fingerprint"] == second["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [{"parameters": {"size": 65}}, {"inputs": {"manifest": "abd"}}, {"stage": "search"}, {"parameters": {}}],
    ids=str,
)
def test_the_fingerprint_knows_stage_parameters_and_inputs(change):
    assert record(**change)["fingerprint"] != record()["fingerprint"]


def test_the_fingerprint_does_not_depend_on_the_order_of_parameters():
    assert (
        record(parameters={"a": 1, "b": [1, 2]})["fingerprint"]
        == record(parameters={"b": [1, 2], "a": 1})["fingerprint"]
    )


def test_a_run_record_says_what_was_run_and_with_what():
    found = record(seconds=1.5)
    assert found["stage"] == "embed"
    assert found["rows"] == 10
    assert found["seconds"] == 1.5
    assert found["versions"]["pyarrow"] == pa.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["finished"])
    assert re.fullmatch(r"[0-9a-f]{16}", found["fingerprint"])


def test_a_dataset_whose_files_another_run_removed_is_not_published(tmp_path):
    """Two runs of the same stage: the second sweeps the first one's staging, and the first must not publish the rest."""
    study = Study(str(tmp_path / "study"))
    first = study.publishing("manifest")
    out = first.__enter__()
    out.write_table(MANIFEST.empty_table(), "a.parquet", "manifest")
    with study.publishing("manifest") as other:
        other.write_table(MANIFEST.empty_table(), "b.parquet", "manifest")
        other.run = {"whose": "other"}
    out.write_table(MANIFEST.empty_table(), "c.parquet", "manifest")
    with pytest.raises(ContractError, match="another run has begun the same dataset"):
        first.__exit__(None, None, None)
    assert study.run_of("manifest") == {"whose": "other"}


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    study = Study(str(tmp_path / "study"))
    with study.publishing("manifest") as out:
        out.write_table(MANIFEST.empty_table(), "a.parquet", "manifest")
        out.run = {"n": 1}
    name = f".staging/{out._slug}-old-0"
    (tmp_path / "study" / ".staging").mkdir()
    (tmp_path / "study" / "manifest").rename(tmp_path / "study" / name)
    with pytest.raises(KeyboardInterrupt), study.publishing("manifest"):
        raise KeyboardInterrupt
    assert study.run_of("manifest") == {"n": 1}
