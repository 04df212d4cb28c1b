"""Which searches ask the same: leaderboard, charts, ranking and SQL go by one statement, and never set figures of two questions side by side."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.report import leaderboard, leaderboard_text, write_figures, write_report
from cbmir.report.charts.every import CHARTS
from cbmir.report.drawn import Asked
from cbmir.report.ranking import question_of, ranking
from cbmir.report.sources import Sources
from cbmir.schemas import METRICS
from cbmir.store import Study
from cbmir.study import Study as PythonStudy
from tests.scaling_studies import add_search as record_search
from tests.scaling_studies import empty_study, forest_rows, image_size_rows, publish, scaling_rows
from tests.test_report import Page, add_encoder, add_search, make_study

OF_METRICS = [chart.name for chart in CHARTS if chart.reads == ("metrics",)]


def scored(study: Study) -> Study:
    evaluate(study, EvaluateOptions(allow_overlap=True), say=lambda *_: None)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Two encoders ask one question in two ways of writing it; of one there are further exact searches: another question, with a name that comes first."""
    study = make_study(tmp_path_factory.mktemp("questions"), encoders=("plain", "second"))
    manifest = study.dataset("manifest").to_table()
    add_search(study, manifest, "plain", "exact", saved_as="a-patient", seed=5, exclude_same=("image_id",))
    add_search(study, manifest, "second", "exact", seed=1, gallery="split  =  'train'")
    return scored(study)


def test_the_same_images_are_one_question_however_they_are_named(study):
    rows = leaderboard(study)
    assert [(row["letter"], row["encoder"], row["index"]) for row in rows if row["letter"] == "B"] == [
        ("B", "plain", "a-patient")
    ]
    assert {(row["encoder"], row["index"]) for row in rows if row["letter"] == "A"} == {
        ("plain", "exact"),
        ("second", "exact"),
    }


def test_sql_and_the_report_number_questions_alike(study):
    columns = ["question", "encoder", "index", "turn", "approximate", "gallery", "queries", "exclude_same"]
    asked = PythonStudy(study.address).sql("FROM searches")[columns].to_dict("records")
    assert asked == [{name: search[name] for name in columns} for search in Sources(study).searches]
    assert len(asked) == 3


def test_charts_are_of_the_question_that_the_leaderboard_calls_a(study):
    board = {row["encoder"]: row["p1_micro"] for row in leaderboard(study) if row["letter"] == "A"}
    for drawn in Asked(study).charts(*OF_METRICS):
        rows = [
            row
            for row in drawn.rows
            if row.get("average", "micro") == "micro" and (row["k"], row["relevance"]) == (1, "label")
        ]
        assert {row["encoder"]: row["value"] for row in rows} == board, drawn.chart.name


def test_charts_name_their_question_where_there_are_several(study, tmp_path):
    words = "Question A (gallery: split = 'train'; queries: split = 'test'): "
    write_figures(study)
    says = study.require("figures")["says"]
    assert set(OF_METRICS) == set(says) == {"precision_at_every_k", "anatomy_and_pathology", "leaderboard_forest"}
    page = Path(write_report(study, examples=0)).read_text().replace("&#39;", "'")
    for drawn in Asked(study).charts():
        assert says[drawn.chart.name].startswith(f"{words}P@")
        assert f"<p>{says[drawn.chart.name]}</p>" in page
        assert "question A" in drawn.on_page()
    for drawn in Asked(make_study(tmp_path)).charts():
        assert drawn.sentence.startswith("P@")
        assert "question" not in drawn.on_page()


def test_a_search_without_figures_asks_nothing_and_samples_of_the_gallery_are_no_searches(tmp_path):
    study = empty_study(tmp_path / "study")
    inputs = {f"{name} exact": record_search(study, name) for name in "ab"}
    inputs["a hnsw"] = record_search(study, "a", "hnsw")
    rows = forest_rows(("a", "b")) + [row | {"index": "hnsw", "value": 0.9} for row in forest_rows(("a",))]
    publish(study, "metrics", rows, inputs=inputs)
    for name in "cdef":  # of another question, by more encoders, not scored yet
        record_search(study, name, question="another", queries=5_000)
    publish(study, "scaling", scaling_rows(encoders=("a", "c"), indexes=("exact",), seeds=(0,), labels=()))
    found = Asked(study).rows("leaderboard_forest")
    assert [(row["encoder"], row["index"], row["questions"]) for row in found] == [
        ("a", "exact", 1),
        ("b", "exact", 1),
    ] * 2


def test_the_question_that_most_encoders_were_searched_exactly_for_is_the_first(tmp_path):
    study = empty_study(tmp_path / "study")
    inputs, rows = {}, []
    for encoder, index, asked in (("a", "exact", "x"), ("b", "exact", "x"), ("a", "hnsw", "y"), ("b", "hnsw", "y"), ("c", "hnsw", "y")):  # fmt: skip
        inputs[f"{encoder} {index}"] = record_search(study, encoder, index, question=asked, queries=9_000)
        rows += [row | {"index": index} for row in forest_rows((encoder,))]
    publish(study, "metrics", rows, inputs=inputs)
    found = {(row["encoder"], row["index"]): row["question"] for row in Asked(study).rows("searches")}
    assert {index: number for (_, index), number in found.items()} == {"exact": 1, "hnsw": 2}
    assert {row["encoder"] for row in Asked(study).rows("leaderboard_forest")} == {"a", "b"}


