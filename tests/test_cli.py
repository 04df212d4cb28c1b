"""The commands as people type them: the whole way on drawn images, and each kind of misuse in one line with its exit code."""

import csv
import json
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from cbmir.cli import main
from cbmir.flags import COMMANDS, parse, weights_flag
from tests.processes import cbmir, outcome
from tests.studies import make_study


@pytest.fixture(scope="module")
def study(phantoms, ray_session, tmp_path_factory) -> Path:
    """A study that went the whole way with two encoders."""
    root = tmp_path_factory.mktemp("cli") / "study"
    flags = ["--study", str(root), "--encoder", "pixels32", "--encoder", "tiny=timm:test_resnet~random0"]
    assert main(["run", "phantoms", str(phantoms), *flags]) == 0
    return root


def run(*arguments: str) -> int:
    """main, with argparse's own exits as codes."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def read_csv(path: Path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_run_leaves_every_dataset_and_a_report(study):
    assert outcome(study, "pixels32") == (200, 199, 1, 200)
    for index in ("exact", "hnsw"):
        assert (study / "neighbors" / "tiny~random0" / index / "run.json").exists()
    assert "tiny" in (study / "report" / "report.html").read_text()
    assert json.loads((study / "embeddings" / "encoder=tiny~random0" / "run.json").read_text())["random_weights"] == 0


def test_run_again_skips_what_is_done_and_says_so(study, capsys):
    before = {p: p.stat().st_mtime_ns for p in study.glob("[einm]*/**/*.parquet") if "metrics" not in str(p)}
    assert run("run", "--study", study, "--encoder", "pixels32", "--encoder", "tiny=timm:test_resnet~random0") == 0
    said = capsys.readouterr().out
    assert "already built" in said
    assert said.count("already searched") == 4
    assert "random weights: an untrained encoder" in said
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_the_jobs_take_the_same_flags(study):
    import subprocess
    import sys

    job = Path(__file__).resolve().parents[1] / "jobs" / "evaluate.py"
    done = subprocess.run(
        [sys.executable, job, "--study", study, "--k", "1,5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 searches" in done.stdout
    assert run("evaluate", "--study", study) == 0


def test_pandas_and_duckdb_read_the_study_without_cbmir(study):
    metrics = pd.read_parquet(study / "metrics" / "metrics.parquet")
    best = metrics.query(
        "metric == 'precision_at_k' and relevance == 'region' and k == 1 and slice_by == 'all' and average == 'micro'"
    )
    assert set(best["encoder"]) == {"pixels32", "tiny~random0"}
    assert (best["value"] > best["chance"]).all()
    vectors = duckdb.sql(
        f"SELECT encoder, len(embedding) AS dim, count(*) FROM '{study}/embeddings/*/*.parquet' GROUP BY ALL ORDER BY 1"
    ).fetchall()
    assert vectors == [("pixels32", 1024, 199), ("tiny~random0", vectors[1][1], 199)]


@pytest.mark.parametrize(
    "view", ["manifest", "embeddings", "failures", "neighbors", "query_metrics", "metrics", "runs"]
)
def test_sql_has_every_dataset_as_a_view(study, view, tmp_path):
    out = tmp_path / "out.csv"
    assert run("sql", "--study", study, f"SELECT count(*) AS n FROM {view}", "--csv", out) == 0
    (row,) = read_csv(out)
    assert int(row["n"]) > 0


def test_sql_prints_saves_and_reads_statements_from_a_pipe(study, tmp_path, capsys):
    assert (
        run(
            "sql",
            "--study",
            study,
            "SELECT encoder, dim FROM (SELECT encoder, max(len(embedding)) AS dim FROM embeddings GROUP BY 1)",
        )
        == 0
    )
    assert "1024" in capsys.readouterr().out
    assert run("sql", "--study", study, "SELECT * FROM metrics", "--parquet", tmp_path / "m.parquet") == 0
    assert len(pd.read_parquet(tmp_path / "m.parquet")) == len(pd.read_parquet(study / "metrics" / "metrics.parquet"))
    piped = cbmir("sql", "--study", str(study), input="SELECT 40 + 2 AS answer; SELECT 7 AS seven;")
    assert piped.returncode == 0, piped.stderr
    assert "42" in piped.stdout
    assert "seven" in piped.stdout


def test_query_finds_the_image_itself_when_it_is_in_the_gallery(study, tmp_path, capsys):
    image_id, uri = duckdb.sql(
        f"SELECT image_id, uri FROM '{study}/manifest/*.parquet' JOIN '{study}/embeddings/encoder=tiny~random0/*.parquet' USING (image_key) "
        "WHERE split = 'train' ORDER BY 1 LIMIT 1"
    ).fetchall()[0]
    for index in ("exact", "hnsw"):
        files = ("--csv", tmp_path / "knn.csv", "--table", tmp_path / "t.csv", "--html", tmp_path / "q.html")
        assert run("query", "--study", study, "--encoder", "tiny", "--index", index, uri, "-k", "3", *files) == 0
        rows = read_csv(tmp_path / "t.csv")
        assert [row["rank"] for row in rows] == ["1", "2", "3"]
        assert rows[0]["image_id"] == image_id
        assert float(rows[0]["distance"]) < 1e-2
        assert rows[0]["uri"] == uri
        (row,) = read_csv(tmp_path / "knn.csv")
        assert row == {"query": uri, **{r["rank"]: r["image_id"] for r in rows}}
    assert image_id in capsys.readouterr().out
    page = (tmp_path / "q.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_doctor_says_what_is_unfinished_and_what_to_do(study, phantom_study, capsys):
    assert run("doctor", "--study", study) == 0
    said = capsys.readouterr().out
    assert "ok    metrics:" in said
    assert not [line for line in said.splitlines() if line.startswith("act ")]
    phantom_study.write_json({"attempt": "x"}, "embeddings", "encoder=pixels32", "started.json")
    assert run("doctor", "--study", phantom_study.root) == 0
    said = capsys.readouterr().out
    assert "act   pixels32: 0 embedded, 0 failed, 200 still to do; go on with: cbmir embed" in said
    assert "act   no metrics yet" in said


def test_encoders_lists_and_shows_one(capsys):
    assert run("encoders") == 0
    assert "timm:<model>" in capsys.readouterr().out
    assert run("encoders", "timm:mobilenetv2_100") == 0
    said = capsys.readouterr().out
    assert "short side to 256, centre of 224, bicubic" in said
    assert "apache-2.0" in said


MISUSE = [
    (["search", "--study", "{missing}", "--encoder", "pixels32", "--index", "exact"], "no study at"),
    (["embed", "--study", "{missing}", "--encoder", "pixels32"], "no study at"),
    (["evaluate", "--study", "{missing}"], "no study at"),
    (["report", "--study", "{missing}"], "no study at"),
    (["sql", "--study", "{missing}", "SELECT 1"], "no study at"),
    (["query", "--study", "{missing}", "--encoder", "pixels32", "--index", "exact", "x.png"], "no study at"),
    (["embed", "--study", "{study}", "--encoder", "pixel32"], "unknown encoder 'pixel32'; nearest: 'pixels32'"),
    (["embed", "--study", "{study}", "--encoder", "timm:resnet5"], "timm has no model 'resnet5'; nearest: 'resnet50'"),
    (
        ["embed", "--study", "{study}", "--encoder", "open_clip:ViT-B-32/open"],
        "open_clip has no weights 'open' of ViT-B-32",
    ),
    (["embed", "--study", "{study}", "--encoder", "pixels32", "--max-failures", "many"], "'many' is not a share"),
    (["embed", "--study", "{study}"], "the following arguments are required: --encoder"),
    (
        ["search", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "-k", "100000"],
        "expected 1 to 10,000",
    ),
    (
        ["search", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "-k", "9999"],
        "is larger than the gallery",
    ),
    (
        ["search", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "--gallery", "splt = 1"],
        "nearest: 'split'",
    ),
    (
        ["search", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "--gallery", "split = 'none'"],
        "the gallery is empty",
    ),
    (
        ["search", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "--exclude-same", "patent_id"],
        "nearest: 'patient_id'",
    ),
    (["search", "--study", "{study}", "--encoder", "pixels32", "--index", "hsnw"], "no index 'hsnw' of pixels32"),
    (["index", "--study", "{study}", "--encoder", "pixels32", "--index", "exact"], "not a name for an index"),
    (
        ["index", "--study", "{study}", "--encoder", "pixels32", "--index", "x", "--dtype", "f64"],
        "--dtype f64; expected one of",
    ),
    (["evaluate", "--study", "{study}", "--k", "1,x"], "'1,x' is not a list of numbers"),
    (["evaluate", "--study", "{study}", "--k", "1000"], "were searched with -k"),
    (["sql", "--study", "{study}", "SELECT nothing FROM metrics"], 'Referenced column "nothing" not found'),
    (["sql", "--study", "{study}", "SELECT * FROM metrix"], "views: manifest, remarks, embeddings"),
    (["sql", "--study", "{study}", "--csv", "x.csv"], "--csv and --parquet save one statement"),
    (["query", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "{missing}.png"], "no file"),
    (
        ["query", "--study", "{study}", "--encoder", "pixels32", "--index", "exact", "{image}", "-k", "0"],
        "-k 0; expected 1 to",
    ),
    (["manifest", "folders", "{missing}", "--study", "{study}"], "unknown source 'folders'; nearest: 'folder'"),
    (["manifest", "folder", "{missing}", "--study", "{study}"], "no directory"),
    (["manifest", "csv", "{missing}.csv", "--study", "{study}"], "no table at"),
    (["manifest", "phantoms", "{missing}", "--study", "{study}"], "no finished phantom collection at"),
    (
        ["manifest", "csv", "{twice}", "--study", "{study}"],
        "have an image id that stands before them already, first 'a'",
    ),
    (["manifest", "csv", "{other}", "--study", "{study}"], "has another manifest"),
    (
        ["manifest", "csv", "{other}", "--study", "{missing}", "--column", "labels=diagnose"],
        "has no column 'diagnose'; nearest: 'diagnosis'",
    ),
    (["manifest", "csv", "{other}", "--study", "{missing}", "--column", "labels"], "'labels' is not NAME=VALUE"),
    (["run", "csv", "--study", "{missing}", "--encoder", "pixels32"], "source csv without ROOT"),
    (["run", "--study", "{missing}", "--encoder", "pixels32"], "no study at"),
    (["encoders", "pixel"], "unknown encoder 'pixel'"),
    (["phantoms", "{study}"], "phantoms"),
    (["frobnicate"], "invalid choice: 'frobnicate'"),
    ([], "the following arguments are required: COMMAND"),
]


@pytest.mark.parametrize("arguments, message", MISUSE, ids=[" ".join(a[:1] + a[3:]) or "nothing" for a, _ in MISUSE])
def test_misuse_is_one_line_exit_code_2_and_nothing_written(study, tmp_path, capsys, arguments, message):
    (tmp_path / "twice.csv").write_text("image_id,path,modality\na,a.png,XR\na,b.png,XR\na,c.png,XR\n")
    (tmp_path / "other.csv").write_text("path,diagnosis\na.png,x\n")
    image = next(study.parent.parent.glob("**/*.jpg"), tmp_path / "twice.csv")
    places = {
        "missing": tmp_path / "missing",
        "study": study,
        "twice": tmp_path / "twice.csv",
        "other": tmp_path / "other.csv",
        "image": image,
    }
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*")}
    assert run(*(a.format(**places) for a in arguments)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("cbmir")
    assert "Traceback" not in captured.err
    assert not (tmp_path / "missing").exists()
    assert {p: p.stat().st_mtime_ns for p in study.rglob("*")} == before


def test_debug_shows_the_traceback(tmp_path, capsys):
    assert run("evaluate", "--study", tmp_path / "none", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_is_one_line_and_exit_code_1(study, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("boom\nand more")

    monkeypatch.setattr("cbmir.evaluate.evaluate", fail)
    assert run("evaluate", "--study", study) == 1
    assert (
        capsys.readouterr().err
        == "cbmir evaluate: unexpected RuntimeError: boom and more; see the traceback with --debug\n"
    )


def test_unfinished_stages_are_refused_by_name(tmp_path, capsys):
    rows = [{"image_id": f"a/{i}", "split": "train" if i else "test"} for i in range(5)]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: [1, i] for i, row in enumerate(rows)})
    study.delete("embeddings", "encoder=pixels32", "run.json")
    assert run("search", "--study", study.root, "--encoder", "pixels32", "--index", "exact") == 2
    assert (
        "embeddings/encoder=pixels32 is unfinished (it has no run.json); finish it with: cbmir embed"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_shows_an_example_that_parses(command, capsys):
    import shlex

    assert run(command, "--help") == 0
    said = capsys.readouterr().out
    example = COMMANDS[command][1]
    assert f"example:\n  {example}" in said
    assert parse(shlex.split(example)[1:]).command == command


def test_weights_flag_knows_names_aliases_and_plain_files():
    assert weights_flag(["w.pth"], ["pixels32", "timm:a"]) == {"": "w.pth"}
    assert weights_flag(["timm:a,x=1=w=1.pth"], ["timm:a,x=1", "timm:a"]) == {"timm:a,x=1": "w=1.pth"}
    assert weights_flag(["m=w.pth", "timm:b=v.pth"], ["m=timm:a,x=1", "timm:b"]) == {
        "m=timm:a,x=1": "w.pth",
        "timm:b": "v.pth",
    }


@pytest.mark.parametrize(
    "able, said", [("bfloat16", "transformers in bfloat16, others in float32"), ("float32", "in float32")]
)
def test_doctor_says_in_what_encoders_compute_where_there_is_no_gpu(monkeypatch, able, said):
    import torch

    from cbmir import doctor

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "best_precision", lambda device, *, convolutional: able)
    lines = [line for line in doctor.examine(None) if "no GPU" in line]
    assert len(lines) == 1
    assert lines[0].endswith(f"CPU cores, {said}")


def test_the_words_of_a_command_say_what_was_asked_and_not_where():
    asked = [
        "study",
        "index-size",
        "--study",
        "/data/s",
        "--encoder",
        "a=b",
        "--sizes=10,all",
        "--debug",
        "--ray-address=ray://host",
        "--overwrite",
    ]
    assert parse(asked).words == ["study", "index-size", "--encoder", "a=b", "--sizes=10,all"]
    assert parse(["evaluate", "--study=/data/s", "--metric", "--study"][:2]).words == ["evaluate"]
    asked = [
        "study",
        "image-size",
        "--study=s",
        "--encoder=a=/b c/e.toml",
        "--weights=a=/b c/w.pt",
        "--gallery=a = '--weights=b'",
    ]
    words = [
        "study",
        "image-size",
        "--encoder",
        "a=/b c/e.toml",
        "--weights",
        "a=/b c/w.pt",
        "--gallery=a = '--weights=b'",
    ]
    assert parse(asked).words == words


def test_commands_that_add_to_a_dataset_are_kept_once_the_last_at_the_end():
    from cbmir.commands import so_far

    assert so_far(None, ["a"]) == [["a"]]
    assert so_far({"commands": [["a"], ["b"]]}, ["a"]) == [["b"], ["a"]]
    assert so_far({"commands": [["a"]]}, []) == [["a"]]
