"""cbmir remove: images leave every file of a study, whatever dataset it is, and the stages go on as if they had never been there."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

import cbmir.removal as removal
from cbmir.cli import main
from cbmir.commands import KS as ASSUMED
from cbmir.datasets import Options
from cbmir.datasets.manifest import content_hash, write_manifest
from cbmir.datasets.remarks import Remarks
from cbmir.doctor import examine
from cbmir.embedding.account import embedded_digest
from cbmir.errors import UserError
from cbmir.evaluating.options import KS
from cbmir.fresh import is_fresh, outdated
from cbmir.phantoms import draw_collection
from cbmir.removal import RemoveOptions, StillThere, remove
from cbmir.removing.layout import KNOWN
from cbmir.removing.names import Names
from cbmir.removing.rewrite import remove_rows
from cbmir.removing.settle import fingerprints, settle_index
from cbmir.schemas import CONTRACTS, ContractError, block_name
from cbmir.select import attach_done, attach_manifest, connect
from cbmir.sql_files import read
from cbmir.stages import MADE_BY
from cbmir.store import JOURNAL, Study, run_record
from tests.studies import make_study

IMAGES = 120
E = "encoder=pixels32"


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A study with every dataset, made by the commands; its images lie beside it."""
    root = tmp_path_factory.mktemp("removal")
    draw_collection(root / "images", images=IMAGES, seed=0, broken=2)
    study = str(root / "study")
    flags = ["--study", study]
    search = ["search", *flags, "--encoder", "pixels32", "-k", "5"]
    for command in (
        ["manifest", "phantoms", str(root / "images"), *flags],
        ["manifest", "check", *flags],
        ["pack", *flags, "--short-side", "64", "--max-failures", "1"],
        ["embed", *flags, "--encoder", "pixels32", "--max-failures", "1"],
        ["index", *flags, "--encoder", "pixels32", "--index", "hnsw"],
        [*search, "--index", "exact", "--exclude-same", "patient_id"],
        [*search, "--index", "hnsw", "--save-as", "short", "--queries", "split = 'test' AND modality = 'XR'"],
        ["evaluate", *flags],
        ["report", *flags],
    ):
        assert main([*command, "--debug"]) == 0
    remark_all(Study(study))
    return root


def remark_all(study: Study) -> None:
    """A remark on every image, as a source would have made it, and one on none."""
    remarks = Remarks()
    rows = study.dataset("manifest").to_table(columns=["image_id", "uri"]).to_pylist()
    remarks.add_rows("odd_value", [f"{row['image_id']}: x" for row in rows], files=[row["uri"] for row in rows])
    remarks.add("left_out", "3 rows whose image is not there")
    run = study.require("manifest")
    with study.publishing("remarks", "manifest") as out:
        out.write_table(remarks.table(), "remarks.parquet", "remarks")
        out.run = run_record("remarks", parameters={}, inputs=run["inputs"], rows=len(rows) + 1)
    study.write_json(run | {"remarks": remarks.summary()}, "manifest", "run.json")


@pytest.fixture(params=["local", "s3"])
def study(request, full, tmp_path) -> Study:
    """A copy of the full study, on disk and on an object store."""
    if request.param == "local":
        shutil.copytree(full / "study", tmp_path / "study")
        return Study(str(tmp_path / "study"))
    bucket = request.getfixturevalue("s3")
    copied = Study(bucket.address("study"))
    pafs.copy_files(str(full / "study"), copied.root, destination_filesystem=copied.fs)
    return copied


@pytest.fixture
def local(full, tmp_path) -> Study:
    shutil.copytree(full / "study", tmp_path / "study")
    return Study(str(tmp_path / "study"))


def manifest(study: Study) -> list[dict]:
    return study.dataset("manifest").to_table().to_pylist()


def contents(study: Study) -> dict[str, bytes]:
    infos = study.fs.get_file_info(pafs.FileSelector(study.root, recursive=True))
    return {i.path.removeprefix(study.root + "/"): read_bytes(study, i.path) for i in infos if i.is_file}


def read_bytes(study: Study, path: str) -> bytes:
    with study.fs.open_input_file(path) as file:
        return file.read()


def holders(study: Study, rows: list[dict]) -> dict[str, str]:
    """The files that hold a key, id or address of `rows` in any way that can be thought of: an independent, slow search.

    The bytes of the file, with the keys as they stand in Parquet's pages and statistics; and each value of each column as text.
    """
    needles = {text for row in rows for text in (row["image_id"], row["uri"])}
    ends = '"', "'", ":", " ", "<", "&", ",", "", "\n"  # what may follow a name
    keys = {row["image_key"] for row in rows}
    found = {}
    for name, data in contents(study).items():
        if any(key.to_bytes(8, "little") in data for key in keys):
            found[name] = "key in bytes"
        values: set[str] = set()
        if name.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(data))
            for field in table.schema:
                if pa.types.is_integer(field.type) or pa.types.is_string(field.type):
                    values |= {str(value) for value in table[field.name].to_pylist()}
        elif name.endswith((".json", ".html")):
            values = {data.decode()}
        for value in values:
            if any(needle + end == value[value.find(needle) :][: len(needle + end)] for needle in needles if needle in value for end in ends if end) or value in needles:  # fmt: skip
                found[name] = value[:80]
            if any(str(key) in value for key in keys):
                found[name] = value[:80]
    return found