def test_image_sizes_are_of_one_question(tmp_path):
    """Three encoders ask `other`; of the sizes one does by the name exact, and both ask `sized`."""
    study = empty_study(tmp_path / "study")
    listed, figures = image_size_rows(bases=("e",), sizes=(28, 64))
    publish(study, "image_sizes", listed)
    rows, inputs = list(figures), {"e@64 exact": record_search(study, "e@64", question="sized")}
    rows += [row | {"index": "mine"} for row in figures if row["encoder"] == "e@28"]
    rows = [row | {"value": 0.99} if (row["encoder"], row["index"]) == ("e@28", "exact") else row for row in rows]
    inputs["e@28 mine"] = record_search(study, "e@28", saved_as="mine", question="sized")
    for encoder in ("e@28", "p", "q", "r"):
        inputs[f"{encoder} exact"] = record_search(study, encoder, question="other", gallery="TRUE")
    publish(study, "metrics", rows + forest_rows(("p", "q", "r")), inputs=inputs)
    (drawn,) = Asked(study).charts("image_size")
    assert {(row["encoder"], row["index"]) for row in drawn.rows} == {("e@28", "mine"), ("e@64", "exact")}
    assert {row["question"] for row in drawn.rows} == {2}
    assert drawn.sentence.startswith(
        "Question B (gallery: split = 'train'; queries: split = 'test'): P@1 of e is highest"
    )
    assert "mAP@5, micro" in {row[1] for row in drawn.table.rows}


def test_a_ranking_is_of_one_question_by_whatever_name_it_is_stored(study):
    sources = Sources(study)
    assert question_of(sources, ["plain", "second"]) == question_of(sources, ["plain"]) == 1
    metrics = pd.read_parquet(study.path("metrics", "metrics.parquet"))
    mine = metrics.query(
        "metric == 'precision_at_k' and relevance == 'label' and slice_by == 'all' and average == 'micro' and k == 1"
    ).set_index(["encoder", "index"])["value"]
    first = ranking(sources, ["plain", "second"], question=1, relevance="label", k=1)
    assert {row["encoder"]: row["value"] for row in first} == {
        "plain": mine["plain", "exact"],
        "second": mine["second", "exact"],
    }
    assert {row["n_tests"] for row in first if not row["is_best"]} != {None}
    (other,) = ranking(sources, ["plain", "second"], question=2, relevance="label", k=1)
    assert (other["encoder"], other["value"]) == ("plain", mine["plain", "a-patient"])


def test_recall_is_at_a_depth_that_all_searches_have(tmp_path):
    study = make_study(tmp_path, encoders=("deep",), indexes=("exact", "hnsw"))
    manifest = study.dataset("manifest").to_table()
    add_encoder(study, manifest, "short", indexes=("exact", "hnsw"), k=5, seed=3)
    scored(study)
    metrics = pd.read_parquet(study.path("metrics", "metrics.parquet"))
    recall = metrics.query("metric == 'ann_recall' and slice_by == 'all'").set_index(["encoder", "k"])["value"]
    shown = {row["encoder"]: row["ann_recall"] for row in leaderboard(study) if row["approximate"]}
    assert shown == {name: recall[name, 5] for name in ("deep", "short")}
    assert recall["deep", 5] != recall["deep", 10]
    assert "recall@5" in leaderboard_text(leaderboard(study))
    assert "recall@5" in Page(Path(write_report(study, examples=0)).read_text()).tables["leaderboard-table"][1]
    of_own = (metrics["metric"] != "ann_recall") | (metrics["k"] == metrics["encoder"].map({"deep": 10, "short": 5}))
    run = study.require("metrics")
    with study.publishing("metrics") as out:
        out.write_table(pa.Table.from_pandas(metrics[of_own], METRICS, preserve_index=False), "part.parquet", "metrics")
        out.run = run
    table = Page(Path(write_report(study, examples=0)).read_text()).tables["leaderboard-table"]
    assert "recall" in table[1]
    cells = {row[0].split()[0]: row[table[1].index("recall")] for row in table[3:] if row[1] == "hnsw"}
    assert cells == {"deep": f"{100 * recall['deep', 10]:.1f} @10", "short": f"{100 * recall['short', 5]:.1f} @5"}
    text = leaderboard_text(leaderboard(study))
    assert "recall@" not in text
    assert all(cell in text for cell in cells.values())


def test_the_lead_says_that_its_figure_is_approximate(study, tmp_path):
    lead = "by approximate search (hnsw), the nearest neighbor shares"
    alone = make_study(tmp_path, indexes=("hnsw",))
    assert lead in " ".join(Path(write_report(alone, examples=0)).read_text().split())
    assert "approximate search" not in Path(write_report(study, examples=0)).read_text()
    assert all("plain (hnsw)" in drawn.sentence for drawn in Asked(alone).charts())
