"""The report of a study that has changed, that was never scored, that names patients, or that is very large."""

import html
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from cbmir.cli import main
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.flags import parse
from cbmir.inspection import InspectionOptions, inspect
from cbmir.report import leaderboard, write_figures, write_report
from cbmir.report.charts.ink import on_page, svg_element
from cbmir.report.confusion import _matrix
from cbmir.report.page import TEMPLATES, _environment, parts
from cbmir.schemas import ContractError
from cbmir.store import Study, run_record
from tests.scaling_studies import effort_rows, empty_study, publish, scaling_rows
from tests.studies import add_embeddings
from tests.test_report import Page, make_study
from tests.test_report_page import commands

SECRETS = ("Jane", "Doe", "1980", "JANE")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Study:
    """Scored, reported, looked at; of patients in two splits, with a remark and failures that name a patient."""
    root = tmp_path_factory.mktemp("bounds")
    study = make_study(root, failed=(3, 4), indexes=("exact", "hnsw"))
    remarks = Remarks()
    remarks.add(
        "missing_image",
        "t/Jane Doe 1980/a.png: /arch/Jane Doe 1980/DOE^JANE.png",
        file="/arch/Jane Doe 1980/t.csv",
        row=1234,
    )
    remarks.add("other_file", r"2 files, first C:\arch\Jane Doe\x.txt")
    study.write_json(study.require("manifest") | {"remarks": remarks.summary()}, "manifest", "run.json")
    with study.publishing("remarks", "manifest") as out:
        out.write_table(remarks.table(), "remarks.parquet", "remarks")
        out.run = run_record("remarks", parameters={}, inputs={}, rows=2)
    failed = study.dataset("failures", "encoder=plain").to_table().to_pylist()
    rows = [row | {"error": "cannot open /arch/Jane Doe 1980/DOE^JANE.png: no image"} for row in failed]
    study.write_table(pa.Table.from_pylist(rows), "failures", "encoder=plain", "part.parquet")
    inspect(study, InspectionOptions(), say=lambda *_: None)
    return study


@pytest.fixture
def study(made, tmp_path) -> Study:
    shutil.copytree(made.root, tmp_path / "my_study")
    return Study(str(tmp_path / "my_study"))


def text(study: Study, **options) -> str:
    return Path(write_report(study, **{"examples": 0, **options})).read_text()


# what has changed since it was scored


def another_manifest(study: Study) -> None:
    """Fewer images, as `cbmir manifest --overwrite` leaves them."""
    table = study.dataset("manifest").to_table().slice(0, 30)
    with study.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run_record("manifest", parameters={"source": "folder"}, inputs={"content": "new"}, rows=30)


def other_vectors(study: Study) -> None:
    place = ("embeddings", "encoder=plain")
    study.write_json(study.require(*place) | {"fingerprint": "new"}, *place, "run.json")


