"""The report's sections of studies: drawing, sentence, table and statement, where their datasets are there and not outdated."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from cbmir.report import write_report
from cbmir.report.charts.every import CHARTS
from cbmir.report.drawn import Asked
from cbmir.report.studies import sections, vanished
from cbmir.sampled.told import lines
from cbmir.store import Study
from cbmir.study import Study as PythonStudy
from tests.scaling_studies import (
    LABELS,
    SIZES,
    add_image_sizes,
    add_studies,
    cost_rows,
    effort_rows,
    empty_study,
    publish,
    scaling_rows,
    vanished_rows,
)
from tests.test_report import make_study

ENCODERS = ("plain", "second")
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Sections with their charts: the alternative text, whether there is an SVG, cells of the table, the command."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.charts, self.tables, self.scripts = [], {}, {}, 0
        self.chart = self.table = self.text = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.scripts += tag == "script"
        if "study" in (attributes.get("class") or "").split():
            self.chart = self.charts.setdefault(attributes["id"], {"svg": 0, "details": 0})
        if self.chart is not None:
            if attributes.get("role") == "img":
                self.chart["alternative"] = attributes["aria-label"]
            self.chart["svg"] += tag == "svg"
            self.chart["details"] += tag == "details"
        if tag == "table":
            self.table = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr" and self.table is not None:
            self.table.append([])
        if tag in ("td", "th", "pre", "p"):
            self.text = ""

    def handle_endtag(self, tag):
        if self.text is not None and tag in ("td", "th", "pre", "p"):
            if tag in ("td", "th") and self.table is not None:
                self.table[-1].append(" ".join(self.text.split()))
            elif tag == "pre" and self.chart is not None:
                self.chart["command"] = self.text
            elif tag == "p" and self.chart is not None:
                self.chart.setdefault("sentence", " ".join(self.text.split()))
            self.text = None
        elif tag == "table":
            self.table = None
        elif tag == "section":
            self.chart = None

    def handle_data(self, data):
        if self.text is not None:
            self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study with metrics, and all studies of the same two encoders."""
    study = make_study(tmp_path_factory.mktemp("report"), encoders=ENCODERS)
    add_studies(study, ENCODERS, vanished=(LABELS[0], EVIL))
    add_image_sizes(study, ENCODERS)
    return study


@pytest.fixture(scope="module")
def html(study) -> str:
    return Path(write_report(study, examples=1)).read_text()


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_every_chart_is_there_once_in_the_order_of_the_report(page):
    names = [chart.name for chart in CHARTS]
    assert [name for name in page.charts if name != "vanished"] == names
    assert list(page.charts).index("vanished") == names.index("index_size") + 1
    assert all(page.charts[name]["svg"] == 1 for name in names)


def test_sections_stand_between_the_curves_and_the_pathologies(html):
    places = [html.index(f'<section id="{name}"') for name in
              ("curves", "levels", "intervals", "index-size", "search-effort", "image-size", "labels")]  # fmt: skip
    assert places == sorted(places)
    for name in ("curves", "levels", "intervals", "index-size", "search-effort", "image-size"):
        assert html.count(f'<a href="#{name}">') == 1


def test_each_chart_says_what_is_to_be_seen(study, page):
    for drawn in Asked(study).charts():
        chart = page.charts[drawn.chart.name]
        assert chart["sentence"] == drawn.sentence
        assert chart["alternative"] == f"{drawn.chart.title}. {drawn.sentence}"
    assert ": an extrapolation." in page.charts["index_size"]["sentence"]


def test_the_command_behind_each_chart_gives_its_table(study, page):
    for name, chart in page.charts.items():
        if name == "search_effort_by_expansion":  # of the same points as the chart before
            assert chart["details"] == 0
            continue
        assert chart["details"] == 1
        start, statement, end = (
            chart["command"].partition('"')[0],
            chart["command"].split('"')[1],
            chart["command"].split('"')[2],
        )
        assert (start, end) == ("cbmir sql --study STUDY ", "")
        found = PythonStudy(study.address).sql(statement)
        assert len(found) > 0
        if name == "search_effort":
            assert len(page.tables[f"{name}-table"]) == 1 + len(found)


