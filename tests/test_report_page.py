"""What the report shows of labels, confusions and examples, and that the commands in its last section make the study again."""

import html as escaping
import json
import re
import shlex
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cbmir.cli import main
from cbmir.commands import line
from cbmir.errors import UserError
from cbmir.flags import COMMANDS, parse
from cbmir.report import EXAMPLES, write_report
from cbmir.report.gallery import MOST_BYTES as MOST_PICTURES
from cbmir.report.heat import heat_map, step
from cbmir.report.page import MOST_BYTES, TEMPLATES
from cbmir.sql_files import names, read
from cbmir.store import Study
from tests.test_report import Page, make_study

WEIGHT = {"R": 0.2126, "G": 0.7152, "B": 0.0722}


def lightness(color: str) -> float:
    """Relative luminance of '#rrggbb' or '#rgb' (WCAG 2.2)."""
    digits = color.lstrip("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip(WEIGHT.values(), linear, strict=True))


def contrast(a: str, b: str) -> float:
    high, low = sorted((lightness(a), lightness(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_ramps_are_one_order_of_lightness_and_their_text_can_be_read():
    found = re.findall(r"\.h(\d) \{ --heat: (#\w+); --on: (#\w+); \}", (TEMPLATES / "page.css").read_text())
    light, dark = found[:10], found[10:]
    assert [int(i) for i, _, _ in light] == [int(i) for i, _, _ in dark] == list(range(10))
    for ramp, signs in ((light, -1), (dark, 1)):
        steps = np.diff([116 * lightness(color) ** (1 / 3) for _, color, _ in ramp]) * signs
        assert (steps > 5).all()  # of 100 from black to white: neighbors can be told apart in grey
        assert all(contrast(color, text) >= 4.5 for _, color, text in ramp)


@pytest.mark.parametrize(
    "value, top, expected", [(0, 0.5, 0), (0.049, 0.5, 0), (0.26, 0.5, 5), (0.5, 0.5, 9), (0, 0, 0)]
)
def test_a_value_has_its_step_of_the_ramp(value, top, expected):
    assert step(value, top) == expected


def test_the_heat_map_marks_the_best_of_a_row_and_keeps_the_labels_with_most_queries(monkeypatch):
    monkeypatch.setattr("cbmir.report.heat.MOST", 2)

    def row(name: str, n: int, **values: float) -> dict:
        cells = {encoder: {"value": value, "chance": 0.1} for encoder, value in values.items()}
        return {"slice": name, "n_queries": n, "cells": cells}

    rows = [row("c", 9, x=0.1 + 0.2, y=0.3), row("b", 1, x=0.9), row("a", 5, y=0.42)]
    heat = heat_map(rows, ["x", "y"])
    assert [r["label"] for r in heat["rows"]] == ["a", "c"]
    assert heat["left_out"] == 1
    assert heat["top"] == 0.5
    assert heat["rows"][0]["cells"][0] is None
    assert [cell["is_best"] for cell in heat["rows"][1]["cells"]] == [True, True]
    assert heat_map([], ["x"]) is None


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return make_study(tmp_path_factory.mktemp("page"), encoders=("plain", "other"), failed=(3, 4))


@pytest.fixture(scope="module")
def page(study) -> str:
    return Path(write_report(study)).read_text()


def test_the_heat_map_holds_the_figures_of_metrics(study, page):
    metrics = pd.read_parquet(study.path("metrics", "metrics.parquet"))
    rows = metrics.query(
        "metric == 'precision_at_k' and relevance == 'label' and slice_by == 'label' and average == 'micro' and k == 5"
    )
    table = Page(page).tables["by-label"]
    order = table[0][3:]
    assert {row[0] for row in table[1:]} == set(rows["slice"])
    for label, n, chance, *values in table[1:]:
        for encoder, shown in zip(order, values, strict=True):
            (expected,) = rows[(rows["encoder"] == encoder) & (rows["slice"] == label)].itertuples()
            assert (shown, chance) == (f"{100 * expected.value:.1f}", f"{100 * expected.chance:.1f}")
            assert n.removesuffix(" †") == str(expected.n_queries)


def test_confusions_are_those_of_the_dataset(study, page):
    known = pd.read_parquet(study.path("confusions", "confusions.parquet"))
    tables = Page(page).tables
    order = tables["by-label"][0][3:]
    for place, encoder in enumerate(order, 1):
        mine = known[known["encoder"] == encoder]
        expected = {(r.label, r.retrieved): r for r in mine.itertuples()}
        shown = tables[f"confused-{place}"][1:]
        counts = [float(row[2].split(" of ")[0]) for row in shown]
        assert counts == sorted(counts, reverse=True)
        wrong = mine[mine["label"] != mine["retrieved"]]
        assert counts[0] == pytest.approx((wrong["share"] * wrong["n_queries"]).max(), rel=1e-3)
        for label, retrieved, count, share in shown:
            row = expected[label, "" if retrieved == "no label or no neighbor" else retrieved]
            assert (float(count.split(" of ")[0]), share) == (
                pytest.approx(row.share * row.n_queries, rel=1e-3),
                f"{100 * row.share:.1f}",
            )
        head, *lines = tables[f"matrix-{place}"]
        columns = ["" if name == "no label or no neighbor" else name for name in head[2:]]
        for label, n, *cells in lines:
            assert int(n) == mine[mine["label"] == label]["n_queries"].iloc[0]
            for retrieved, cell in zip(columns, cells, strict=True):
                row = expected.get((label, retrieved))
                assert cell == ("" if row is None else f"{100 * row.share:.0f}")


def test_a_matrix_of_many_labels_shows_the_most_confused(tmp_path):
    labels = [[f"XR/chest/finding {i // 3:03d}"] for i in range(3 * 70)]
    found = Page(Path(write_report(make_study(tmp_path, labels=labels, k=1), examples=0)).read_text()).tables[
        "matrix-1"
    ]
    assert "all others" in found[0]
    assert len(found[0]) == 2 + 32 + 1
    for row in found[1:]:
        assert sum(float(cell or 0) for cell in row[2:]) == 100


def test_figures_of_another_evaluation_are_no_confusions(tmp_path):
    study = make_study(tmp_path)
    run = study.require("confusions")
    study.write_json(run | {"inputs": {"plain exact": "another"}}, "confusions", "run.json")
    assert "The study has no confusions of these searches" in Path(write_report(study, examples=1)).read_text()


def test_every_class_has_right_and_wrong_examples_before_one_comes_twice():
    connection = duckdb.connect()
    right = {1: True, 2: True, 3: False, 4: False, 5: True, 6: False, 7: True, 8: True}
    classes = {1: ["a"], 2: ["a"], 3: ["a"], 4: ["b", "a"], 5: ["b", "a"], 6: ["a"], 7: ["c"], 8: ["a"], 9: ["c"]}
    hits = [(q, rank, is_right if rank == 1 else rank == 2) for q, is_right in right.items() for rank in (1, 2, 3)]
    connection.execute("CREATE TABLE hits (query_key BIGINT, rank SMALLINT, is_relevant BOOLEAN)")
    connection.executemany("INSERT INTO hits VALUES (?, ?, ?)", hits)
    connection.execute("CREATE TABLE queries (query_key BIGINT, classes TEXT[])")
    connection.executemany("INSERT INTO queries VALUES (?, ?)", list(classes.items()))
    connection.execute(
        "CREATE TABLE manifest AS SELECT query_key AS image_key, 'x' AS image_id, 'x' AS uri, classes AS labels, "
        "'XR' AS modality, 'chest' AS region FROM queries"
    )

    def chosen(n: int, seed: int) -> list[tuple]:
        text = f"SELECT query_key, label, is_right, correct, found, value FROM ({read('report', 'gallery_queries')})"
        return connection.execute(text, {"n": n, "seed": seed}).fetchall()

    everything = chosen(99, 0)
    assert sorted(row[0] for row in everything) == list(right)  # 9 found nothing
    assert [row[1:3] for row in everything[:5]] == [("a", True), ("a", False), ("b", True), ("b", False), ("c", True)]
    assert [row[1:3] for row in everything[5:]] == [("a", True), ("a", False), ("a", True)]
    assert all(is_right == right[key] for key, _, is_right, *_ in everything)
    assert {row[0]: row[3:] for row in everything}[4] == (1, 3, 1 / 3)
    assert chosen(4, 0) == everything[:4]
    assert len({chosen(1, seed)[0][0] for seed in range(20)}) == 3  # the seed draws among equals
    assert chosen(0, 0) == []


def test_filters_know_the_classes_of_every_query(study, page):
    manifest = pd.read_parquet(study.path("manifest", "manifest.parquet")).set_index("image_id")
    options = [escaping.unescape(text) for text in re.findall(r'<option value="\d+">(.*?) \(\d+\)</option>', page)]
    cases = re.findall(
        r'<article class="case" data-places="([\d ]+)" data-result="(\w+)".*?title="(.*?)"(.*?)</article>',
        page,
        re.DOTALL,
    )
    assert len(cases) == 14
    for places, result, image_id, rest in cases:
        assert {options[int(p)] for p in places.split()} == set(manifest.loc[image_id, "labels"])
        assert re.search(r'<li class="tile (\w+)"', rest).group(1) == result
    assert {result for _, result, _, _ in cases} == {"right", "wrong"}


def noise(folder: Path) -> None:
    """The worst that JPEG can be given, in the place of each image."""
    for place, path in enumerate(sorted(folder.glob("*.png"))):
        Image.fromarray(np.random.default_rng(place).integers(0, 255, (140, 140, 3), np.uint8)).save(path)


def test_pictures_are_left_out_before_the_file_grows_too_large(tmp_path):
    study = make_study(tmp_path, labels=[[f"XR/chest/{'ABC'[i % 3]}"] for i in range(330)])
    noise(tmp_path / "pixels")
    path = Path(write_report(study, examples=200))
    html = path.read_text()
    shown, chosen = html.count('<article class="case"'), 110
    assert path.stat().st_size < MOST_BYTES
    assert 0 < shown < chosen
    assert sum(map(len, re.findall(r'src="(data:[^"]*)"', html))) <= MOST_PICTURES
    assert f"<b>{chosen - shown} of {chosen} chosen queries are left out</b>" in html
    assert Path(write_report(study, examples=200)).read_text() == html


def test_a_page_that_is_large_for_other_reasons_shows_fewer_pictures(tmp_path, monkeypatch):
    study = make_study(tmp_path)
    whole = Path(write_report(study)).read_text()
    without = len(Path(write_report(study, examples=0)).read_bytes())
    limit = (len(whole.encode()) + without) // 2
    monkeypatch.setattr("cbmir.report.page.MOST_BYTES", limit)
    path = Path(write_report(study))
    assert path.stat().st_size <= limit
    assert 0 < path.read_text().count('<article class="case"') < whole.count('<article class="case"')
    monkeypatch.setattr("cbmir.report.page.MOST_BYTES", 1000)
    assert "queries were chosen, and left out" in Path(write_report(study)).read_text()


def commands(html: str) -> list[str]:
    """The lines of the block of commands, as a person copies them."""
    block = re.search(r'<pre id="commands".*?>(.*?)</pre>', html, re.DOTALL).group(1)
    return escaping.unescape(re.sub(r"</?span>", "", block)).splitlines()


def test_the_flag_and_the_function_show_as_many_queries():
    assert parse(["report", "--study", "x"]).examples == EXAMPLES


@pytest.mark.parametrize("options", [{"examples": -1}, {"seed": -1}])
def test_numbers_below_zero_are_refused(study, options):
    with pytest.raises(UserError, match=f"--{next(iter(options))} -1; expected 0 or more"):
        write_report(study, **options)


def test_where_nobody_looked_for_copies_the_section_says_how_to(page):
    section = re.search(r'<section id="inspection">(.*?)</section>', page, re.DOTALL).group(1)
    assert "cbmir manifest check --study STUDY" in section


def test_the_last_section_is_how_the_study_was_made(page):
    assert re.findall(r'<section id="(\w+)"', page)[-1] == "provenance"
    assert [line for line in commands(page) if parse(shlex.split(line)[1:]).command not in COMMANDS] == []


@pytest.mark.parametrize(
    "word", ["plain", "two words", "split = 'train'", "a$b", 'it\'s "both"', "!x'y", "a\\'b", "`ls`'", "~x"]
)
def test_words_survive_the_shell(word):
    assert shlex.split(line(["cbmir", "sql", word])) == ["cbmir", "sql", word]


def test_what_was_recorded_comes_back_as_flags(tmp_path):
    study = make_study(tmp_path)
    run = study.require("manifest")
    said = {
        "source": "csv", "columns": {"labels": "the diagnosis"}, "constants": {"modality": "XR"}, "one_hot": ["finding_*"], "separator": ";",
        "image_root": {"": "/data/p1", "nih": "/data/nih"}, "protocol": "denner2024", "missing_images": "drop", "seed": 7, "window": [40.0, 400.0],
        "deidentify": True, "salt_file": "/secret/salt", "axis": 2, "every": 4, "notes": ["ids of images, patients, studies and series are salted hashes"],
    }  # fmt: skip
    study.write_json(run | {"parameters": said, "removed": 3}, "manifest", "run.json")
    where = ("embeddings", "encoder=plain")
    spec = {"name": "mine", "asked": "mine=/somebody/spec.toml@64", "source": "timm", "weights": "/data/weights.pt"}
    more = {"spec": spec, "precision": "bfloat16", "decode": "whole", "dtype": "float16", "failed": 7, "rows": 38}
    study.write_json(study.require(*where) | more, *where, "run.json")
    html = Path(write_report(study, examples=3, seed=9)).read_text()
    found = [parse(shlex.split(text)[1:]) for text in commands(html)]
    manifest, embed, search, evaluate, report = found
    assert (manifest.source, manifest.roots, manifest.column, manifest.set) == (
        "csv",
        ["TABLE"],
        [("labels", "the diagnosis")],
        [("modality", "XR")],
    )
    assert (manifest.one_hot, manifest.separator, manifest.protocol, manifest.missing_images) == (
        ["finding_*"],
        ";",
        "denner2024",
        "drop",
    )
    assert (manifest.seed, manifest.window, manifest.axis, manifest.every) == (7, (40.0, 400.0), 2, 4)
    assert manifest.deidentify is True
    assert (manifest.image_root, manifest.salt_file) == ([("", "IMAGES_DIR"), ("nih", "IMAGES_DIR")], "SALT_FILE")
    assert (embed.encoder, embed.weights, embed.precision) == (["mine=spec.toml@64"], ["WEIGHTS_FILE"], "bfloat16")
    assert (embed.dtype_stored, embed.whole_decode, embed.max_failures) == ("float16", True, 0.156)
    assert (search.encoder, search.index, search.depth, search.gallery) == (["plain"], "exact", 10, "split = 'train'")
    assert (evaluate.allow_overlap, evaluate.seed, evaluate.resamples) == (True, 0, 1000)
    assert (report.examples, report.seed) == (3, 9)
    assert "3 images were taken out of the study" in html
    for secret in ("/data", "/somebody", "/secret", "weights.pt"):
        assert secret not in html


def test_imported_vectors_and_probes_come_back_as_flags(tmp_path):
    study = make_study(tmp_path)
    where = ("embeddings", "encoder=plain")
    said = {"encoder": "plain", "match": "uri", "key_column": "path", "vector_column": None, "dtype": "float16"}
    more = {"stage": "import", "imported": ["a b.h5"], "matched_by": "uri", "parameters": said, "failed": 0}
    study.write_json(study.require(*where) | more, *where, "run.json")
    asked = {
        "train": "split = 'train'",
        "val": "true",
        "test": "split = 'test'",
        "seeds": [0, 4],
        "epochs": 3,
        "patience": 2,
        "batch_size": 8,
        "lr": 0.5,
    }
    probe = {"stage": "probe", "parameters": {"encoder": "plain", "weight_decay": 0.0, **asked}}
    study.write_json(probe, "predictions", "encoder=plain", "run.json")
    study.write_json({}, "as_published", "denner2024", "plain", "exact", "run.json")
    html = Path(write_report(study, examples=0)).read_text()
    _, taken, found, probed, _, published, _ = [parse(shlex.split(text)[1:]) for text in commands(html)]
    assert (taken.command, taken.files, taken.encoder) == ("embeddings import", ["VECTORS_DIR/a b.h5"], "plain")
    assert (taken.match, taken.key_column, taken.vector_column, taken.dtype_stored) == ("uri", "path", None, "float16")
    assert found.command == "search"
    assert {name: getattr(probed, name) for name in asked} == asked | {"seeds": (0, 4)}
    assert (probed.encoder, probed.weight_decay) == (["plain"], 0)
    assert (published.command, published.as_published) == ("evaluate", "denner2024")
    assert "linear probes of plain</dt><dd>0, 4</dd>" in html


def test_a_study_of_studies_says_how_it_was_asked_for(tmp_path):
    study = make_study(tmp_path)
    words = ["study", "index-size", "--encoder", "plain", "--sizes", "10,all"]
    study.write_json({"commands": [words], "parameters": {}, "inputs": {}}, "scaling", "run.json")
    study.write_json({"parameters": {}, "inputs": {}}, "search_effort", "run.json")
    html = Path(write_report(study, examples=0)).read_text()
    (asked,) = [parse(shlex.split(text)[1:]) for text in commands(html) if " study " in text]
    assert (asked.command, asked.encoder, asked.sizes) == ("study index-size", ["plain"], (10, None))
    assert "search_effort: the run.json of these studies does not say how they were asked for" in html


@pytest.mark.parametrize(
    "given, encoder, weights",
    [
        (["--encoder", "a", "--weights=/somebody/my files/w.pt"], "a", "WEIGHTS_FILE"),
        (["--encoder", "a", "--weights", "/data/run=3/w.pt"], "a", "WEIGHTS_FILE"),
        (["--encoder", "a", "--weights", "s3://bucket/run=3/w.pt"], "a", "WEIGHTS_FILE"),
        (["--encoder", "a", "--weights", "a=/somebody/my files/run=3/w.pt"], "a", "a=WEIGHTS_FILE"),
        (["--encoder", "open_clip:ViT/b", "--weights", "open_clip:ViT/b=/data/w.pt"], "open_clip:ViT/b", "open_clip:ViT/b=WEIGHTS_FILE"),
        (["--encoder=/somebody/my docs/e.toml"], "e.toml", None),
        (["--encoder", "my=/somebody/my docs/e.toml@64"], "my=e.toml@64", None),
    ],
)  # fmt: skip
def test_no_folder_of_weights_and_encoders_is_told(tmp_path, given, encoder, weights):
    study = make_study(tmp_path)
    words = parse(["study", "image-size", "--study", "s", *given]).words
    study.write_json({"commands": [words], "parameters": {}, "inputs": {}}, "image_sizes", "run.json")
    html = Path(write_report(study, examples=0)).read_text()
    (asked,) = [shlex.split(text) for text in commands(html) if " study " in text]
    assert asked[asked.index("--encoder") + 1] == encoder
    assert weights is None or asked[asked.index("--weights") + 1] == weights
    assert not [secret for secret in ("my docs", "my files", "run=3", "/data") if secret in html]


@pytest.fixture(scope="module")
def made(tmp_path_factory, ray_session) -> tuple[Path, Path]:
    """(images, study) of a study that was made by commands with options that differ from their defaults."""
    root = tmp_path_factory.mktemp("made")
    images, study = root / "my scans", root / "study"
    rng = np.random.default_rng(0)
    for i in range(90):
        path = images / f"XR/chest/{('Nodule', 'Mass', 'No Finding')[i % 3]}/{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24), np.uint8)).save(path)
    (images / "XR/chest/Mass/091.png").write_bytes(b"broken")
    (images / "XR/chest/Mass/092.png").write_bytes((images / "XR/chest/Mass/001.png").read_bytes())
    everything = [
        ["manifest", "folder", str(images), "--seed", "5", "--deidentify", "--set", "dataset=mine"],
        ["manifest", "check", "-k", "4"],
        ["pack", "--short-side", "64", "--max-failures", "5%"],
        ["embed", "--encoder", "pixels32", "--encoder", "small=pixels32@16", "--packed", "--max-failures", "5%"],
        ["reduce", "--encoder", "pixels32", "--pca", "8"],
        ["index", "--encoder", "pixels32", "--index", "fast", "--dtype", "f32", "--gallery", "split <> 'test'"],
        ["search", "--encoder", "pixels32", "--encoder", "small", "--index", "exact", "-k", "20", "--exclude-same", "duplicate_group"],
        ["search", "--encoder", "pixels32~pca8", "--index", "exact", "-k", "12", "--metric", "l2"],
        ["search", "--encoder", "pixels32", "--index", "fast", "-k", "10", "--save-as", "faster", "--rerank", "2"],
        ["evaluate", "--k", "1,4", "--slice", "label", "--slice", "region", "--resamples", "200", "--permutations", "300", "--seed", "3", "--allow-overlap"],
        ["report", "--examples", "9", "--seed", "2"],
    ]  # fmt: skip
    for words in everything:
        assert main([*words, "--study", str(study)]) == 0
    return images, study


@pytest.mark.slow
def test_the_commands_of_the_page_make_the_same_figures_again(made, tmp_path):
    images, first = made
    html = (first / "report" / "report.html").read_text()
    assert "my scans" not in html
    again = tmp_path / "another study"
    stands_for = {"STUDY": str(again), "IMAGES_DIR": str(images), "SALT_FILE": str(first / "salt.hex")}
    lines = commands(html)
    assert len(lines) == 11
    for text in lines:
        words = [stands_for.get(word, word) for word in shlex.split(text)[1:]]
        assert parse(words).command in COMMANDS
        assert main(words) == 0, text
    for dataset in ("metrics", "confusions", "comparisons", "hubness", "problems"):
        tables = [Study(str(root)).dataset(dataset).to_table() for root in (first, again)]
        assert tables[0].num_rows > 0
        assert tables[0].equals(tables[1]), dataset
    runs = [json.loads((root / "metrics" / "run.json").read_text()) for root in (first, again)]
    assert runs[0]["parameters"] == runs[1]["parameters"]
    pictures = [re.findall(r'title="(.*?)"', (root / "report" / "report.html").read_text()) for root in (first, again)]
    assert pictures[0] == pictures[1]
    assert commands((again / "report" / "report.html").read_text()) == lines


@pytest.mark.slow
def test_duplicates_and_failures_are_those_of_the_datasets(made):
    _, root = made
    study, html = Study(str(root)), (root / "report" / "report.html").read_text()
    tables = Page(html).tables
    problems = study.dataset("problems").to_table().to_pandas()
    shown = {row[0]: (row[1], row[2]) for row in tables["problems"][1:]}
    assert set(shown) == {name.replace("_", " ") for name in names("inspection")}
    for name, (count, groups) in shown.items():
        mine = problems[problems["problem"] == name.replace(" ", "_")]
        assert int(count) == len(mine)
        assert int(groups or 0) == mine["group_id"].nunique()
    copies = problems[problems["problem"] == "exact_duplicates"]
    manifest = study.dataset("manifest").to_table().to_pandas().set_index("image_key")
    tiles = re.findall(r'<li class="tile plain" title="(.*?)">', html)
    assert sorted(tiles) == sorted(manifest.loc[copies["image_key"], "image_id"])
    assert html.count('alt="image of a group of copies"') == len(copies) == 2
    assert "All groups," in " ".join(html.split())
    failed = tables["failure-counts"][1:]
    assert {(row[0], row[1], row[3]) for row in failed} == {
        (name, "decode", "1") for name in ("pixels32", "small", "pixels32~pca8")
    }
    assert len(tables["failure-rows"]) == 2
    assert re.search(r"<summary>1 images</summary>", html)
