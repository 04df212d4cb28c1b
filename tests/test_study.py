"""Study's figures and neighbors as DataFrames, and the views of `cbmir sql`, on a study made by hand that is searched and scored for real."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cbmir import Study
from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.schemas import CLASSIFICATION, CONTRACTS, PREDICTIONS
from cbmir.session import ask, frame
from cbmir.stages import MADE_BY
from cbmir.store import run_record
from cbmir.views import VIEWS, catalog, listed, open_views
from tests.processes import cbmir
from tests.studies import add_embeddings, make_study

N = 40
IDS = [f"hand/{i:02d}" for i in range(N)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """40 images of 20 patients in 2 labels; encoder `a` sees the label, `b` chance alone; queries are the last 20, of which one failed."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, N)
    rows = [
        {"image_id": i, "split": "train" if at < N // 2 else "test", "labels": [f"XR/chest/{'AB'[label[at]]}"], "patient_id": f"p{at // 2}"}
        for at, i in enumerate(IDS)
    ]  # fmt: skip
    root = tmp_path_factory.mktemp("frames") / "study"
    seen = {i: np.array([label[at], 1 - label[at], *rng.normal(0, 0.3, 4)]) for at, i in enumerate(IDS) if at != 30}
    study = make_study(root, rows, seen, encoder="b~1")
    add_embeddings(study, IDS, {i: rng.normal(size=6) for i in seen}, encoder="a")
    for encoder in ("a", "b~1"):
        assert main(["search", "--study", str(root), "--encoder", encoder, "--index", "exact", "-k", "12"]) == 0
    assert main(["evaluate", "--study", str(root), "--resamples", "100", "--permutations", "200"]) == 0
    return root


@pytest.fixture
def study(made) -> Study:
    return Study(str(made))


@pytest.fixture
def copied(made, tmp_path) -> Study:
    """A study that a test may break."""
    shutil.copytree(made, tmp_path / "study")
    return Study(str(tmp_path / "study"))


def test_metrics_are_the_rows_of_the_file_that_the_filters_name(study):
    whole = pd.read_parquet(f"{study.address}/metrics/metrics.parquet")
    assert len(study.metrics()) == len(whole)
    found = study.metrics(encoder="b", metric="precision_at_k", relevance="label", k=[1, 5], slice_by="all", average="micro")  # fmt: skip
    expected = whole.query("encoder == 'b~1' and metric == 'precision_at_k' and relevance == 'label' and k in [1, 5] and slice_by == 'all' and average == 'micro'")  # fmt: skip
    assert found.sort_values("k")["value"].tolist() == expected.sort_values("k")["value"].tolist()
    assert len(found) == 2
    assert list(found.columns) == CONTRACTS["metrics"].names
    assert str(found["k"].dtype) == "Int32"
    mean = study.metrics(metric="average_precision", relevance="label")
    assert mean["k"].isna().all()
    assert str(mean["k"].dtype) == "Int32"
    assert study.metrics(metric="average_precision", k=1).empty


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"metric": "precision_at"}, "no metric 'precision_at' in metrics; nearest: 'precision_at_k'"),
        ({"metric": ["precision_at_k", "mAP"]}, "no metric 'mAP' in metrics; "),
        ({"k": 13}, "no k 13 in metrics; there: 1, 2, 3"),
        ({"relevance": "labels"}, "nearest: 'label'"),
        ({"encoder": "c"}, "no embeddings of encoder 'c' in the study; embedded: a, b~1"),
        ({"index": "hnsw"}, "no index 'hnsw' in metrics; there: 'exact'"),
    ],
)
def test_a_name_that_is_not_there_is_said_with_what_is(study, asked, message):
    with pytest.raises(UserError) as caught:
        study.metrics(**asked)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_neighbors_are_those_of_the_file_with_names_and_labels(study):
    manifest = study.sql("FROM manifest").set_index("image_key")
    rows = study.dataset("neighbors", "a", "exact").to_table().to_pandas()
    rows = rows[rows["rank"] <= 3].assign(query=lambda r: r["query_key"].map(manifest["image_id"]))
    rows = rows.sort_values(["query", "rank"])
    found = study.neighbors("a", k=3)
    assert len(found) == 3 * (N // 2 - 1)  # the query that failed has none
    for name in ("query", "rank", "distance", "query_key", "neighbor_key"):
        assert found[name].tolist() == rows[name].tolist()
    assert found["neighbor"].tolist() == rows["neighbor_key"].map(manifest["image_id"]).tolist()
    for side in ("query", "neighbor"):
        assert found[f"{side}_labels"].tolist() == [manifest.loc[key, "labels"] for key in found[f"{side}_key"]]
        assert isinstance(found[f"{side}_labels"][0], list)
    assert (found["rank"].dtype, found["distance"].dtype) == (np.int16, np.float32)
    assert len(study.neighbors("a")) == 10 * (N // 2 - 1)
    assert len(study.neighbors("a", k=None)) == 12 * (N // 2 - 1)


def test_neighbors_of_some_queries(study):
    whole = study.neighbors("b", k=2)
    by_id = study.neighbors("b", k=2, queries=["hand/25", "hand/21"])
    pd.testing.assert_frame_equal(by_id, whole[whole["query"].isin(["hand/21", "hand/25"])].reset_index(drop=True))
    by_predicate = study.neighbors("b", k=2, queries="image_id IN ('hand/21', 'hand/25')")
    pd.testing.assert_frame_equal(by_predicate, by_id)
    assert study.neighbors("b", queries=["hand/30"]).empty
    for asked, message in (
        (["hand/2"], r"no image 'hand/2' in the manifest; nearest: 'hand/\d"),
        ("splt = 'test'", "no column 'splt' in the manifest; nearest: 'split'"),
    ):
        with pytest.raises(UserError, match=message):
            study.neighbors("b", queries=asked)
    with pytest.raises(UserError, match="no neighbors of a by 'exakt'; nearest: 'exact'; make them with: cbmir search"):
        study.neighbors("a", "exakt")


def test_neighbors_of_a_manifest_that_has_lost_an_image_are_refused(copied):
    file = f"{copied.address}/manifest/manifest.parquet"
    pd_free = copied.dataset("manifest").to_table()
    copied.write_table(pd_free.filter(pa.compute.not_equal(pd_free["image_id"], "hand/25")), "manifest", file.split("/")[-1])  # fmt: skip
    with pytest.raises(UserError, match="is not in the manifest, which is newer; make them again with: cbmir search"):
        copied.neighbors("a")
    with pytest.raises(UserError, match="is not in the manifest, which is newer"):
        copied.query_metrics("a")


def test_query_metrics_average_to_the_figure(study):
    values = study.query_metrics("b", metric="precision_at_k", relevance="label", k=5)
    assert sorted(values["image_id"]) == IDS[N // 2 :]
    assert values.set_index("image_id").loc["hand/30", "value"] == 0
    figure = study.metrics(encoder="b", metric="precision_at_k", relevance="label", k=5, slice_by="all", average="micro")  # fmt: skip
    assert values["value"].mean() == pytest.approx(figure["value"].item())
    with pytest.raises(
        UserError, match="no query_metrics of a by 'hnsw'; there: exact; make them with: cbmir evaluate"
    ):
        study.query_metrics("a", "hnsw")
    with pytest.raises(UserError, match="no relevance 'anatomy' in query_metrics"):
        study.query_metrics("a", relevance="anatomy")


def test_comparisons_stand_as_they_are_asked_for(study):
    asked = {"metric": "precision_at_k", "relevance": "label", "k": 5, "slice_by": "all", "average": "micro"}
    stored = study.comparisons(**asked)
    pd.testing.assert_frame_equal(study.comparisons("a", "b", **asked), stored)
    turned = study.comparisons("b", **asked)
    pd.testing.assert_frame_equal(turned, study.comparisons("b", "a", **asked))
    one, other = stored.iloc[0], turned.iloc[0]
    assert (one["encoder_a"], one["encoder_b"]) == (other["encoder_b"], other["encoder_a"]) == ("a", "b~1")
    assert (one["value_a"], one["value_b"]) == (other["value_b"], other["value_a"])
    assert other["difference"] == other["value_a"] - other["value_b"] == -one["difference"] > 0
    assert (other["ci_low"], other["ci_high"]) == (-one["ci_high"], -one["ci_low"])
    assert other["ci_low"] <= other["difference"] <= other["ci_high"]
    assert other["p_value"] == one["p_value"]
    assert turned.dtypes.equals(stored.dtypes)
    assert study.comparisons("a", "a").empty


def test_lists_of_text_are_lists_and_keys_beside_nulls_keep_their_digits(study):
    found = frame(study, "SELECT labels, if(split = 'test', image_key, NULL) AS key FROM manifest ORDER BY image_id")
    assert isinstance(found["labels"][0], list)
    assert found["key"].isna().sum() == N // 2
    keys = study.sql("SELECT image_key FROM manifest WHERE split = 'test' ORDER BY image_id")["image_key"]
    assert found["key"].dropna().tolist() == keys.tolist()
    assert isinstance(study.sql("SELECT NULL::VARCHAR[] AS x, 1 AS y").loc[0, "x"], type(None))


def test_every_contract_is_a_view_and_every_view_has_its_command():
    assert set(CONTRACTS) <= set(VIEWS)
    assert set(VIEWS) - {"runs", "searches", "published", "scaling_curves"} <= set(MADE_BY)


def test_views_of_classifiers_and_predictions(copied):
    for classifier in ("knn", "linear_probe"):
        row = {f.name: None for f in CLASSIFICATION} | {
            "encoder": "a", "index": "exact", "classifier": classifier, "split": "test", "chosen": True, "metric": "f1",
            "average": "micro", "value": 0.5, "n_labels": 2, "n_queries": 20, "n_failed": 1,
        }  # fmt: skip
        with copied.publishing("classification", classifier) as out:
            out.write_table(pa.Table.from_pylist([row], CLASSIFICATION), "part.parquet", "classification")
            out.run = run_record("evaluate", parameters={}, inputs={}, rows=1)
    for encoder in ("encoder=a", "encoder=b~1"):
        table = pa.table([[7], ["XR/chest/A"], pa.array([0.5], pa.float32())], schema=PREDICTIONS)
        with copied.publishing("predictions", encoder) as out:
            out.write_table(table, "part.parquet", "predictions")
            out.run = run_record("probe", parameters={}, inputs={}, rows=1)
    connection, notes = open_views(copied)
    assert notes == []
    found = connection.sql("SELECT classifier, encoder FROM classification ORDER BY 1").fetchall()
    assert found == [("knn", "a"), ("linear_probe", "a")]
    assert connection.sql("FROM predictions ORDER BY encoder").fetchall() == [
        ("a", 7, "XR/chest/A", 0.5), ("b~1", 7, "XR/chest/A", 0.5)
    ]  # fmt: skip
    runs = connection.sql("SELECT dataset, encoder, name FROM runs WHERE dataset IN ('classification', 'predictions') ORDER BY ALL")  # fmt: skip
    assert runs.fetchall() == [
        ("classification", "", "knn"), ("classification", "", "linear_probe"), ("predictions", "a", ""), ("predictions", "b~1", "")
    ]  # fmt: skip
    copied.delete("classification", "knn", "run.json")
    copied.delete("predictions", "encoder=a", "run.json")
    connection, notes = open_views(copied)
    assert notes == [
        "classification knn: unfinished and left out; finish it with: cbmir evaluate or cbmir probe",
        "predictions of a: unfinished and left out; finish it with: cbmir probe",
    ]
    assert connection.sql("SELECT classifier FROM classification").fetchall() == [("linear_probe",)]
    assert connection.sql("SELECT encoder FROM predictions").fetchall() == [("b~1",)]


def test_what_is_unfinished_or_outdated_is_said(copied):
    for dataset in ("comparisons", "confusions"):
        copied.delete(dataset, "run.json")
    copied.delete("neighbors", "a", "exact", "run.json")
    connection, notes = open_views(copied)
    assert "neighbors of a by exact: unfinished and left out; finish it with: cbmir search" in notes
    assert "comparisons: unfinished and left out; finish it with: cbmir evaluate" in notes
    assert notes[-1] == f"older than the searches: query_metrics, metrics, hubness; make them again with: cbmir evaluate --study {copied.address}"  # fmt: skip
    assert "comparisons" not in listed(connection)
    assert connection.sql("SELECT DISTINCT encoder FROM neighbors").fetchall() == [("b~1",)]


def test_the_catalog_counts_rows_and_only_views_are_listed(study):
    connection, notes = open_views(study)
    assert notes == []
    lines = dict(line.split(maxsplit=1) for line in catalog(connection))
    assert lines.pop("view").split(maxsplit=1)[1] == "a row for each"
    assert list(lines) == listed(connection)
    for name, line in lines.items():
        rows, what = line.split(maxsplit=1)
        assert int(rows.replace(",", "")) == connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
        assert what == VIEWS[name]
    assert {row[0] for row in connection.execute("SHOW TABLES").fetchall()} == set(lines)
    parameters = "SELECT parameters->>'k' FROM runs WHERE dataset = 'neighbors' AND encoder = 'a'"
    assert connection.execute(parameters).fetchall() == [("12",)]


def test_a_pipe_takes_statements_and_dot_commands(study):
    typed = ".tables\nSELECT 40 +\n 2 AS answer; CREATE MACRO twice(x) AS 2 * x;\n.schema hubness\nSELECT twice(21) AS again;\n.schema nothing\n.quit\nSELECT broken"  # fmt: skip
    done = cbmir("sql", "--study", study.address, input=typed)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert said.startswith("view ")
    assert said.count(" 42 ") == 2
    assert "Count" not in said
    assert f"{CONTRACTS['hubness'].field('never_found').metadata[b'comment'].decode()}\n" in said
    assert "expected .schema VIEW, one of: manifest, " in said
    nothing = cbmir("sql", "--study", study.address, input="")
    assert (nothing.returncode, nothing.stdout.splitlines()[0]) == (0, "view                      rows  a row for each")
    wrong = cbmir("sql", "--study", study.address, input="SELECT 1 AS one; SELECT broken; SELECT 3 AS three")
    assert wrong.returncode == 2
    assert "one" in wrong.stdout
    assert "three" not in wrong.stdout
    assert 'column "broken" was not found' in wrong.stderr


def test_one_statement_is_saved_and_several_are_not(study, tmp_path, capsys):
    with pytest.raises(UserError, match="--csv and --parquet save one statement; found 2"):
        ask(study, "SELECT 1; SELECT 2", csv=str(tmp_path / "x.csv"))
    assert not (tmp_path / "x.csv").exists()
    ask(study, "PIVOT (SELECT encoder, k, value FROM metrics WHERE metric = 'precision_at_k' AND relevance = 'label' AND k IN (1, 5) "
               "AND slice_by = 'all' AND average = 'micro') ON k USING first(value)", csv=str(tmp_path / "x.csv"))  # fmt: skip
    assert list(pd.read_csv(tmp_path / "x.csv").columns) == ["encoder", "1", "5"]
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"^predictions: not in this study; make it with: cbmir probe$"):
        ask(study, "FROM predictions")


def test_a_study_on_an_object_store_answers_alike(study, s3):
    import pyarrow.fs as pafs

    pafs.copy_files(study.root, f"{s3.name}/study", destination_filesystem=s3.fs)
    remote = Study(s3.address("study"))
    connection, notes = open_views(remote)
    assert notes == []
    assert list(catalog(connection)) == list(catalog(open_views(study)[0]))
    assert remote.sql("FROM failures").equals(study.sql("FROM failures"))
    pd.testing.assert_frame_equal(remote.neighbors("b", k=2), study.neighbors("b", k=2))
    asked = {"metric": "precision_at_k", "relevance": "label", "k": 1}
    for ours, theirs in (
        (remote.metrics(**asked), study.metrics(**asked)),
        (remote.query_metrics("a", **asked), study.query_metrics("a", **asked)),
        (remote.comparisons("b", "a", **asked), study.comparisons("b", "a", **asked)),
    ):
        pd.testing.assert_frame_equal(ours, theirs)


def test_a_terminal_is_shown_the_views_and_goes_on_after_an_error(study):
    import os
    import pty
    import subprocess
    import sys

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cbmir", "sql", "--study", study.address]
    running = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    os.write(
        ours,
        b"SELECT 40 +\n2 AS one; SELECT 'second' AS other;\n.schema hubness\nFROM predictions;\nSELECT 'last' AS x;\n.quit\n",
    )
    said = running.communicate(timeout=120)[0]
    os.close(ours)
    os.close(theirs)
    assert running.returncode == 0
    places = [said.index(text) for text in ("a row for each", "manifest ", ".quit ends", " 42 ", " second ", "never_found", "predictions: not in this", " last ")]  # fmt: skip
    assert places == sorted(places)