def test_the_table_of_sizes_shows_means_ranges_and_predictions(study, page):
    head, *rows = page.tables["index_size-table"]
    assert head == [
        "figure",
        "encoder",
        "index",
        "1,000",
        "4,000",
        "16,000",
        "64,000",
        "256,000 extrapolated",
        "640,000 extrapolated",
    ]
    scaling = pd.read_parquet(study.path("scaling", "scaling.parquet"))
    fits = pd.read_parquet(study.path("fits", "fits.parquet"))
    assert len(rows) == 2 * 2 * 2 * 3
    for figure, encoder, index, *cells in rows:
        k, average = figure.removeprefix("P@").split(", ")
        where = {
            "encoder": encoder,
            "index": index,
            "average": average,
            "k": int(k),
            "slice_by": "all",
            "relevance": "label",
        }
        mine = scaling[(scaling[list(where)] == pd.Series(where)).all(axis=1)].groupby("gallery_size")["value"]
        expected = [
            f"{mean:.3f} ({low:.3f}–{high:.3f})"
            for mean, low, high in zip(mine.mean(), mine.min(), mine.max(), strict=True)
        ]
        assert cells[:4] == expected
        ahead = fits[(fits[list(where)] == pd.Series(where)).all(axis=1) & fits["is_chosen"] & fits["is_extrapolation"]]
        predicted = [
            f"{r.value:.3f} ({r.ci_low:.3f}–{r.ci_high:.3f})" for r in ahead.sort_values("gallery_size").itertuples()
        ]
        assert cells[4:] == (predicted or ["–", "–"])


def test_every_label_is_in_the_table(page):
    rows = page.tables["index_size_by_label-table"][1:]
    assert len(rows) == 15 * 2 * 3
    assert {row[0] for row in rows} == set(LABELS)
    assert [row[3] for row in rows if row[0] == LABELS[0]] == ["–"] * 6  # vanished from the smallest samples


def test_vanished_labels_are_said_and_listed(page):
    said = page.charts["vanished"]["sentence"]
    assert said.startswith(
        "2 labels have nothing to find in at least one sample of 1,000 images (<script>alert('x')</script> and XR/chest/finding 00); "
    )
    assert "; 40 queries a sample are left out" in said  # as n_vanished of the samples has it, not the sum over labels
    rows = page.tables["vanished-table"][1:]
    assert len(rows) == 2 * 2
    assert rows[-1] == [LABELS[0], "second", "random", "1,000", "3", "2", "40.0"]


def test_no_name_inside_the_page_stands_twice_and_nothing_foreign_runs(html, page):
    assert len(page.ids) == len(set(page.ids))
    assert page.scripts == 1
    assert "<script>alert" not in html
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'xlink:href="#([^"]+)"', html))
    assert used <= set(page.ids)
    assert "http" not in html.replace("http-equiv", "")


def test_drawings_take_their_ink_from_the_page(html):
    drawings = re.findall(r'<div class="plot".*?</div>', html, re.DOTALL)
    assert len(drawings) == len(CHARTS)
    for svg in drawings:
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "font-family: inherit" in svg
    of_sizes = drawings[[chart.name for chart in CHARTS].index("index_size")]
    assert '<g class="extrapolation">' in of_sizes
    assert ">extrapolation</text>" in of_sizes
    assert 'class="band"' in of_sizes


def test_the_same_study_gives_the_same_page(study, html):
    assert Path(write_report(study, examples=1)).read_text() == html