def conserved(study: Study) -> bool:
    """sql/checks/conservation finds no row."""
    connection = connect()
    attach_manifest(connection, study)
    attach_done(connection, "done", study, "pixels32")
    return connection.execute(read("checks", "conservation")).fetchall() == []


def lines(study: Study, **options) -> list[str]:
    said: list[str] = []
    remove(study, RemoveOptions(**options), say=said.append)
    return said


def patients(rows: list[dict], count: int) -> tuple[str, list[dict]]:
    """A predicate for the first patients and their rows."""
    names = sorted({row["patient_id"] for row in rows})[:count]
    return f"patient_id IN ({', '.join(map(repr, names))})", [row for row in rows if row["patient_id"] in names]


def test_the_search_of_the_tests_finds_images_in_every_kind_of_file(local):
    """Else the tests below could not fail."""
    rows = manifest(local)
    found = {name.partition("/")[0] for name in holders(local, [row for row in rows if row["split"] == "train"])}
    assert found >= {"manifest", "remarks", "image_facts", "packed", "embeddings", "neighbors", "report", "problems"}


def hashed(files: dict[str, bytes]) -> dict[str, set[int]]:
    """Files that are named by a hash of keys, with the keys in them."""
    names = [name for name in files if re.search(r"/[0-9a-f]{24}\.parquet$", name)]
    return {name: set(pq.read_table(pa.BufferReader(files[name]))["image_key"].to_pylist()) for name in names}


def test_patients_leave_every_file_of_a_study(study):
    rows = manifest(study)
    where, gone = patients(rows, 4)
    before = hashed(contents(study))
    said = lines(study, where=where)
    files = len(contents(study))
    assert said[0] == f"removed {len(gone)} images of 4 patients: {files} files looked through, none holds them"
    assert holders(study, gone) == {}
    assert not study.exists(JOURNAL)
    assert manifest(study) == [row for row in rows if row not in gone]
    after = contents(study)
    assert {name.partition("/")[0] for name in after} - {"index"} == {"manifest", "remarks", "image_facts", "packed", "packed_failures", "embeddings", "failures"}  # fmt: skip
    held = pa.concat_tables(
        pq.read_table(pa.BufferReader(after[n])) for n in after if n.startswith("remarks") and n.endswith("parquet")
    )
    assert len(held) == len(rows) - len(gone) + 1
    keys = {row["image_key"] for row in gone}
    assert all(
        keys.isdisjoint(held) for name, held in before.items() if name in hashed(after)
    )  # a hash of their keys is gone, too
    assert any(not keys.isdisjoint(held) for held in before.values())
    assert conserved(study)
    kept = study.dataset("manifest").to_table()
    run = study.require("manifest")
    assert (run["rows"], run["removed"], run["inputs"]["content"]) == (len(kept), len(gone), content_hash(kept))
    embedded = study.require("embeddings", E)
    assert embedded["rows"] + embedded["failed"] == len(kept)
    assert study.require("packed")["rows"] + study.require("packed")["failed"] == len(kept)
    assert study.require("image_facts")["rows"] == len(kept)


def test_the_commands_that_are_named_make_everything_again_and_nothing_is_embedded_again(local, capsys):
    rows = manifest(local)
    where, gone = patients(rows, 3)
    said = lines(local, where=where)
    commands = [line.strip() for line in said if line.startswith("  cbmir ")]
    made = [command.split()[1] for command in commands if command.split()[1] != "index"]
    assert made == ["manifest", "search", "search", "evaluate", "report"]
    started = {
        name: data for name, data in contents(local).items() if name.startswith(("embeddings", "packed", "image_facts"))
    }
    capsys.readouterr()
    assert main(["embed", "--study", local.address, "--encoder", "pixels32", "--max-failures", "1"]) == 0
    assert main(["pack", "--study", local.address, "--short-side", "64", "--max-failures", "1"]) == 0
    for command in commands:
        assert main([*shlex.split(command)[1:], "--debug"]) == 0
    output = capsys.readouterr().out
    assert "0 of them looked at now" in output
    assert {
        n: d for n, d in contents(local).items() if n.startswith(("embeddings", "packed", "image_facts"))
    } == started
    searched = local.require("neighbors", "pixels32", "short")["parameters"]
    assert (searched["queries"], searched["index"], searched["k"]) == ("split = 'test' AND modality = 'XR'", "hnsw", 5)
    assert local.require("neighbors", "pixels32", "exact")["parameters"]["exclude_same"] == ["patient_id"]
    assert holders(local, gone) == {}
    assert not any("act " in finding[:4] for finding in examine(local) if "pixels32" in finding)


