"""What stands behind the charts: files, statements, tables and sentences are the figures of the datasets."""

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cbmir.errors import UserError
from cbmir.report import write_figures
from cbmir.report.charts import index_size
from cbmir.report.charts.every import CHARTS
from cbmir.report.drawn import Asked
from cbmir.sql_files import read
from cbmir.study import Study as PythonStudy
from tests.processes import cbmir
from tests.scaling_studies import LABELS, SIZES, empty_study, publish, scaling_rows, vanished_rows

NAMES = [chart.name for chart in CHARTS]
CURVE = ["encoder", "index", "sampling", "relevance", "slice_by", "slice", "average", "k"]


def rows_of(files: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(files[f"{name}.csv"]))


# what is written


def test_every_chart_is_written_as_svg_png_and_csv(charted, figure_files):
    assert set(figure_files) == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png", "csv")}
    run = charted.require("figures")
    assert run["inputs"]["scaling"] == charted.require("scaling")["fingerprint"]
    assert set(run["says"]) == set(NAMES)
    for name in NAMES:
        picture = Image.open(io.BytesIO(figure_files[f"{name}.png"]))
        assert picture.width == 2160  # 7.2 inches
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert np.asarray(picture.convert("L"))[0, 0] == 255
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        text = figure_files[f"{name}.svg"].decode()
        assert text.startswith("<?xml")
        assert "<text" not in text  # letters are outlines
        assert "<dc:date>" not in text


def test_the_same_figures_give_the_same_bytes(charted, figure_files):
    assert {Path(path).name: Path(path).read_bytes() for path in write_figures(charted)} == figure_files
    code = (
        "import sys, hashlib; from pathlib import Path; from cbmir.report import write_figures; from cbmir.store import Study\n"
        "print(hashlib.sha256(b''.join(Path(p).read_bytes() for p in write_figures(Study(sys.argv[1])))).hexdigest())"
    )
    command = [sys.executable, "-c", code, charted.address]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == hashlib.sha256(b"".join(figure_files.values())).hexdigest()


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(UserError, match=r"nothing to draw: .* cbmir evaluate"):
        write_figures(empty_study(tmp_path / "study"))


# the tables


def test_the_table_of_sizes_is_that_of_pandas(charted, figure_files):
    scaling = pd.read_parquet(charted.path("scaling", "scaling.parquet"))
    rows = scaling[(scaling["relevance"] == "label") & (scaling["slice_by"] == "all")]
    means = rows.groupby([*CURVE, "gallery_size"])
    expected = means.agg(value=("value", "mean"), low=("value", "min"), high=("value", "max"), seeds=("seed", "nunique"),
                         n_vanished=("n_vanished", "mean"), chance=("chance", "mean"), ci_low=("ci_low", "min"), ci_high=("ci_high", "max"))  # fmt: skip
    found = rows_of(figure_files, "index_size")
    known = found[~found["is_extrapolation"]].copy()
    known["slice"] = "all"
    known = known.set_index([*CURVE, "gallery_size"]).sort_index()
    assert len(known) == len(expected) == 2 * 3 * 4 * 2 * 2
    for column in expected.columns:
        assert known[column].to_numpy() == pytest.approx(expected.loc[known.index, column].to_numpy(), rel=1e-12), (
            column
        )


def test_what_is_extrapolated_is_the_chosen_fit(charted, figure_files):
    fits = pd.read_parquet(charted.path("fits", "fits.parquet"))
    fits = fits[fits["is_chosen"] & fits["is_extrapolation"] & (fits["slice_by"] == "all")]
    found = rows_of(figure_files, "index_size")
    ahead = found[found["is_extrapolation"]]
    assert len(ahead) == len(fits) == 2 * 3 * 2 * 2 * 2
    assert set(ahead["gallery_size"]) == {256_000, 640_000}
    keys = ["encoder", "index", "average", "k", "gallery_size"]
    left, right = ahead.set_index(keys).sort_index(), fits.set_index(keys).sort_index()
    for column in ("value", "ci_low", "ci_high"):
        assert left[column].to_numpy() == pytest.approx(right[column].to_numpy(), rel=1e-12)
    assert json.loads(ahead["parameters"].iloc[0])[1:] == [4.0, 0.35]


def test_costs_are_medians_over_samples(charted, figure_files):
    costs = pd.read_parquet(charted.path("scaling_costs", "scaling_costs.parquet"))
    costs["query_milliseconds"] = 1000 * costs["search_seconds"] / costs["n_queries"]
    costs["graph_megabytes"], costs["peak_megabytes"] = costs["graph_bytes"] / 1e6, costs["peak_bytes"] / 1e6
    costs["expansion"] = costs["expansion_search"]
    found = rows_of(figure_files, "index_size_costs")
    for quantity in ("recall", "expansion", "build_seconds", "query_milliseconds", "graph_megabytes", "peak_megabytes"):
        expected = costs.dropna(subset=[quantity]).groupby(["encoder", "index", "gallery_size"])[quantity]
        rows = found[found["quantity"] == quantity].set_index(["encoder", "index", "gallery_size"]).sort_index()
        for column, values in (("value", expected.median()), ("low", expected.min()), ("high", expected.max())):
            assert rows[column].to_numpy() == pytest.approx(values.sort_index().to_numpy(), rel=1e-12), quantity