def test_only_what_is_there_and_not_outdated_has_a_section(tmp_path):
    study = make_study(tmp_path, encoders=("plain",))

    def shown() -> dict[str, list[str]]:
        return {section["id"]: [chart["name"] for chart in section["charts"]] for section in sections(study)}

    of_metrics = ["curves", "levels", "intervals"]
    assert shown() == {
        "curves": ["precision_at_every_k"],
        "levels": ["anatomy_and_pathology"],
        "intervals": ["leaderboard_forest"],
    }
    publish(study, "search_effort", effort_rows(encoders=("plain",)))
    assert list(shown()) == [*of_metrics, "search-effort"]
    publish(study, "scaling", scaling_rows(encoders=("plain",), labels=(), seeds=(0,), sizes=SIZES[:1]))
    assert shown()["index-size"] == ["index_size", "index_size_anatomy", "index_size_by_prevalence"]
    publish(study, "search_effort", effort_rows(encoders=("plain",)), inputs={"manifest": "of before"})
    assert list(shown()) == [*of_metrics, "index-size"]
    html = Path(write_report(study, examples=0)).read_text()
    assert 'id="index-size"' in html
    assert "extrapolation</text>" not in html
    assert "extrapolated" not in html
    assert 'class="band"' not in html
    assert 'id="search-effort"' not in html


def test_long_tables_are_cut_and_say_so(tmp_path, monkeypatch):
    from cbmir.report import studies

    study = empty_study(tmp_path / "study")
    publish(study, "search_effort", effort_rows())
    monkeypatch.setattr(studies, "MOST_ROWS", 10)
    (section,) = sections(study)
    assert (len(section["charts"][0]["rows"]), section["charts"][0]["left_out"]) == (10, 84 - 10)


def test_sentences_about_what_vanished(tmp_path):
    study = empty_study(tmp_path / "study")
    publish(study, "scaling", scaling_rows(encoders=("a",), labels=()))
    assert vanished(Asked(study)) is None
    many = tuple(f"label {i:02d}" for i in range(11))
    later = vanished_rows(encoders=("a",), labels=many[:1], size=SIZES[1])
    publish(study, "vanished", vanished_rows(encoders=("a",), labels=many) + later)
    said = vanished(Asked(study))["sentence"]
    assert said.startswith(
        "11 labels have nothing to find in at least one sample of 1,000 images (label 00, label 01, "
    )
    assert "label 07 and 3 more)" in said
    assert said.endswith("The largest samples that leave any out have 4,000 images.")
    rows = scaling_rows(encoders=("a",), labels=())
    publish(study, "scaling", [row | {"n_vanished": 1} if row["n_vanished"] else row for row in rows])
    partly = [row | {"is_gone": False, "n_queries": 1} for row in vanished_rows(encoders=("a",), labels=many[:1])]
    publish(study, "vanished", partly)
    assert vanished(Asked(study))["sentence"].startswith(
        "Every label has something to find in every sample of 1,000 images; 1 query a sample is left out "
    )


def test_a_query_of_two_labels_that_vanish_is_left_out_once(tmp_path):
    study = empty_study(tmp_path / "study")
    publish(study, "scaling", scaling_rows(encoders=("a",), indexes=("exact",), labels=(), seeds=(0,)))
    publish(study, "vanished", vanished_rows(encoders=("a",), seeds=(0,), labels=("A", "B")))
    assert "; 40 queries a sample are left out" in vanished(Asked(study))["sentence"]
    (told,) = [line for line in lines_told(study) if "have no image in the sample" in line]
    assert "up to 2 labels have no image in the sample, 'A' for one; up to 40 queries, to which" in told
    none = scaling_rows(encoders=("a",), indexes=("exact",), labels=(), seeds=(0,), sizes=SIZES[1:])
    none += [row | {"sample_size": SIZES[0], "gallery_size": SIZES[0]} for row in none if row["relevance"] == "region"]
    publish(study, "scaling", none)
    assert "; every query is left out" in vanished(Asked(study))["sentence"]
    assert any("'A' for one; all queries, to which" in line for line in lines_told(study))


def lines_told(study: Study) -> list[str]:
    """What the command of the study tells in the terminal."""
    if not study.run_of("fits"):
        publish(study, "fits", [])
        publish(study, "scaling_costs", cost_rows(encoders=("a",), indexes=("exact",), seeds=(0,)))
    return list(lines(study, ["a"], "precision_at_k"))