def test_results_are_those_of_a_study_that_never_had_the_images(local, full, tmp_path):
    rows = manifest(local)
    where, gone = patients(rows, 5)
    remove(local, RemoveOptions(where=where), say=lambda line: None)
    images = tmp_path / "images"
    shutil.copytree(full / "images", images)
    table = (images / "phantoms.csv").read_text().splitlines()
    names = [Path(row["uri"]).name for row in gone]
    (images / "phantoms.csv").write_text(
        "\n".join(line for line in table if not any(name in line for name in names)) + "\n"
    )
    other = Study(str(tmp_path / "other"))
    write_manifest(other, "phantoms", [str(images)], Options())
    flags = ["--encoder", "pixels32", "--max-failures", "1"]
    assert main(["embed", "--study", other.address, *flags]) == 0
    found = []
    for each in (local, other):
        assert main(["search", "--study", each.address, "--encoder", "pixels32", "--index", "exact", "-k", "7"]) == 0
        found.append(
            duckdb.sql(
                f"SELECT * FROM '{each.path('neighbors', 'pixels32', 'exact')}/*.parquet' ORDER BY ALL"
            ).fetchall()
        )
    assert found[0] == found[1]
    assert len(found[0]) > 50


def test_ids_of_a_file_and_those_that_are_unknown(local, tmp_path):
    rows = manifest(local)
    gone = rows[3:9]
    file = tmp_path / "ids.txt"
    file.write_text("\n".join([row["image_id"] for row in gone] + ["phantoms/never"]) + "\n\n")
    said = lines(local, ids=str(file))
    people = len({row["patient_id"] for row in gone})
    assert said[0].startswith(f"removed 6 images of {people} patients and, by id, 1 that the manifest does not have: ")
    assert holders(local, gone) == {}
    again = lines(local, ids=str(file))  # a list that grows is given again
    assert again[0].startswith("removed 0 images and, by id, 7 that the manifest does not have: ")
    assert local.require("manifest")["removed"] == 6


