"""The charts as they are drawn: what stands in them is what the datasets hold, and can be read in grey; and when they are left out."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from cbmir.errors import UserError
from cbmir.report import write_figures
from cbmir.report.charts import by_size, look
from cbmir.report.charts.ink import on_paper
from cbmir.report.drawn import Asked
from cbmir.report.fresh import is_fresh
from cbmir.store import Study, fingerprint, path_name, run_record
from tests.scaling_studies import (
    ENCODERS,
    INDEXES,
    SIZES,
    add_search,
    effort_rows,
    empty_study,
    forest_rows,
    publish,
    scaling_rows,
)


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


# the drawing


def test_a_band_is_drawn_over_samples_and_not_for_one(tmp_path, charted):
    (axes, *_), many = drawn(charted, "index_size").axes, bands(drawn(charted, "index_size"))
    assert len(many) == 6 * 4  # lines x panels
    scaling = pd.read_parquet(charted.path("scaling", "scaling.parquet"))
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


def test_extrapolation_is_marked_as_such(charted, figure_files):
    figure = drawn(charted, "index_size")
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
    assert figure_files["index_size.svg"].count(b'id="extrapolation-of-') == 8


def test_the_fitted_line_goes_through_what_was_predicted(charted):
    rows = [row for row in Asked(charted).rows("index_size") if row["is_extrapolation"]]
    for row in rows:
        assert by_size.fitted(row, row["gallery_size"]) == pytest.approx(row["value"], abs=1e-9)
    logarithm = {"model": "logarithmic", "parameters": [0.1, 0.15]}
    assert by_size.fitted(logarithm, 10_000) == pytest.approx(0.7)
    assert by_size.fitted(logarithm, 1e9) == 1.0
    power = {"model": "power", "parameters": [0.9, 2.0, 0.5]}
    assert by_size.fitted(power, 10_000) == pytest.approx(0.88)
    assert by_size.fitted(power, 1) == 0.0


def test_intervals_of_predictions_are_those_of_the_fit(charted):
    figure = drawn(charted, "index_size")
    rows = [
        r
        for r in Asked(charted).rows("index_size")
        if r["is_extrapolation"] and (r["k"], r["average"], r["index"]) == (1, "micro", "exact")
    ]
    ends = sorted((r["ci_low"], r["ci_high"]) for r in rows)
    found = []
    for container in figure.axes[0].containers:
        (bars,) = container.lines[2]
        found += [tuple(segment[:, 1]) for segment in bars.get_segments()]
    assert np.array(sorted(found)) == pytest.approx(np.array(ends))


def test_series_differ_without_color(charted):
    for name, count in (("index_size", 6), ("search_effort", 4), ("image_size", 2), ("index_size_costs", 6)):
        figure = drawn(charted, name)
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


def test_the_front_is_ringed_and_exact_search_is_there(charted):
    effort = pd.read_parquet(charted.path("search_effort", "search_effort.parquet"))
    figure = drawn(charted, "search_effort")
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
    assert [axes.get_xlabel() for axes in drawn(charted, "search_effort_by_expansion").axes] == [
        "expansion of a search"
    ] * 4


def test_sizes_are_on_a_logarithmic_axis_and_chance_is_drawn(charted):
    figure = drawn(charted, "index_size")
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        assert axes.get_ylim()[0] == 0
        (chance,) = (line for line in axes.lines if line.get_gid() == "chance-of-panel")
        assert chance.get_ydata() == pytest.approx([0.03] * 4)
    levels = [axes.get_title(loc="left") for axes in drawn(charted, "index_size_anatomy").axes]
    assert levels == ["same label", "same region", "same modality"]
    groups = [axes.get_title(loc="left") for axes in drawn(charted, "index_size_by_prevalence").axes]
    assert groups == ["rare labels", "labels in between", "common labels"]
    assert len(drawn(charted, "index_size_by_label").axes) == 12


def test_gids_are_in_the_files(figure_files):
    kinds = set(re.findall(rb'id="([a-z]+)-of-', figure_files["index_size.svg"]))
    assert {b"measured", b"band", b"extrapolation", b"expected", b"chance", b"zone"} <= kinds


def test_lines_along_the_list_are_the_figures_at_every_k(tmp_path):
    study = empty_study(tmp_path / "study")
    rows = [
        row | {"k": k, "value": row["value"] - 0.01 * k, "chance": 0.1}
        for row in forest_rows(("a", "b"))
        for k in range(1, 13)
    ]
    publish(study, "metrics", rows, inputs={f"{name} exact": add_search(study, name) for name in "ab"})
    figure = drawn(study, "precision_at_every_k")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["micro", "macro"]
    for axes, average in zip(figure.axes, ("micro", "macro"), strict=True):
        assert axes.get_xscale() == "log"
        found = [line for line in axes.lines if (line.get_gid() or "").startswith("measured-of-")]
        for line, encoder in zip(found, "ab", strict=True):
            mine = {row["k"]: row["value"] for row in rows if (row["encoder"], row["average"]) == (encoder, average)}
            assert dict(zip(*line.get_data(), strict=True)) == mine
            assert [line.get_xdata()[i] for i in line.get_markevery()] == [1, 2, 3, 5, 10, 12]
        (chance,) = (line for line in axes.lines if line.get_gid() == "chance-of-panel")
        assert set(chance.get_ydata()) == {0.1}
    assert len({(line.get_marker(), dashes(line)) for line in lines_called(figure, "measured")}) == 2
    (one,) = Asked(study).charts("precision_at_every_k")
    assert one.sentence == "P@k of a is 0.59 at k = 1, 0.50 at k = 10 and 0.48 at k = 12; chance is 0.10."
    assert one.table.head == ("average", "encoder", "index", "P@1", "P@2", "P@3", "P@5", "P@10", "P@12")
    assert one.table.rows[:3] == [
        ("micro", "a", "exact", "0.590", "0.580", "0.570", "0.550", "0.500", "0.480"),
        ("micro", "b", "exact", "0.580", "0.570", "0.560", "0.540", "0.490", "0.470"),
        ("micro", "chance", "", *["0.100"] * 6),
    ]


def test_who_is_ahead_far_down_the_list_is_said(tmp_path):
    study = empty_study(tmp_path / "study")
    rows = [
        row | {"k": k, "value": 0.6 if (row["encoder"] == "a") == (k == 1) else 0.5}
        for row in forest_rows(("a", "b"))
        for k in (1, 4)
    ]
    publish(study, "metrics", rows, inputs={f"{name} exact": add_search(study, name) for name in "ab"})
    (one,) = Asked(study).charts("precision_at_every_k")
    assert one.sentence == "P@k of a is 0.60 at k = 1 and 0.50 at k = 4; chance is 0.03. At k = 4 b is ahead with 0.60."


def test_levels_stand_beside_each_other_anatomy_first(tmp_path):
    study = empty_study(tmp_path / "study")
    levels = {"label": (0.3, 0.1), "modality": (0.9, 0.5), "region": (0.8, 0.4)}
    rows = [
        row | {"relevance": level, "value": value + (0.05 if row["encoder"] == "b" else 0.0), "ci_low": 0.2, "ci_high": 0.95, "chance": chance}
        for level, (value, chance) in levels.items()
        for row in forest_rows(("a", "b"))
    ]  # fmt: skip
    publish(study, "metrics", rows, inputs={f"{name} exact": add_search(study, name) for name in "ab"})
    figure = drawn(study, "anatomy_and_pathology")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["same modality", "same region", "same label"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["b", "a"]
    for axes, level in zip(figure.axes, ("modality", "region", "label"), strict=True):
        (points,) = (line for line in axes.lines if line.get_gid() == "measured-of-0")
        assert sorted(points.get_xdata()) == pytest.approx([levels[level][0], levels[level][0] + 0.05])
        assert min(points.get_ydata()) == points.get_ydata()[list(points.get_xdata()).index(min(points.get_xdata()))]
        (chance,) = (line for line in axes.lines if line.get_gid() == "chance-of-panel")
        assert chance.get_xdata()[0] == levels[level][1]
    (one,) = Asked(study).charts("anatomy_and_pathology")
    assert one.sentence == (
        "P@1 of b is 0.95 (chance 0.50) for the same modality, 0.85 (chance 0.40) for the same region and 0.35 (chance 0.10) for the same label."
    )
    assert [row[:2] for row in one.table.rows[:2]] == [("same modality", "b"), ("same modality", "a")]


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
        assert len(write_figures(study)) == 3 * 3
        assert study.require("figures")["says"]["leaderboard_forest"] == said


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


def test_removal_deletes_the_figures():
    from cbmir.removing.layout import FIGURES
    from cbmir.stages import MADE_BY

    assert FIGURES["figures"] == 0
    assert MADE_BY["figures"] == "cbmir report"