@pytest.mark.parametrize("changes", [another_manifest, other_vectors])
def test_old_figures_of_other_images_or_vectors_are_refused(study, changes, capsys):
    changes(study)
    assert main(["report", "--study", study.address, "--paper"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        "cbmir report: neighbors of plain by exact are older than the manifest, the embeddings or the index; search again, with the same flags: "
        f"cbmir search --study {study.address} --encoder plain --index exact, then: cbmir evaluate --study {study.address}"
    )
    assert not any(study.exists(name) for name in ("report", "figures", "paper"))
    with pytest.raises(UserError, match="nothing to draw"):
        write_figures(study)
    with pytest.raises(UserError, match="search again"):
        leaderboard(study)


# what was never scored


@pytest.fixture(scope="module")
def unscored(tmp_path_factory) -> Study:
    study = empty_study(tmp_path_factory.mktemp("unscored") / "studies")
    add_embeddings(study, ["a", "b"], {"a": [1.0, 0.0], "b": [0.0, 1.0]}, encoder="pixels32")
    vectors, manifest = (
        study.require(*parts)["fingerprint"] for parts in (("embeddings", "encoder=pixels32"), ("manifest",))
    )
    publish(study, "scaling", scaling_rows(encoders=("pixels32",), labels=()))
    publish(study, "search_effort", effort_rows(encoders=("pixels32",)), inputs={"pixels32": f"{vectors} {manifest}"})
    asked = ["study", "search-effort", "--encoder", "pixels32"]
    study.write_json(study.require("search_effort") | {"commands": [asked]}, "search_effort", "run.json")
    return study


def test_studies_are_reported_before_anything_is_scored(unscored, capsys):
    assert main(["report", "--study", unscored.address, "--paper"]) == 0
    said = capsys.readouterr().out
    for name in ("report", "figures", "paper"):
        assert f"{name}: {unscored.path(name)}" in said
        assert unscored.require(name)["inputs"].keys() >= {"scaling"}
    assert unscored.exists("figures", "index_size.svg")
    assert "with index_size" in said
    page = unscored.read_text("report", "report.html")
    assert re.findall(r'<section id="([\w-]+)"', page) == [
        "index-size",
        "search-effort",
        "failures",
        "inspection",
        "provenance",
    ]
    assert "No figures of searches" in page
    targets = re.findall(r'<a href="#([\w-]+)"', page)
    assert [name for name in targets if f'id="{name}"' not in page] == []
    told = [parse(shlex.split(line)[1:]) for line in commands(page)]
    assert [words.command for words in told] == ["manifest", "embed", "study search-effort", "report"]
    assert told[1].encoder == ["pixels32"]


def test_a_study_without_any_figures_is_refused_as_before(tmp_path):
    study = empty_study(tmp_path / "study")
    with pytest.raises(ContractError, match=r"metrics is not in the study .*; make it with: cbmir evaluate"):
        write_report(study)
    publish(study, "scaling", scaling_rows(labels=()), inputs={"manifest": "another"})
    with pytest.raises(ContractError, match="make it with: cbmir evaluate"):
        write_report(study)


# patients


def test_a_study_with_hashed_ids_names_nothing_that_an_image_was_called(study):
    run = study.require("manifest")
    said = {
        "source": "csv",
        "deidentify": True,
        "notes": ["ids of images, patients, studies and series are salted hashes"],
    }
    said |= {"image_root": {"": "Jane Doe 1980/pixels"}}
    study.write_json(run | {"parameters": said}, "manifest", "run.json")
    page = text(study)
    assert not any(name in page for name in SECRETS)
    tables = Page(page).tables
    assert tables["remarks"][1:] == [["missing image", "1", "row 1,234"], ["other file", "1", ""]]
    assert {row[2] for row in tables["failure-counts"][1:]} == {"cannot open …: no image"}


def test_folders_are_not_named_where_ids_are_not_hashed(study):
    tables = Page(text(study)).tables
    assert (
        tables["remarks"][1][2] == "t.csv row 1234: t/Jane Doe 1980/a.png: …/DOE^JANE.png"
    )  # the second is the image's id
    assert tables["remarks"][2][2] == "2 files, first …/x.txt"
    assert {row[2] for row in tables["failure-counts"][1:]} == {"cannot open …/DOE^JANE.png: no image"}


def test_patients_in_two_splits_are_counted_and_not_named(study):
    page = text(study)
    problems = study.dataset("problems").to_table().to_pandas().query("problem == 'patients_across_splits'")
    assert len(problems) > 1
    (row,) = [row for row in Page(page).tables["problems"] if row[0] == "patients across splits"]
    assert row[1:] == [str(len(problems)), "", "not shown: ids of patients"]
    names = set(problems["detail"].str.extract(r"^(small/p\d+):")[0])
    assert len(names) == len(problems)
    assert not any(f"{name}:" in page for name in names)
    assert "Patients across splits: the first" not in page


# making it again


def test_predicates_about_labels_and_public_weights_can_be_run_again(study):
    asked = "split = 'train' AND list_has_any(labels, ['XR/chest/Nodule', 'MR/brain/Glioma'])"
    for index in ("exact", "hnsw"):
        place = ("neighbors", "plain", index)
        run = study.require(*place)
        study.write_json(run | {"parameters": run["parameters"] | {"gallery": asked}}, *place, "run.json")
    place = ("embeddings", "encoder=plain")
    spec = {"asked": "mine=vit", "source": "timm", "weights": "hf://org/repo/model.safetensors"}
    study.write_json(study.require(*place) | {"spec": spec, "precision": "float32"}, *place, "run.json")
    page = text(study)
    told = [parse(shlex.split(line)[1:]) for line in commands(page)]
    assert [words.gallery for words in told if words.command == "search"] == [asked] * 2
    assert [words.weights for words in told if words.command == "embed"] == [["hf://org/repo/model.safetensors"]]
    assert leaderboard(study)[0]["asks"]["gallery"] == asked


# sizes


def test_lists_of_a_large_collection_are_cut_and_say_so(study, monkeypatch):
    monkeypatch.setattr("cbmir.report.page.MOST_SLICES", 1)
    monkeypatch.setattr("cbmir.report.page.FAILURE_KINDS", 1)
    failed = study.dataset("failures", "encoder=plain").to_table().to_pylist()
    rows = [row | {"error": f"broken in way {i}"} for i, row in enumerate(failed)]
    study.write_table(pa.Table.from_pylist(rows), "failures", "encoder=plain", "part.parquet")
    page = text(study)
    tables = Page(page).tables
    assert [row[:2] for row in tables["by-region"][1:]] == [["chest", "10"]]
    assert "The 1 with the most queries; 1 more are in the study" in page
    assert len(tables["failure-counts"]) == 2
    assert "1 more kinds of errors are in the study" in page
    listed = _environment().get_template("parts.html.j2").module.listed
    assert str(listed([f"r{i}" for i in range(1_042)])).endswith(", r38, r39 and 1,002 more")
    assert str(listed(["a", "b"])) == "a, b"


def test_a_page_without_room_shows_no_picture_and_is_no_larger_than_one_that_was_asked_for_none(study, monkeypatch):
    without = len(text(study).encode())
    monkeypatch.setattr("cbmir.report.page.MOST_BYTES", 1000)
    path = Path(write_report(study, examples=60))
    page = path.read_text()
    assert "queries were chosen, and left out" in page
    assert "data:image" not in page.partition('id="inspection"')[0]
    assert abs(path.stat().st_size - without) < 500


@pytest.mark.parametrize(
    "number, said",
    [(12345.0, "12,345"), (10000, "10,000"), (999.99, "1,000"), (2.5, "2.5"), (1 / 3, "0.3333"), (7.0, "7")],
)
def test_queries_that_are_shared_are_counted_as_people_count(number, said):
    assert parts(number) == said


@pytest.mark.parametrize("known, heading", [(33, "The 32 most confused of 33 labels"), (32, "All labels")])
def test_a_matrix_says_how_many_of_the_labels_it_shows(known, heading):
    names = [f"L{i:02d}" for i in range(32)]
    cells = [
        {"label": name, "retrieved": other, "share": 0.5, "n_queries": 9} for name in names for other in (name, None)
    ]
    cells += [{"label": "L00", "retrieved": "", "share": 0.1, "n_queries": 9}]
    matrix = _matrix([{"encoder": "e", "label": name, "labels": known} for name in names], cells)
    shown = [{"encoder": "e", "pairs": [], "matrix": matrix}]
    page = _environment().get_template("confusion.html.j2").render(confusions=shown, random=set())
    assert re.findall("<h3>(.*?)</h3>", page) == [heading]


def test_names_in_a_drawing_stay_what_they_are():
    from matplotlib.figure import Figure

    name = ' id="x_1" #010203 width="3pt" font-family: y; xmlns="z" <b>-->'
    with on_page("names"):
        figure = Figure(figsize=(4, 1))
        figure.text(0.1, 0.5, name)
        svg = svg_element(figure)
    assert [html.unescape(text) for text in re.findall("<text[^>]*>([^<]*)</text>", svg)] == [name]
    assert "font-family: inherit" in svg
    assert not re.search(r'<[^>]* (id="[a-z]+_[0-9]+"|xmlns)', svg)


# tables


class Rows(HTMLParser):
    """Of each table: its classes, and the tags and scopes of the first cell of each row of its bodies."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.kinds, self.firsts, self.id, self.in_body, self.awaits = {}, {}, None, False, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "table":
            self.id = attributes["id"]
            self.kinds[self.id] = set((attributes.get("class") or "").split())
        self.in_body = tag == "tbody" or (self.in_body and tag != "thead")
        if tag == "tr":
            self.awaits = self.in_body and attributes.get("class") != "gap"
        elif tag in ("td", "th") and self.awaits:
            self.firsts.setdefault(self.id, set()).add((tag, attributes.get("scope")))
            self.awaits = False


def test_every_row_of_every_table_has_a_heading_that_stays_in_sight(study):
    labels = ("XR/chest/A", "XR/chest/B")
    publish(study, "scaling", scaling_rows(encoders=("plain",), labels=labels))
    publish(study, "search_effort", effort_rows(encoders=("plain",)))
    found = Rows(text(study, examples=2))
    assert found.firsts.keys() >= {
        "leaderboard-table",
        "label-chart",
        "by-region",
        "problems",
        "remarks",
        "failure-rows",
        "index_size-table",
    }
    for name, firsts in found.firsts.items():
        assert firsts <= {("th", "row"), ("th", "rowgroup")}, name
        assert found.kinds[name] & {"sticky", "heat", "matrix", "dense"}, name


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine: it runs the page's script")
def test_numbers_are_sorted_by_their_first():
    function = re.search(r"const leading = .*?\n};\n", (TEMPLATES / "sort.js").read_text(), re.DOTALL).group()
    cells = [
        "9.5 (9–10)",
        "12.1 (11–13)",
        "1,234 (1,100–1,300)",
        "–",
        "0.0123",
        "−3.5",
        "7 †",
        "",
        ".5",
        "1e-05",
        "3.4 %",
    ]
    code = f"{function} console.log(JSON.stringify({cells}.map(leading).map((n) => n === -Infinity ? null : n)))"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[9.5,12.1,1234,null,0.0123,-3.5,7,null,0.5,0.00001,3.4]"