def test_labels_stand_by_their_change(charted, figure_files):
    scaling = pd.read_parquet(charted.path("scaling", "scaling.parquet"))
    rows = scaling[scaling["slice_by"] == "label"]
    means = rows.groupby(["slice", "encoder", "index", "gallery_size"])["value"].mean().unstack()
    change = (means[SIZES[-1]] - means[SIZES[0]].fillna(means[SIZES[1]])).groupby("slice").mean()
    queries = rows.groupby("slice")["n_queries"].max()
    order = sorted(change.index, key=lambda label: (queries[label] < 10, -abs(change[label]), label))
    found = rows_of(figure_files, "index_size_by_label").drop_duplicates("slice").sort_values("place")
    assert found["slice"].tolist() == order
    assert found["change"].to_numpy() == pytest.approx(change[order].to_numpy(), abs=1e-12)
    assert found["slice"].tolist()[-1] == LABELS[1]  # five queries


def test_search_effort_and_image_sizes_are_the_rows_of_the_study(charted, figure_files):
    effort = pd.read_parquet(charted.path("search_effort", "search_effort.parquet"))
    found = rows_of(figure_files, "search_effort")
    assert sorted(found["value"]) == sorted(effort["value"])
    assert found["is_pareto"].sum() == effort["is_pareto"].sum() > 0
    metrics = pd.read_parquet(charted.path("metrics", "metrics.parquet"))
    sizes = rows_of(figure_files, "image_size")
    assert len(sizes) == 2 * 4 * 2 * 3
    assert set(sizes["metric"]) == {"precision_at_k", "average_precision_over_hits_at_k"}
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
def test_the_command_gives_the_table(charted, figure_files, chart):
    """The statement as it stands on the page, inside a shell's double quotes, gives the rows of the CSV."""
    (one,) = Asked(charted).charts(chart.name)
    assert not set(one.statement) & set('"$`\\!')
    assert not one.statement.startswith("--")
    found = PythonStudy(charted.address).sql(one.statement)
    written = list(csv.reader(io.StringIO(figure_files[f"{chart.name}.csv"].decode())))
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


def test_a_size_is_one_column_whichever_labels_a_sample_lacks(tmp_path):
    """Samples of whole patients are not all of one size, and a label may be missing from some of them."""
    study = empty_study(tmp_path / "study")
    rows = [
        row | {"sampling": "patient", "gallery_size": row["sample_size"] + 7 * row["seed"]}
        for row in scaling_rows(encoders=("e",), indexes=("exact",), labels=LABELS[1:6])
        if row["slice"] != LABELS[1]  # which has vanished from all of the smallest
        and (row["slice"], row["sample_size"], row["seed"]) not in {(LABELS[2], 1_000, 0), (LABELS[4], 4_000, 2)}
    ]
    publish(study, "scaling", rows)
    (one,) = Asked(study).charts("index_size_by_label")
    assert one.table.head[3:] == ("1,007", "4,007", "16,007", "64,007")
    assert len(one.table.rows) == 4
    assert all("–" not in row for row in one.table.rows)
    (gone,) = (row for row in one.rows if (row["slice"], row["gallery_size"]) == (LABELS[2], 1_007))
    mine = [r["value"] for r in rows if (r["slice"], r["sample_size"]) == (LABELS[2], 1_000)]
    assert (gone["seeds"], gone["value"]) == (2, pytest.approx(sum(mine) / 2))


def test_patients_of_two_datasets_are_two_though_they_have_one_id():
    values = [(1, "p1", "s1", "nih"), (2, "p1", "s1", "mimic"), (3, "p1", "s2", "mimic"), (4, None, None, "mimic")]
    connection = duckdb.connect()
    connection.register("frame", pd.DataFrame(values, columns=["image_key", "patient_id", "study_id", "dataset"]))
    connection.execute(
        "CREATE TABLE manifest AS SELECT *, 'XR' AS modality, 'chest' AS region, ['a'] AS labels FROM frame"
    )
    (row,) = connection.sql(read("report", "collection")).to_arrow_table().to_pylist()
    assert (row["images"], row["patients"], row["studies"]) == (4, 2, 3)


def test_vanished_labels_are_counted(tmp_path):
    study = empty_study(tmp_path / "study")
    publish(study, "scaling", scaling_rows())
    publish(study, "vanished", vanished_rows(labels=LABELS[:3]))
    rows = Asked(study).rows("vanished_labels")
    assert len(rows) == 2 * 3
    assert {(row["samples"], row["gone"], row["touched"], row["n_queries"], row["n_vanished"]) for row in rows} == {
        (3, 2, 3, 40.0, 40.0)
    }


# what is said


def test_sentences_say_the_figures(charted, figure_files):
    says = charted.require("figures")["says"]
    scaling = pd.read_parquet(charted.path("scaling", "scaling.parquet"))
    rows = scaling[
        (scaling["relevance"] == "label")
        & (scaling["slice_by"] == "all")
        & (scaling["average"] == "micro")
        & (scaling["k"] == 1)
    ]
    means = rows[(rows["encoder"] == "pixels32") & (rows["index"] == "exact")].groupby("gallery_size")["value"].mean()
    fits = pd.read_parquet(charted.path("fits", "fits.parquet"))
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


def test_every_chart_and_its_statement_are_documented():
    page = (Path(__file__).parents[1] / "docs" / "figures.md").read_text()
    for chart in CHARTS:
        assert re.search(rf"^\| `{chart.name}` \|.*\(\.\./sql/report/{chart.statement}\.sql\)", page, re.MULTILINE), (
            chart.name
        )


def test_a_statement_can_be_piped(charted):
    done = cbmir("sql", "--study", charted.address, input=read("report", "index_size"))
    assert done.returncode == 0, done.stderr
    assert f"{len(Asked(charted).rows('index_size'))} rows" in done.stdout
