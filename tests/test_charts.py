"""The charts: what is drawn is what the datasets hold, can be read in grey, and says what is extrapolated."""

import csv
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cbmir.errors import UserError
from cbmir.fresh import is_fresh
from cbmir.report import write_figures
from cbmir.report.charts import by_size, index_size, look
from cbmir.report.charts.every import CHARTS
from cbmir.report.charts.ink import on_paper
from cbmir.report.drawn import Asked
from cbmir.sql_files import read
from cbmir.store import Study, fingerprint, path_name, run_record
from cbmir.study import Study as PythonStudy
from tests.processes import cbmir
from tests.scaling_studies import (
    ENCODERS,
    INDEXES,
    LABELS,
    SIZES,
    add_search,
    cost_rows,
    effort_rows,
    empty_study,
    fit_rows,
    forest_rows,
    publish,
    scaling_rows,
    vanished_rows,
    whole_study,
)

NAMES = [chart.name for chart in CHARTS]
CURVE = ["encoder", "index", "sampling", "relevance", "slice_by", "slice", "average", "k"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return whole_study(tmp_path_factory.mktemp("charts") / "study")


@pytest.fixture(scope="module")
def files(study) -> dict[str, bytes]:
    """Name of a file in figures/ -> its bytes."""
    return {Path(path).name: Path(path).read_bytes() for path in write_figures(study)}


def rows_of(files: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(files[f"{name}.csv"]))


def drawn(study: Study, name: str):
    """The chart as a figure of matplotlib."""
    (one,) = Asked(study).charts(name)
    with on_paper(name):
        return one.chart.draw(one.rows, one.order)


def lines_called(figure, name: str) -> list:
    return [line for axes in figure.axes for line in axes.lines if (line.get_gid() or "").startswith(f"{name}-of-")]


def bands(figure) -> list:
    found = [c for axes in figure.axes for c in axes.collections if (c.get_gid() or "").startswith("band-of-")]
    return found


def dashes(line) -> str:
    return str(line._unscaled_dash_pattern)


# what is written


def test_every_chart_is_written_as_svg_png_and_csv(study, files):
    assert set(files) == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png", "csv")}
    run = study.require("figures")
    assert run["inputs"]["scaling"] == study.require("scaling")["fingerprint"]
    assert set(run["says"]) == set(NAMES)
    for name in NAMES:
        picture = Image.open(io.BytesIO(files[f"{name}.png"]))
        assert picture.width == 2160  # 7.2 inches
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert np.asarray(picture.convert("L"))[0, 0] == 255
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        text = files[f"{name}.svg"].decode()
        assert text.startswith("<?xml")
        assert "<text" not in text  # letters are outlines
        assert "<dc:date>" not in text


def test_the_same_figures_give_the_same_bytes(study, files):
    assert {Path(path).name: Path(path).read_bytes() for path in write_figures(study)} == files
    code = (
        "import sys, hashlib; from pathlib import Path; from cbmir.report import write_figures; from cbmir.store import Study\n"
        "print(hashlib.sha256(b''.join(Path(p).read_bytes() for p in write_figures(Study(sys.argv[1])))).hexdigest())"
    )
    command = [sys.executable, "-c", code, study.address]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == hashlib.sha256(b"".join(files.values())).hexdigest()


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(UserError, match=r"nothing to draw: .* cbmir evaluate"):
        write_figures(empty_study(tmp_path / "study"))


# the tables


def test_the_table_of_sizes_is_that_of_pandas(study, files):
    scaling = pd.read_parquet(study.path("scaling", "scaling.parquet"))
    rows = scaling[(scaling["relevance"] == "label") & (scaling["slice_by"] == "all")]
    means = rows.groupby([*CURVE, "gallery_size"])
    expected = means.agg(value=("value", "mean"), low=("value", "min"), high=("value", "max"), seeds=("seed", "nunique"),
                         n_vanished=("n_vanished", "mean"), chance=("chance", "mean"), ci_low=("ci_low", "min"), ci_high=("ci_high", "max"))  # fmt: skip
    found = rows_of(files, "index_size")
    known = found[~found["is_extrapolation"]].copy()
    known["slice"] = "all"
    known = known.set_index([*CURVE, "gallery_size"]).sort_index()
    assert len(known) == len(expected) == 2 * 3 * 4 * 2 * 2
    for column in expected.columns:
        assert known[column].to_numpy() == pytest.approx(expected.loc[known.index, column].to_numpy(), rel=1e-12), (
            column
        )


def test_what_is_extrapolated_is_the_chosen_fit(study, files):
    fits = pd.read_parquet(study.path("fits", "fits.parquet"))
    fits = fits[fits["is_chosen"] & fits["is_extrapolation"] & (fits["slice_by"] == "all")]
    found = rows_of(files, "index_size")
    ahead = found[found["is_extrapolation"]]
    assert len(ahead) == len(fits) == 2 * 3 * 2 * 2 * 2
    assert set(ahead["gallery_size"]) == {256_000, 640_000}
    keys = ["encoder", "index", "average", "k", "gallery_size"]
    left, right = ahead.set_index(keys).sort_index(), fits.set_index(keys).sort_index()
    for column in ("value", "ci_low", "ci_high"):
        assert left[column].to_numpy() == pytest.approx(right[column].to_numpy(), rel=1e-12)
    assert json.loads(ahead["parameters"].iloc[0])[1:] == [4.0, 0.35]


def test_costs_are_medians_over_samples(study, files):
    costs = pd.read_parquet(study.path("scaling_costs", "scaling_costs.parquet"))
    costs["query_milliseconds"] = 1000 * costs["search_seconds"] / costs["n_queries"]
    costs["graph_megabytes"], costs["peak_megabytes"] = costs["graph_bytes"] / 1e6, costs["peak_bytes"] / 1e6
    costs["expansion"] = costs["expansion_search"]
    found = rows_of(files, "index_size_costs")
    for quantity in ("recall", "expansion", "build_seconds", "query_milliseconds", "graph_megabytes", "peak_megabytes"):
        expected = costs.dropna(subset=[quantity]).groupby(["encoder", "index", "gallery_size"])[quantity]
        rows = found[found["quantity"] == quantity].set_index(["encoder", "index", "gallery_size"]).sort_index()
        for column, values in (("value", expected.median()), ("low", expected.min()), ("high", expected.max())):
            assert rows[column].to_numpy() == pytest.approx(values.sort_index().to_numpy(), rel=1e-12), quantity


def test_labels_stand_by_their_change(study, files):
    scaling = pd.read_parquet(study.path("scaling", "scaling.parquet"))
    rows = scaling[scaling["slice_by"] == "label"]
    means = rows.groupby(["slice", "encoder", "index", "gallery_size"])["value"].mean().unstack()
    change = (means[SIZES[-1]] - means[SIZES[0]].fillna(means[SIZES[1]])).groupby("slice").mean()
    queries = rows.groupby("slice")["n_queries"].max()
    order = sorted(change.index, key=lambda label: (queries[label] < 10, -abs(change[label]), label))
    found = rows_of(files, "index_size_by_label").drop_duplicates("slice").sort_values("place")
    assert found["slice"].tolist() == order
    assert found["change"].to_numpy() == pytest.approx(change[order].to_numpy(), abs=1e-12)
    assert found["slice"].tolist()[-1] == LABELS[1]  # five queries


def test_search_effort_and_image_sizes_are_the_rows_of_the_study(study, files):
    effort = pd.read_parquet(study.path("search_effort", "search_effort.parquet"))
    found = rows_of(files, "search_effort")
    assert sorted(found["value"]) == sorted(effort["value"])
    assert found["is_pareto"].sum() == effort["is_pareto"].sum() > 0
    metrics = pd.read_parquet(study.path("metrics", "metrics.parquet"))
    sizes = rows_of(files, "image_size")
    assert len(sizes) == 2 * 4 * 2 * 3
    for row in sizes.itertuples():
        where = (
            (metrics["encoder"] == row.encoder)
            & (metrics["metric"] == row.metric)
            & (metrics["average"] == row.average)
        )
        where &= metrics["k"].isna() if np.isnan(row.k) else metrics["k"] == row.k
        assert row.value == metrics.loc[where, "value"].item()
        assert row.encoder == f"{row.base_encoder}@{row.image_size}"


@pytest.mark.parametrize("chart", CHARTS, ids=NAMES)
def test_the_command_gives_the_table(study, files, chart):
    """The statement as it stands on the page, inside a shell's double quotes, gives the rows of the CSV."""
    (one,) = Asked(study).charts(chart.name)
    assert not set(one.statement) & set('"$`\\!')
    assert not one.statement.startswith("--")
    found = PythonStudy(study.address).sql(one.statement)
    written = list(csv.reader(io.StringIO(files[f"{chart.name}.csv"].decode())))
    assert list(found.columns) == written[0]
    assert len(found) == len(written) - 1 == len(one.rows)


def test_a_study_without_fits_has_curves_and_no_view_is_missing(tmp_path):
    study = empty_study(tmp_path / "study")
    publish(study, "scaling", scaling_rows(seeds=(0,)))
    curves = PythonStudy(study.address).sql("FROM scaling_curves")
    assert not curves["is_extrapolation"].any()
    assert curves["low"].isna().all()
    assert len(PythonStudy(study.address).sql("FROM fits")) == 0


def test_samples_of_whole_patients_stand_together(tmp_path):
    study = empty_study(tmp_path / "study")
    rows = [
        r | {"sampling": "patient", "gallery_size": r["gallery_size"] + 6 * r["seed"]} for r in scaling_rows(labels=())
    ]
    publish(study, "scaling", rows)
    found = PythonStudy(study.address).sql("SELECT DISTINCT gallery_size, seeds FROM scaling_curves ORDER BY 1")
    assert found["gallery_size"].tolist() == [size + 6 for size in SIZES]
    assert set(found["seeds"]) == {3}


# the drawing


def test_a_band_is_drawn_over_samples_and_not_for_one(tmp_path, study):
    (axes, *_), many = drawn(study, "index_size").axes, bands(drawn(study, "index_size"))
    assert len(many) == 6 * 4  # lines x panels
    scaling = pd.read_parquet(study.path("scaling", "scaling.parquet"))
    rows = scaling[
        (scaling["relevance"] == "label")
        & (scaling["slice_by"] == "all")
        & (scaling["average"] == "micro")
        & (scaling["k"] == 1)
    ]
    rows = rows[(rows["encoder"] == "pixels32") & (rows["index"] == "exact")].groupby("gallery_size")["value"]
    first = next(c for c in axes.collections if c.get_gid() == "band-of-0")
    corners = {(float(x), float(y)) for x, y in first.get_paths()[0].vertices}
    assert {(float(x), y) for x, y in rows.min().items()} | {(float(x), y) for x, y in rows.max().items()} <= corners
    single = empty_study(tmp_path / "study")
    publish(single, "scaling", scaling_rows(seeds=(0,)))
    assert bands(drawn(single, "index_size")) == []
    assert len(lines_called(drawn(single, "index_size"), "measured")) == 6 * 4
    texts = [text.get_text() for text in drawn(single, "index_size").legends[0].get_texts()]
    assert not any("samples" in text or "extrapolation" in text for text in texts)


def test_extrapolation_is_marked_as_such(study, files):
    figure = drawn(study, "index_size")
    ahead, known = lines_called(figure, "extrapolation"), lines_called(figure, "measured")
    assert len(ahead) == 2 * 4  # of each encoder the exact search, in the panels whose curves were fitted
    styles = {dashes(line) for line in known}
    for line in ahead:
        xs = line.get_xdata()
        assert (xs[0], xs[-1]) == pytest.approx((SIZES[-1], 640_000))
        assert dashes(line) not in styles
    assert all(max(line.get_xdata()) == SIZES[-1] for line in known)
    for line in lines_called(figure, "expected"):
        assert line.get_markerfacecolor() == "none"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert by_size.EXTRAPOLATION in texts
    assert "extrapolation" in by_size.EXTRAPOLATION
    assert [t.get_text() for t in figure.axes[0].texts] == ["extrapolation"]
    zones = [p for p in figure.axes[0].patches if p.get_gid() == "zone-of-extrapolation"]
    assert zones[0].get_x() > SIZES[-1]
    assert files["index_size.svg"].count(b'id="extrapolation-of-') == 8


def test_the_fitted_line_goes_through_what_was_predicted(study):
    rows = [row for row in Asked(study).rows("index_size") if row["is_extrapolation"]]
    for row in rows:
        assert by_size.fitted(row, row["gallery_size"]) == pytest.approx(row["value"], abs=1e-9)
    logarithm = {"model": "logarithmic", "parameters": [0.1, 0.15]}
    assert by_size.fitted(logarithm, 10_000) == pytest.approx(0.7)
    assert by_size.fitted(logarithm, 1e9) == 1.0
    power = {"model": "power", "parameters": [0.9, 2.0, 0.5]}
    assert by_size.fitted(power, 10_000) == pytest.approx(0.88)
    assert by_size.fitted(power, 1) == 0.0


def test_intervals_of_predictions_are_those_of_the_fit(study):
    figure = drawn(study, "index_size")
    rows = [
        r
        for r in Asked(study).rows("index_size")
        if r["is_extrapolation"] and (r["k"], r["average"], r["index"]) == (1, "micro", "exact")
    ]
    ends = sorted((r["ci_low"], r["ci_high"]) for r in rows)
    found = []
    for container in figure.axes[0].containers:
        (bars,) = container.lines[2]
        found += [tuple(segment[:, 1]) for segment in bars.get_segments()]
    assert np.array(sorted(found)) == pytest.approx(np.array(ends))


def test_series_differ_without_color(study):
    for name, count in (("index_size", 6), ("search_effort", 4), ("image_size", 2), ("index_size_costs", 6)):
        figure = drawn(study, name)
        styles = {(line.get_marker(), dashes(line)) for line in lines_called(figure, "measured")}
        assert len(styles) == count, name


def test_forty_lines_differ_without_color():
    encoders = [f"e{i}" for i in range(18)]
    styles = look.looks(encoders, INDEXES)
    assert len(styles) == 54
    assert len({(style["marker"], str(style["linestyle"])) for style in styles.values()}) == 54
    few = look.looks(ENCODERS, INDEXES)
    assert {few["pixels32", i]["marker"] for i in INDEXES} == {"o"}
    assert len({str(few["pixels32", i]["linestyle"]) for i in INDEXES}) == 3


def test_lines_look_different_in_grey_print():
    """Rendered in one grey, no two of the first twelve lines are alike."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = []
    for place in range(12):
        figure = Figure(figsize=(2, 0.5), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot(range(5), [0] * 5, **look.look(place) | {"color": "0.3"})
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., 0].astype(int))
    for a, b in itertools.combinations(pictures, 2):
        assert (abs(a - b) > 80).sum() > 30


def test_the_front_is_ringed_and_exact_search_is_there(study):
    effort = pd.read_parquet(study.path("search_effort", "search_effort.parquet"))
    figure = drawn(study, "search_effort")
    assert len(figure.axes) == 4
    rings = [line for line in figure.axes[0].lines if line.get_gid() == "pareto-of-panel"]
    points = set(zip(*rings[0].get_data(), strict=True))
    rows = effort[(effort["encoder"] == "pixels32") & (effort["metric"] == "ann_recall")]
    front = rows[rows["is_pareto"]]
    assert points == set(zip(front["queries_per_second"], front["value"], strict=True))
    for row in rows.itertuples():  # against the definition, pair by pair
        beaten = (rows["value"] > row.value) & (rows["queries_per_second"] > row.queries_per_second)
        assert not (row.is_pareto and beaten.any())
    (star,) = (line for line in figure.axes[0].lines if line.get_gid() == "exact-of-panel")
    assert star.get_data() == ([900.0], [1.0])
    assert {a.get_text() for a in figure.axes[0].texts} <= {"16", "32", "64", "128", "256"}
    assert [axes.get_xlabel() for axes in drawn(study, "search_effort_by_expansion").axes] == [
        "expansion of a search"
    ] * 4


def test_sizes_are_on_a_logarithmic_axis_and_chance_is_drawn(study):
    figure = drawn(study, "index_size")
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        assert axes.get_ylim()[0] == 0
        (chance,) = (line for line in axes.lines if line.get_gid() == "chance-of-panel")
        assert chance.get_ydata() == pytest.approx([0.03] * 4)
    levels = [axes.get_title(loc="left") for axes in drawn(study, "index_size_anatomy").axes]
    assert levels == ["same label", "same region", "same modality"]
    groups = [axes.get_title(loc="left") for axes in drawn(study, "index_size_by_prevalence").axes]
    assert groups == ["rare labels", "labels in between", "common labels"]
    assert len(drawn(study, "index_size_by_label").axes) == 12


# what is said


def test_sentences_say_the_figures(study):
    says = study.run_of("figures")["says"] if study.run_of("figures") else {}
    scaling = pd.read_parquet(study.path("scaling", "scaling.parquet"))
    rows = scaling[
        (scaling["relevance"] == "label")
        & (scaling["slice_by"] == "all")
        & (scaling["average"] == "micro")
        & (scaling["k"] == 1)
    ]
    means = rows[(rows["encoder"] == "pixels32") & (rows["index"] == "exact")].groupby("gallery_size")["value"].mean()
    fits = pd.read_parquet(study.path("fits", "fits.parquet"))
    far = fits[
        (fits["gallery_size"] == 640_000)
        & fits["is_chosen"]
        & (fits["encoder"] == "pixels32")
        & (fits["index"] == "exact")
    ]
    far = far[(far["slice_by"] == "all") & (far["average"] == "micro") & (far["k"] == 1)].iloc[0]
    assert says["index_size"].startswith(
        f"P@1 of pixels32 grows from {means[1_000]:.2f} at 1,000 images to {means[64_000]:.2f} at 64,000; the power law expects "
        f"{far.value:.2f} ({far.ci_low:.2f} to {far.ci_high:.2f}) at 640,000: an extrapolation. P@1 of rad-dino grows from "
    )
    assert says["leaderboard_forest"] == (
        "P@1 is highest with rad-dino@224, 0.69 (0.67 to 0.71); the interval of rad-dino@128 reaches into its own."
    )
    assert "its recall is 0.995 at 1,000 images and 0.941 at 64,000" in says["index_size_costs"]
    assert says["search_effort"].startswith(
        "With pixels32, 7 of 20 graphs and efforts are on the Pareto front of speed and ANN recall@10."
    )
    assert says["image_size"].startswith(
        "P@1 of pixels32 is highest at 224 pixels, 0.64 (0.62 to 0.66); at 28 it is 0.54."
    )


@pytest.mark.parametrize(
    "first, last, verb", [(0.5, 0.52, "grows"), (0.52, 0.5, "falls"), (0.501, 0.504, "stays near")]
)
def test_what_does_not_change_is_not_said_to(first, last, verb):
    at = {"k": 1, "encoder": "e", "index": "exact", "sampling": "random", "is_extrapolation": False}
    group = [at | {"gallery_size": 10, "value": first}, at | {"gallery_size": 99, "value": last}]
    assert f"P@1 of e {verb}" in index_size.change(group)


# few and many


def those(rows: list[dict], **where) -> list[dict]:
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


LONG = tuple(f"CT/abdomen/some pathology with a rather long name {i:03d}" for i in range(161))
MANY = tuple(f"open_clip:ViT-B-{i}/a_pretrained_name~random{i}" for i in range(15))
SPARSE = {
    "one size and seed": {"scaling": scaling_rows(encoders=ENCODERS[:1], indexes=("exact",), sizes=SIZES[:1], seeds=(0,), labels=())},
    "no exact index": {"scaling": scaling_rows(indexes=INDEXES[1:], seeds=(0,), labels=LABELS[:2]), "scaling_costs": cost_rows(indexes=("hnsw",))},
    "nothing changes": {"scaling": [row | {"value": 0.5, "chance": None, "ci_low": None} for row in scaling_rows()]},
    "nothing is found": {"scaling": [row | {"value": 0.0} for row in scaling_rows(labels=LABELS[:1])]},
    "45 lines": {"scaling": (many := scaling_rows(encoders=MANY, labels=LABELS[:2], sizes=SIZES[:2], seeds=(0, 1))), "fits": fit_rows(many)},
    "161 labels": {"scaling": scaling_rows(encoders=ENCODERS[:1], indexes=("exact",), labels=LONG)},
    "only regions": {"scaling": those(scaling_rows(seeds=(0,)), relevance="region")},
    "another metric": {"scaling": [r | {"metric": "recall_at_k"} for r in scaling_rows(labels=())], "scaling_costs": cost_rows()},
    "exact costs alone": {"scaling": scaling_rows(labels=(), seeds=(0,)), "scaling_costs": cost_rows(indexes=("exact",), sizes=SIZES[:1])},
    "fits without intervals": {"scaling": scaling_rows(labels=()), "fits": [r | {"ci_low": None, "ci_high": None} for r in fit_rows(scaling_rows())]},
    "exact effort alone": {"search_effort": those(effort_rows(), dtype="exact")},
    "effort without exact": {"search_effort": [r for r in effort_rows() if r["dtype"] != "exact" and r["metric"] == "ann_recall"]},
    "one point": {"search_effort": those(effort_rows(encoders=("x",), dtypes=("int8",), reranks=(0,), expansions=(16,)), metric="ann_recall")},
    "many efforts": {"search_effort": effort_rows(encoders=MANY[:6], dtypes=("float32", "float16", "int8"), reranks=(0, 1, 2, 4))},
    "names that are formulas": {"scaling": [r | {"encoder": "a$x_1$<b>&"} for r in scaling_rows(encoders=ENCODERS[:1], labels=(), seeds=(0,))]},
}  # fmt: skip
EXPECTED = {
    "another metric": {"index_size_costs"},
    "only regions": {"index_size", "index_size_anatomy"},
    "161 labels": {"index_size", "index_size_anatomy", "index_size_by_prevalence", "index_size_by_label"},
    "one point": {"search_effort", "search_effort_by_expansion"},
}


@pytest.mark.parametrize("kind", SPARSE)
def test_few_and_many_are_drawn(tmp_path, kind):
    study = empty_study(tmp_path / "study")
    for dataset, rows in SPARSE[kind].items():
        publish(study, dataset, rows)
    charts = {each.chart.name: each for each in Asked(study).charts()}
    assert set(charts) == EXPECTED.get(kind, set(charts)) != set()
    says = {name: each.sentence for name, each in charts.items()}
    for each in charts.values():
        assert each.on_page().startswith("<svg ")
        assert all(len(row) == len(each.table.head) for row in each.table.rows)
    assert all(said.endswith(".") and "nan" not in said and "None" not in said for said in says.values())
    if kind == "161 labels":
        assert says["index_size_by_label"].startswith("Of 161 labels ")
    if kind == "one size and seed":
        assert says["index_size"] == f"P@1 of pixels32 is {SPARSE[kind]['scaling'][0]['value']:.2f} at 1,000 images."


def test_forest_without_intervals_and_with_one_encoder(tmp_path):
    for place, (encoders, interval, said) in enumerate([
        (("a",), None, "P@1 of a is 0.60."),
        (("a", "b"), None, "P@1 is highest with a, 0.60; lowest with b, 0.59."),
        (("a", "b"), 0.002, "P@1 is highest with a, 0.60 (0.60 to 0.60); no other encoder's interval reaches into its own."),
        (tuple("abcdefgh"), 0.2, "P@1 is highest with a, 0.60 (0.40 to 0.80); the intervals of 7 others reach into its own."),
    ]):  # fmt: skip
        study = empty_study(tmp_path / str(place))
        publish(
            study,
            "metrics",
            forest_rows(encoders, interval=interval),
            inputs={f"{e} exact": add_search(study, e) for e in encoders},
        )
        assert len(write_figures(study)) == 3
        assert study.require("figures")["says"]["leaderboard_forest"] == said


def test_the_forest_is_of_one_question_and_of_the_whole_gallery(tmp_path):
    study = empty_study(tmp_path / "study")
    rows = forest_rows(("a", "b")) + [row | {"index": "hnsw", "value": 0.9} for row in forest_rows(("a",))]
    inputs = {f"{name} exact": add_search(study, name) for name in "ab"} | {"a hnsw": add_search(study, "a", "hnsw")}
    publish(study, "metrics", rows, inputs=inputs)
    publish(study, "scaling", scaling_rows(encoders=("a",), indexes=("exact",), seeds=(0,), labels=()))
    found = Asked(study).rows("leaderboard_forest")
    assert [(row["encoder"], row["index"]) for row in found] == [("a", "exact"), ("b", "exact")] * 2


# what is outdated


def test_figures_of_other_images_or_vectors_are_not_drawn(tmp_path):
    study = empty_study(tmp_path / "study")
    rows = scaling_rows(labels=(), seeds=(0,))
    publish(study, "scaling", rows)
    assert is_fresh(study, "scaling")
    assert not is_fresh(study, "fits")
    publish(study, "scaling", rows, inputs={"manifest": "another"})
    assert not is_fresh(study, "scaling")
    with pytest.raises(UserError, match="nothing to draw"):
        write_figures(study)


def embedded(study: Study, encoder: str, content: str) -> str:
    run = run_record("embed", parameters={}, inputs={"content": content}, rows=0)
    study.write_json(run, "embeddings", f"encoder={path_name(encoder)}", "run.json")
    return run["fingerprint"]


def test_samples_and_efforts_of_other_vectors_are_outdated(tmp_path):
    study = empty_study(tmp_path / "study")
    name, manifest = "open_clip:ViT/x", study.require("manifest")["fingerprint"]
    vectors = embedded(study, name, "first")
    cell = run_record("cell", parameters={}, inputs={"manifest": manifest, "embeddings": vectors}, rows=0)
    study.write_json(cell, "scaling_cells", path_name(name), "exact", "random-s0-n1000", "run.json")
    publish(study, "scaling", scaling_rows(labels=()), inputs={f"{name}/exact/random-s0-n1000": cell["fingerprint"]})
    publish(study, "search_effort", effort_rows(), inputs={name: f"{vectors} {manifest}"})
    publish(study, "image_sizes", [], inputs={name: vectors, "somebody's": "own"})
    assert [is_fresh(study, d) for d in ("scaling", "search_effort", "image_sizes")] == [True] * 3
    embedded(study, name, "second")
    assert [is_fresh(study, d) for d in ("scaling", "search_effort", "image_sizes")] == [False] * 3


def test_metrics_older_than_their_searches_are_outdated(tmp_path):
    study = empty_study(tmp_path / "study")
    publish(study, "metrics", forest_rows(("a",)), inputs={"a exact": add_search(study, "a")})
    assert is_fresh(study, "metrics")
    run = study.require("neighbors", "a", "exact")
    study.write_json(run | {"fingerprint": fingerprint("another")}, "neighbors", "a", "exact", "run.json")
    assert not is_fresh(study, "metrics")


def test_vanished_labels_are_counted(tmp_path):
    study = empty_study(tmp_path / "study")
    publish(study, "scaling", scaling_rows())
    publish(study, "vanished", vanished_rows(labels=LABELS[:3]))
    rows = Asked(study).rows("vanished_labels")
    assert len(rows) == 2 * 3
    assert {(row["samples"], row["gone"], row["touched"], row["n_queries"]) for row in rows} == {(3, 2, 3, 40.0)}


def test_every_chart_and_its_statement_are_documented():
    page = (Path(__file__).parents[1] / "docs" / "figures.md").read_text()
    for chart in CHARTS:
        assert re.search(rf"^\| `{chart.name}` \|.*\(\.\./sql/report/{chart.statement}\.sql\)", page, re.MULTILINE), (
            chart.name
        )


def test_a_statement_can_be_piped(study):
    done = cbmir("sql", "--study", study.address, input=read("report", "index_size"))
    assert done.returncode == 0, done.stderr
    assert f"{len(Asked(study).rows('index_size'))} rows" in done.stdout


def test_gids_are_in_the_files(files):
    kinds = set(re.findall(rb'id="([a-z]+)-of-', files["index_size.svg"]))
    assert {b"measured", b"band", b"extrapolation", b"expected", b"chance", b"zone"} <= kinds