def test_check_finds_what_is_there_and_says_where(study, tmp_path, capsys):
    gone = manifest(study)[:2]
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(row["image_id"] for row in gone))
    command = ["remove", "--study", study.address, "--ids", str(file)]
    before = contents(study)
    assert main([*command, "--check"]) == 1
    assert "found in embeddings/encoder=pixels32/" in capsys.readouterr().err
    assert contents(study) == before
    assert main([*command, "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert contents(study) == before
    assert "would remove 2 images" in output
    assert "embeddings of pixels32: 2 rows" in output
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == f"2 ids: {len(contents(study))} files looked through, none holds them"
    )


@pytest.mark.parametrize(
    "place, plant",
    [
        (
            "neighbors/pixels32/exact/run.json",
            lambda row: json.dumps({"gallery": f"image_id <> '{row['image_id']}'"}).encode(),
        ),
        ("probes/pixels32/part.parquet", lambda row: table_of(key=pa.array([5, row["image_key"]]))),
        ("probes/pixels32/part.parquet", lambda row: table_of(detail=pa.array(["", f"see {row['uri']}."]))),
        ("notes.txt", lambda row: f"withdrawn: {row['image_id']}, on Monday".encode()),
        ("probes/keys.json", lambda row: json.dumps({"keys": [1, [row["image_key"]]]}).encode()),
        ("page.html", lambda row: f"<td>{row['image_id'].replace('/', '&#x2F;')}</td>".encode()),
    ],
)
def test_what_no_stage_of_cbmir_wrote_is_found_and_named(local, place, plant, capsys):
    """The removal stays unfinished until a person has dealt with the file."""
    row = manifest(local)[0]
    if not place.startswith("neighbors"):
        local.write_bytes(plant(row), *place.split("/"))
    else:
        local.write_bytes(plant(row), "kept", "run.json")
        place = "kept/run.json"
    where = f"image_id = '{row['image_id']}'"
    assert main(["remove", "--study", local.address, "--where", where]) == 1
    assert f"found in {place}: " in capsys.readouterr().err
    assert local.exists(JOURNAL)
    local.delete(*place.split("/"))
    assert main(["remove", "--study", local.address, "--where", where]) == 0
    assert not local.exists(JOURNAL)
    assert holders(local, [row]) == {}


def table_of(**columns) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def test_files_that_cannot_be_read_are_named(local):
    local.write_bytes(b"\xff\xfe\x00\x01", "strange.bin")
    row = manifest(local)[0]
    said = lines(local, where=f"image_key = {row['image_key']}")
    assert "note: 1 files are none of cbmir's and were not looked through, first strange.bin" in said
    assert f": {len(contents(local)) - 1} files looked through" in said[0]


STEPS = (
    "_stop_writers", "_delete_debris", "remove_remarks", "remove_rows", "settle_manifest", "delete_outdated", "settle_rest",
    "_remove_from_index", "look_through",
)  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_between_any_two_steps_is_mended_by_the_same_command(local, step, when, monkeypatch):
    """Also where a step has been taken for the second dataset and not for the first: it is ended at its second call where it has one."""
    rows = manifest(local)
    where, gone = patients(rows, 3)
    real, calls = getattr(removal, step), []

    def broken(*arguments):
        calls.append(arguments)
        last = len(calls) == 2 or step not in ("remove_rows", "_remove_from_index")
        result = None if last and when == "before" else real(*arguments)
        if last:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(removal, step, broken)
        if step == "_remove_from_index":
            copy_index(local)
        with pytest.raises(KeyboardInterrupt):
            remove(local, RemoveOptions(where=where), say=lambda line: None)
    refused_everywhere(local)
    other = RemoveOptions(where="modality = 'CT'")
    with pytest.raises(
        UserError, match=r"another removal, of \d+ images of 3 patients, is unfinished; finish it first"
    ):
        remove(local, other)
    assert main(["remove", "--study", local.address, *(["--where", where] if when == "before" else [])]) == 0
    assert holders(local, gone) == {}
    assert manifest(local) == [row for row in rows if row not in gone]
    assert conserved(local)
    assert main(["embed", "--study", local.address, "--encoder", "pixels32", "--max-failures", "1"]) == 0
    assert local.require("manifest")["removed"] == len(gone)


def copy_index(study: Study) -> None:
    shutil.copytree(study.path("index", "pixels32", "hnsw"), study.path("index", "pixels32", "second"))


def refused_everywhere(study: Study) -> None:
    """Every command that reads or writes a study, in one line that says what to do."""
    for command in (
        ["embed", "--encoder", "pixels32"],
        ["manifest", "phantoms", str(Path(study.root).parent)],
        ["manifest", "check"],
        ["pack"],
        ["index", "--encoder", "pixels32", "--index", "hnsw"],
        ["search", "--encoder", "pixels32", "--index", "exact"],
        ["evaluate"],
        ["sql", "SELECT 1"],
    ):
        with pytest.raises(ContractError, match=rf"unfinished; finish it with: cbmir remove --study {study.address}$"):
            run_raising([*command, "--study", study.address])
    assert any("finish it with: cbmir remove" in finding for finding in examine(study))


def run_raising(argv: list[str]) -> None:
    from cbmir.cli import _COMMANDS
    from cbmir.flags import parse

    arguments = parse(argv)
    _COMMANDS[arguments.command](arguments)


@pytest.mark.slow
def test_sigkill_of_the_process_while_it_rewrites(local):
    """A real process that dies without unwinding, after its first file was rewritten; the next goes on without a selection."""
    rows = manifest(local)
    where, gone = patients(rows, 3)
    code = f"""
import os, signal
import cbmir.removing.rewrite as rewrite
real = rewrite.rewrite
def dies(*a, **k):
    real(*a, **k)
    os.kill(os.getpid(), signal.SIGKILL)
rewrite.rewrite = dies
from cbmir.cli import main
main(["remove", "--study", {local.address!r}, "--where", {where!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -9, done.stderr
    assert local.exists(JOURNAL)
    assert lines(local)[0].startswith(f"an unfinished removal of {len(gone)} images of 3 patients goes on")
    assert holders(local, gone) == {}
    assert conserved(local)


def test_a_late_task_of_a_killed_run_writes_nothing(local):
    from cbmir.embedding.addresses import refuse_if_superseded

    attempt = local.read_json("embeddings", E, "started.json")["attempt"]
    refuse_if_superseded(local, ("embeddings", E), attempt, "them")
    lines(local, where="modality = 'CT'")
    with pytest.raises(UserError, match="another run has taken over"):
        refuse_if_superseded(local, ("embeddings", E), attempt, "them")


def test_debris_of_killed_runs_goes(local):
    row = manifest(local)[0]
    local.write_bytes(row["uri"].encode(), ".staging", "todo-1", "part-00000.parquet")
    local.write_bytes(row["uri"].encode(), "embeddings", E, "a.parquet.tmp-0123")
    lines(local, where=f"image_key = {row['image_key']}")
    assert not local.exists(".staging")
    assert not [name for name in contents(local) if ".tmp-" in name]


def test_only_files_that_hold_a_removed_row_are_written(tmp_path):
    study = hand_made(tmp_path, files=4)
    before = contents(study)
    touched = [f"hand/{i}" for i in (1, 3)]  # of the first file of four
    where = " OR ".join(f"image_id = '{name}'" for name in touched)
    remove(study, RemoveOptions(where=where), say=lambda line: None)
    after = contents(study)
    vectors = [name for name in before if name.startswith("embeddings") and name.endswith(".parquet")]
    assert [name for name in vectors if after[name] != before[name]] == [f"embeddings/{E}/0000.parquet"]


def hand_made(root: Path, n: int = 40, *, files: int = 1) -> Study:
    rng = np.random.default_rng(0)
    rows = [
        {"image_id": f"hand/{i}", "split": "test" if i % 4 == 3 else "train", "patient_id": f"p{i // 4}"}
        for i in range(n)
    ]
    return make_study(root / "study", rows, {r["image_id"]: rng.standard_normal(8) for r in rows[:-2]}, files=files)


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32()])
def test_a_rewritten_file_keeps_its_layout_and_every_other_value(tmp_path, dtype):
    study = Study(str(tmp_path / "s"))
    rng = np.random.default_rng(1)
    keys = pa.array(rng.integers(1, 2**62, 500), pa.int64())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(2_000).astype(dtype.to_pandas_dtype())), 4)
    table = pa.table(
        {"image_key": keys, "embedding": vectors, "image": pa.array([bytes(rng.bytes(9)) for _ in range(500)])}
    )
    name = block_name(table["image_key"])
    study.write_table(table, "x", name, compression="none", use_dictionary=False, row_group_size=64)
    study.write_table(table.slice(0, 10), "x", "other.parquet")
    gone = pa.array([keys[i].as_py() for i in (0, 63, 64, 130, 131, 499)], pa.int64())
    assert remove_rows(study, ("x",), gone) == 6 + 1
    kept = table.filter(pa.array([key not in set(gone.to_pylist()) for key in keys.to_pylist()]))
    path = study.path("x", block_name(kept["image_key"]))
    assert pq.read_table(path).equals(kept)
    found = pq.ParquetFile(path).metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [62, 63, 62, 64, 64, 64, 64, 51]
    assert found.row_group(0).column(0).compression == "UNCOMPRESSED"
    assert not found.row_group(0).column(0).has_dictionary_page
    assert pq.ParquetFile(study.path("x", "other.parquet")).metadata.row_group(0).column(0).compression == "ZSTD"
    assert len(study.files("x")) == 2


def test_a_row_group_or_a_file_that_holds_nothing_else_vanishes(tmp_path):
    study = Study(str(tmp_path / "s"))
    table = pa.table({"image_key": pa.array(range(1, 11), pa.int64())})
    study.write_table(table, "x", "a.parquet", row_group_size=5)
    study.write_table(table.slice(0, 3), "x", "b.parquet")
    remove_rows(study, ("x",), pa.array([1, 2, 3, 4, 5], pa.int64()))
    assert [pq.ParquetFile(path).metadata.num_row_groups for path in study.files("x")] == [1]
    assert study.dataset("x").to_table()["image_key"].to_pylist() == [6, 7, 8, 9, 10]


def test_an_index_that_was_current_stays_so_and_an_outdated_one_stays_outdated(tmp_path):
    study = hand_made(tmp_path)
    was = fingerprints(study)
    inputs = {"manifest": was["manifest"], "embeddings": was[f"embeddings/{E}"]}
    for name, own in (("current", inputs), ("old", inputs | {"manifest": "0" * 16})):
        study.write_json(run_record("index", parameters={}, inputs=own, rows=1), "index", "pixels32", name, "run.json")
    remove(study, RemoveOptions(where="patient_id = 'p1'"), say=lambda line: None)
    for name, own in (("current", inputs), ("old", inputs | {"manifest": "0" * 16})):
        study.write_json(run_record("index", parameters={}, inputs=own, rows=1), "index", "pixels32", name, "run.json")
        settle_index(study, ("index", "pixels32", name), was)
    now = fingerprints(study)
    assert now["manifest"] != was["manifest"]
    expected = {"manifest": now["manifest"], "embeddings": now[f"embeddings/{E}"]}
    current = study.run_of("index", "pixels32", "current")
    assert current == run_record("index", parameters={}, inputs=expected, rows=1) | {"finished": current["finished"]}
    assert study.run_of("index", "pixels32", "old")["inputs"]["manifest"] == "0" * 16


def test_an_encoder_that_had_not_finished_goes_on_afterwards(local):
    rows = manifest(local)
    local.delete("embeddings", E, "run.json")
    path = local.files("embeddings", E)[0]
    lost = pq.read_table(path)["image_key"].to_pylist()
    local.fs.delete_file(path)
    where, gone = patients(rows, 3)
    lines(local, where=where)
    assert local.run_of("embeddings", E) is None
    assert main(["embed", "--study", local.address, "--encoder", "pixels32", "--max-failures", "1"]) == 0
    assert conserved(local)
    assert holders(local, gone) == {}
    assert len(lost) > 1


def test_a_kill_between_the_new_file_and_the_old_one_leaves_no_row_twice(local, monkeypatch):
    rows = manifest(local)
    where, gone = patients(rows, 3)
    real = Study.delete

    def dies(study, *parts):
        if parts[0] == "embeddings" and parts[-1].endswith(".parquet"):
            raise KeyboardInterrupt
        real(study, *parts)

    files = len(local.files("embeddings", E))
    with monkeypatch.context() as patch:
        patch.setattr(Study, "delete", dies)
        with pytest.raises(KeyboardInterrupt):
            remove(local, RemoveOptions(where=where), say=lambda line: None)
    assert len(local.files("embeddings", E)) == files + 1
    lines(local)
    assert conserved(local)
    assert holders(local, gone) == {}


def test_imported_vectors_and_their_account(tmp_path):
    """They have no attempt, and a run.json of failures; the same import has nothing to do afterwards."""
    from cbmir.importing import ImportOptions, import_embeddings

    study = hand_made(tmp_path)
    rows = manifest(study)
    ids = [row["image_id"] for row in rows[:36]] + ["hand/stranger"]
    published = tmp_path / "vectors.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(len(ids) * 4, np.float32)), 4)
    pq.write_table(pa.table({"image_id": ids, "vector": vectors}), published)
    said: list[str] = []
    options = ImportOptions(max_failures=1.0)
    import_embeddings(study, "theirs", [str(published)], options, say=said.append)
    gone = [row for row in rows if row["patient_id"] in ("p0", "p9")]  # the second has images without a vector
    remove(study, RemoveOptions(where="patient_id IN ('p0', 'p9')"), say=lambda line: None)
    assert holders(study, gone) == {}
    run = study.require("embeddings", "encoder=theirs")
    lost = study.require("failures", "encoder=theirs")["rows"]
    assert (run["rows"], run["failed"], lost) == (
        len(rows) - len(gone) - lost,
        lost,
        sum(row in rows[36:] and row not in gone for row in rows),
    )
    assert import_embeddings(study, "theirs", [str(published)], options, say=said.append) == (run, False)
    assert study.dataset("remarks", "import%20of%20theirs").to_table()["detail"].to_pylist() == ["hand/stranger"]


def test_columns_of_the_source_that_refer_to_a_removed_image_become_null(tmp_path):
    rows = [{"image_id": f"hand/{i}", "prior_image": f"hand/{i - 1}" if i else None, "age": str(i)} for i in range(6)]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.arange(4) + 1 for row in rows})
    remove(study, RemoveOptions(where="image_id = 'hand/2'"), say=lambda line: None)
    left = {row["image_id"]: (row["prior_image"], row["age"]) for row in manifest(study)}
    assert left == {
        "hand/0": (None, "0"),
        "hand/1": ("hand/0", "1"),
        "hand/3": (None, "3"),
        "hand/4": ("hand/3", "4"),
        "hand/5": ("hand/4", "5"),
    }
    assert study.require("manifest")["inputs"]["content"] == content_hash(study.dataset("manifest").to_table())


def test_searches_of_before_are_outdated(tmp_path):
    """One that was kept aside during the removal is refused by whoever would use it."""
    from cbmir.search import SearchOptions, search

    study = hand_made(tmp_path)
    run, _ = search(study, "pixels32", "exact", SearchOptions(k=3))
    assert not outdated(study, "pixels32", run)
    remove(study, RemoveOptions(where="patient_id = 'p1'"), say=lambda line: None)
    assert outdated(study, "pixels32", run)
    assert not study.exists("neighbors", "pixels32", "exact")


def test_orphans_are_told_of_and_removed_and_nothing_else_becomes_outdated(study, capsys):
    rows = manifest(study)
    kept = [row for row in rows if row not in rows[:10]]
    shrink(study, kept)
    flags = ["--study", study.address]
    embed = ["embed", *flags, "--encoder", "pixels32", "--max-failures", "1"]
    assert main(embed) == 0
    told = "10 more images that the manifest no longer has, kept in case they come back; remove them with: cbmir remove"
    assert f"pixels32: {told} --study {study.address} --orphans" in capsys.readouterr().out
    assert any(told in finding for finding in examine(study))
    assert main(["pack", *flags, "--short-side", "64", "--max-failures", "1"]) == 0
    assert f"pack: {told}" in capsys.readouterr().out
    assert main(["search", *flags, "--encoder", "pixels32", "--index", "exact", "--overwrite"]) == 0
    run = study.require("neighbors", "pixels32", "exact")
    said = lines(study, orphans=True)
    assert said[0].startswith("removed 10 orphans: ")
    assert holders(study, rows[:10]) == {}
    assert not outdated(study, "pixels32", run)
    assert study.require("neighbors", "pixels32", "exact") == run
    assert not study.exists("report", "report.html")  # of the manifest before: its pictures may be theirs
    assert main(embed) == 0
    assert "no longer has" not in capsys.readouterr().out.splitlines()[-1]
    assert conserved(study)
    assert lines(study, orphans=True) == ["there are no orphans: every dataset has images of the manifest alone"]


def test_drawings_and_tables_go_with_the_images_that_they_were_made_of(local):
    row = manifest(local)[0]
    drawn = {name.rpartition(".")[2] for name in contents(local) if name.startswith("figures/")}
    assert drawn == {"svg", "png", "csv", "json"}
    inputs = {"metrics": local.require("metrics")["fingerprint"]}
    local.write_json(run_record("paper", parameters={}, inputs=inputs, rows=1), "paper", "run.json")
    local.write_bytes(b"99.1", "paper", "leaderboard.tex")
    said = lines(local, where=f"image_key = {row['image_key']}")
    assert [name for name in contents(local) if name.startswith(("figures", "paper", "report", "metrics"))] == []
    again = [line.strip() for line in said if line.startswith("  cbmir report")]
    assert again == [
        f"cbmir report --study {local.address} --examples 60 --seed 0",
        f"cbmir report --study {local.address} --paper",
    ]


def test_what_was_made_before_orphans_went_stays_current_also_where_the_embeddings_are_counted_anew(tmp_path):
    """An encoder that was not run again after the manifest became smaller is another one by its fingerprint when its orphans are gone."""
    from cbmir.evaluate import evaluate
    from cbmir.evaluating.options import EvaluateOptions
    from cbmir.search import SearchOptions, search

    study = hand_made(tmp_path)
    run = study.require("embeddings", E)
    inputs = run["inputs"] | {"embedded": embedded_digest(study, "pixels32")}
    study.write_json(run | {"inputs": inputs}, "embeddings", E, "run.json")
    rows = manifest(study)
    shrink(study, rows[4:])
    search(study, "pixels32", "exact", SearchOptions(k=3))
    evaluate(study, EvaluateOptions(allow_overlap=True), say=lambda *_: None)
    before = study.require("embeddings", E)["fingerprint"]
    effort = run_record(
        "search_effort", parameters={}, inputs={"pixels32": f"{before} {fingerprints(study)['manifest']}"}, rows=0
    )
    study.write_json(effort, "search_effort", "run.json")
    made = (
        ("neighbors", "pixels32", "exact"),
        ("query_metrics", "pixels32", "exact"),
        ("metrics",),
        ("comparisons",),
        ("search_effort",),
    )
    assert lines(study, orphans=True)[0].startswith("removed 4 orphans: ")
    assert study.require("embeddings", E)["fingerprint"] != before
    assert [is_fresh(study, *parts) for parts in made] == [True] * 5
    assert search(study, "pixels32", "exact", SearchOptions(k=3))[1] is False


def shrink(study: Study, kept: list[dict]) -> None:
    """The manifest of `kept` alone, as `cbmir manifest --overwrite` leaves it."""
    whole = study.dataset("manifest").to_table()
    table = whole.filter(pa.compute.is_in(whole["image_key"], pa.array([row["image_key"] for row in kept])))
    run = study.require("manifest")
    with study.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run_record(
            "manifest",
            parameters=run["parameters"],
            inputs={"content": content_hash(table)},
            rows=len(table),
            remarks=[],
        )
    remark_all(study)


def test_the_manifest_command_says_what_would_come_back(local, full, capsys):
    rows = manifest(local)
    where, gone = patients(rows, 2)
    said = lines(local, where=where)
    assert f"note: the files of {len(gone)} of these images are still at the source, first " in "\n".join(said)
    command = ["manifest", "phantoms", str(full / "images"), "--study", local.address]
    assert main(command) == 2
    assert (
        f"; {len(gone)} images were removed from it and come back where the source still has them"
        in capsys.readouterr().err
    )
    assert manifest(local) == [row for row in rows if row not in gone]


def test_a_source_without_the_images_gives_the_same_manifest(local, full, tmp_path, capsys):
    rows = manifest(local)
    where, gone = patients(rows, 2)
    lines(local, where=where)
    moved = full / "images" / "phantoms.csv"
    whole = moved.read_text()
    names = [Path(row["uri"]).name for row in gone]
    moved.write_text("\n".join(line for line in whole.splitlines() if not any(name in line for name in names)) + "\n")
    try:
        assert main(["manifest", "phantoms", str(full / "images"), "--study", local.address]) == 0
    finally:
        moved.write_text(whole)
    assert "(unchanged)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "no image is selected, and no removal is unfinished; expected --where SQL, --ids FILE or --orphans"),
        ({"where": "a = 1", "orphans": True}, "--where and --orphans together; expected one of them"),
        ({"where": "patient_id = 'nobody'"}, "selects none of the manifest's images; nothing was removed"),
        ({"where": "patient = 'p1'"}, "--where \"patient = 'p1'\": no column 'patient' in the manifest; nearest: 'patient_id'"),
        ({"where": "true"}, "this selects all 40 images of the study; expected a part of them; delete the directory"),
        ({"check": True}, "expected --check --ids FILE"),
        ({"ids": "/nowhere/ids.txt"}, "No such file or directory; expected a text file with one image_id a line"),
    ],
)  # fmt: skip
def test_misuse_is_one_line_and_removes_nothing(tmp_path, options, message):
    study = hand_made(tmp_path)
    before = contents(study)
    with pytest.raises(UserError) as caught:
        remove(study, RemoveOptions(**options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(study) == before


def test_no_study_is_one_line(tmp_path, capsys):
    assert main(["remove", "--study", str(tmp_path / "none"), "--where", "true"]) == 2
    assert "no study at" in capsys.readouterr().err


def test_slices_of_one_volume_keep_its_remarks_until_the_last_is_gone(tmp_path):
    rows = [{"image_id": f"v/{v}#{i}", "uri": f"/data/{v}.nii.gz#axis=2&slice={i}"} for v in "ab" for i in range(3)]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.arange(4) + 1 for row in rows})
    remarks = Remarks()
    remarks.add("odd_value", "tilted", file="/data/a.nii.gz")
    remarks.add("odd_value", "v/a#1: dark")
    remarks.add("odd_value", "v/a#11: another study's")
    with study.publishing("remarks", "manifest") as out:
        out.write_table(remarks.table(), "remarks.parquet", "remarks")
        out.run = run_record("remarks", parameters={}, inputs={}, rows=3)
    remove(study, RemoveOptions(where="image_id = 'v/a#1'"), say=lambda line: None)
    left = study.dataset("remarks", "manifest").to_table()["detail"].to_pylist()
    assert left == ["tilted", "v/a#11: another study's"]
    remove(study, RemoveOptions(where="image_id LIKE 'v/a#%'"), say=lambda line: None)
    assert study.dataset("remarks", "manifest").to_table()["detail"].to_pylist() == ["v/a#11: another study's"]
    assert study.require("remarks", "manifest")["rows"] == 1
    assert study.require("manifest")["remarks"] == [
        {"remark": "odd_value", "count": 1, "first": "v/a#11: another study's"}
    ]


@pytest.mark.parametrize(
    "text, found",
    [
        ("d/a: too dark", "d/a"),
        ("see d/a.", "d/a"),
        ("(d/a)", "d/a"),
        ("'d/a', 'd/c'", "d/a"),
        ("d/a", "d/a"),
        ("d/a.png: fine", None),
        ("d/a#2", None),
        ("d/ab", None),
        ("x/d/a", None),
        ("/data/with space/b 1.png: broken", "/data/with space/b 1.png"),
        ("/data/with space/b 1.png.bak", None),
        ("---: odd", "---"),
        ("", None),
    ],
)
def test_names_are_found_as_whole_names(text, found):
    assert Names(["d/a", "/data/with space/b 1.png", "---"]).first_in(text) == found


def test_names_are_found_as_fast_among_many():
    """A hundred thousand names in ten thousand texts: not a search for each name in each text."""
    import time

    names = Names(f"set/patient{i // 30}/study{i}/view.png" for i in range(100_000))
    texts = [f"set/patient{i}/study{i * 30}/view.png: odd" if i % 2 else f"row {i}: nothing" for i in range(3_000)]
    began = time.monotonic()
    assert sum(names.first_in(text) is not None for text in texts) == 1_500
    assert time.monotonic() - began < 5


def test_the_default_depths_are_those_of_evaluate():
    assert tuple(ASSUMED) == KS


def test_every_dataset_of_a_study_has_its_place_in_a_removal():
    assert set(KNOWN) == set(MADE_BY)
    assert set(KNOWN) >= set(CONTRACTS)


def test_the_proof_is_not_fooled(local):
    """A removal that leaves one row behind is caught: the proof reads files, it does not trust the steps."""
    row = manifest(local)[0]
    (path,) = [p for p in local.files("embeddings", E) if row["image_key"] in pq.read_table(p)["image_key"].to_pylist()]
    kept = pq.read_table(path)
    real = removal.settle_rest

    def puts_back(study, was):
        real(study, was)
        study.write_table(kept, "embeddings", E, "late.parquet")

    removal.settle_rest = puts_back
    try:
        with pytest.raises(
            StillThere, match=rf"found in embeddings/{E}/late.parquet: image_key of 1 rows; expected nothing"
        ):
            remove(local, RemoveOptions(where=f"image_key = {row['image_key']}"))
    finally:
        removal.settle_rest = real
    assert local.exists(JOURNAL)
    remove(local, RemoveOptions(), say=lambda line: None)
    assert holders(local, [row]) == {}
