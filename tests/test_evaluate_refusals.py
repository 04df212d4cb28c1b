"""What `cbmir evaluate` refuses, each in one line with exit code 2, and what it takes though it looks odd."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cbmir.cli import main
from cbmir.schemas import image_key
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.studies import make_study

FAST = ("--resamples", "0")


@pytest.fixture
def study(tmp_path) -> Study:
    """Twelve images; patient p0 of dataset one has a query and gallery images."""
    return drawn(tmp_path / "study", patients=lambda i: f"p{i % 5}" if i < 6 else f"q{i}")


def drawn(root: Path, *, patients) -> Study:
    rng = np.random.default_rng(1)
    rows = [
        {"image_id": f"d/{i}", "split": "test" if i % 3 == 0 else "train", "labels": ["AB"[i % 2]], "patient_id": patients(i), "age": float(i // 4)}
        for i in range(12)
    ]  # fmt: skip
    return make_study(root, rows, {row["image_id"]: rng.normal(0, 1, 3) for row in rows})


def said(capsys, *arguments) -> tuple[int, str]:
    """Exit code, and what went to stderr, without what a progress line left there."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err.strip()


def refused(capsys, study: Study, *arguments) -> str:
    code, text = said(capsys, "evaluate", "--study", study.address, *arguments)
    assert code == 2, text
    line = text.splitlines()[-1]
    assert line.startswith("cbmir evaluate: "), text
    assert text.count("cbmir evaluate: ") == 1, text
    assert "Traceback" not in text
    return line


def micro(study: Study, metric: str = "precision_at_k", **where) -> pd.Series:
    metrics = pq.read_table(study.files("metrics")).to_pandas()
    chosen = {"metric": metric, "relevance": "label", "slice_by": "all", "average": "micro"} | where
    for name, value in chosen.items():
        metrics = metrics[metrics[name] == value]
    assert len(metrics) == 1
    return metrics.iloc[0]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--metric", "precision"], ["--metric precision: no such metric", "precision_at_k"]),
        (["--metric", "../staging/hits"], ["no such metric"]),
        (["--slice", "agee"], ["--slice agee: no such column", "'age'"]),
        (["--slice", "regiom"], ["nearest: 'region'; columns: "]),
        (["--slice", ""], ["no such column"]),
        (["--k", "1,50"], ["--k 50", "-k 8", "search again with a larger -k"]),
        (["--k", "0"], ["--k 0", "expected 1 to 8"]),
        (["--k", "-3"], ["--k"]),
        (["--k", "one"], ["'one' is not a list of numbers"]),
        (["--resamples", "5"], ["--resamples 5: too few", "100 or more, or 0"]),
        (["--resamples", "-1"], ["--resamples -1"]),
        (["--permutations", "0"], ["--permutations 0"]),
        (["--seed", "-1"], ["--seed -1", "expected 0 or more"]),
    ],
)
def test_flags_that_cannot_be(study, capsys, flags, words):
    search(study, "pixels32", "exact", SearchOptions(k=8, exclude_same=("patient_id",)))
    line = refused(capsys, study, *flags)
    assert all(word in line for word in words), line


def test_neighbors_of_another_manifest(study, capsys, tmp_path):
    search(study, "pixels32", "exact", SearchOptions())
    other = drawn(tmp_path / "other", patients=lambda i: None)
    run = study.run_of("manifest") | {"fingerprint": other.run_of("manifest")["fingerprint"]}
    study.write_json(run, "manifest", "run.json")
    assert "neighbors of pixels32 by exact are older than the manifest" in refused(capsys, study, *FAST)


@pytest.mark.parametrize(
    "change, problem",
    [
        ("SELECT * FROM n WHERE rank <> 2", "ranks are not 1, 2, 3"),
        ("SELECT * FROM n WHERE rank <> 1", "ranks are not 1, 2, 3"),
        ("SELECT * FROM n UNION ALL (SELECT * FROM n LIMIT 1)", "ranks are not 1, 2, 3"),
        (
            "SELECT * REPLACE (CASE WHEN rank = 1 THEN query_key ELSE neighbor_key END AS neighbor_key) FROM n",
            "its own neighbor",
        ),
        (
            "SELECT * REPLACE (42::BIGINT AS query_key) FROM n WHERE query_key = (SELECT min(query_key) FROM n)",
            "query is not among the queries",
        ),
    ],
)
def test_neighbors_that_no_search_returns(study, capsys, change, problem):
    search(study, "pixels32", "exact", SearchOptions(k=4, gallery="true", queries="true", exclude_same=("patient_id",)))
    file = study.files("neighbors", "pixels32", "exact")[0]
    n = pq.read_table(file)
    pq.write_table(duckdb.sql(change).to_arrow_table().cast(n.schema), file)
    line = refused(capsys, study, *FAST)
    assert problem in line
    assert "search again with --overwrite" in line


def test_a_neighbor_that_the_search_had_to_pass_over(study, capsys):
    search(study, "pixels32", "exact", SearchOptions(k=8))
    run = study.run_of("neighbors", "pixels32", "exact")
    run["parameters"]["exclude_same"] = ["patient_id"]
    study.write_json(run, "neighbors", "pixels32", "exact", "run.json")
    assert "neighbor has an excluded value of the query" in refused(capsys, study, *FAST)


def test_a_column_called_all_is_no_slice(study, capsys):
    """Its values would join the figures of all queries."""
    rows = pq.read_table(study.files("manifest")[0])
    pq.write_table(rows.append_column("all", pa.array(["all"] * len(rows))), study.files("manifest")[0])
    search(study, "pixels32", "exact", SearchOptions(k=4, exclude_same=("patient_id",)))
    assert "--slice all: that name stands for all queries together" in refused(capsys, study, "--slice", "all", *FAST)


def test_nothing_that_can_be_judged(tmp_path, capsys):
    """No label, no region, no modality: no figures, and no traceback."""
    rows = [
        {"image_id": f"d/{i}", "split": ["train", "test"][i % 2], "region": "unknown", "modality": "unknown"}
        for i in range(6)
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    for name in ("exact", "again"):
        search(study, "pixels32", "exact", SearchOptions(save_as=name))
    assert said(capsys, "evaluate", "--study", study.address, "--resamples", "100")[0] == 0
    assert all(pq.read_table(study.files(name)).num_rows == 0 for name in ("metrics", "comparisons", "confusions"))
    assert pq.read_table(study.files("hubness")).num_rows == 4


def test_nothing_to_evaluate(tmp_path, capsys):
    assert "no study at" in refused(capsys, Study(str(tmp_path / "none")), *FAST)
    assert "no neighbors to evaluate" in refused(capsys, drawn(tmp_path / "s", patients=lambda i: None), *FAST)


def test_patients_on_both_sides(study, capsys):
    search(study, "pixels32", "exact", SearchOptions(k=4))
    line = refused(capsys, study, *FAST)
    assert line.startswith("cbmir evaluate: 1 patient has queries and gallery images in pixels32 exact")
    assert "--exclude-same patient_id" in line
    assert "--allow-overlap" in line
    assert not study.exists("metrics")
    assert said(capsys, "evaluate", "--study", study.address, *FAST, "--allow-overlap")[0] == 0
    search(study, "pixels32", "exact", SearchOptions(k=4, exclude_same=("patient_id",), overwrite=True))
    assert said(capsys, "evaluate", "--study", study.address, *FAST)[0] == 0


def test_the_same_number_in_two_datasets_is_no_shared_patient(tmp_path, capsys):
    rows = [
        {"image_id": f"{name}/{i}", "dataset": name, "split": split, "labels": ["A"], "patient_id": "1"}
        for name, split in (("one", "train"), ("two", "test"))
        for i in range(2)
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    search(study, "pixels32", "exact", SearchOptions())
    assert said(capsys, "evaluate", "--study", study.address, *FAST)[0] == 0
    assert micro(study, k=1)["n_patients"] == 1


def test_leave_one_out_by_hand(tmp_path, capsys):
    """Three images on a line, gallery = queries = all: two candidates each, and the query is none of them."""
    rows = [{"image_id": f"d/{i}", "labels": [label]} for i, label in enumerate("AAB")]
    study = make_study(
        tmp_path / "s", rows, {f"d/{i}": np.array([np.cos(a), np.sin(a)]) for i, a in enumerate((0.0, 0.1, 0.3))}
    )
    search(study, "pixels32", "exact", SearchOptions(k=2, gallery="true", queries="true"))
    assert said(capsys, "evaluate", "--study", study.address, *FAST, "--k", "1,2")[0] == 0
    row = micro(study, k=2)
    assert row["value"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert row["chance"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert (row["n_queries"], row["n_unanswerable"], row["gallery_size"]) == (3, 1, 3)
    assert micro(study, "recall_at_k", k=1)["value"] == pytest.approx(2 / 3)


def test_asked_for_twice_counts_once(study, capsys):
    search(study, "pixels32", "exact", SearchOptions(k=4, exclude_same=("patient_id",)))
    flags = ["--metric", "precision_at_k", "--slice", "age", "--slice", "label", "--k", "1,1,3", *FAST]
    assert said(capsys, "evaluate", "--study", study.address, *flags)[0] == 0
    once = [
        pq.read_table(study.files(*parts)).to_pandas()
        for parts in (("metrics",), ("query_metrics", "pixels32", "exact"))
    ]
    assert (
        said(
            capsys,
            "evaluate",
            "--study",
            study.address,
            *flags,
            "--slice",
            "age",
            "--slice",
            "label",
            "--metric",
            "precision_at_k",
        )[0]
        == 0
    )
    again = [
        pq.read_table(study.files(*parts)).to_pandas()
        for parts in (("metrics",), ("query_metrics", "pixels32", "exact"))
    ]
    for a, b in zip(once, again, strict=True):
        order = list(a.columns)
        pd.testing.assert_frame_equal(
            a.sort_values(order).reset_index(drop=True), b.sort_values(order).reset_index(drop=True)
        )


def test_a_slice_of_a_column_with_nulls(study, capsys):
    """Null is 'unknown'; a value that reads 'unknown' joins it."""
    rows = pq.read_table(study.files("manifest")[0])
    notes = pa.array([None, "unknown", "x"] * 4)
    pq.write_table(rows.append_column("note", notes), study.files("manifest")[0])
    search(study, "pixels32", "exact", SearchOptions(k=4, exclude_same=("patient_id",)))
    assert said(capsys, "evaluate", "--study", study.address, "--slice", "note", *FAST)[0] == 0
    metrics = (
        pq.read_table(study.files("metrics"))
        .to_pandas()
        .query("slice_by == 'note' and metric == 'precision_at_k' and k == 1")
    )
    metrics = metrics.query("relevance == 'label' and average == 'micro'")
    assert metrics["n_queries"].sum() == 4
    assert set(metrics["slice"]) <= {"unknown", "x"}
    splits = dict(
        zip(rows["image_key"].to_pylist(), zip(rows["split"].to_pylist(), notes.to_pylist(), strict=True), strict=True)
    )
    expected = [note for split, note in splits.values() if split == "test"]
    for _, row in metrics.iterrows():
        assert row["n_queries"] == sum((note or "unknown") == row["slice"] for note in expected)


def test_queries_without_an_exact_neighbor_say_nothing_of_recall(tmp_path, capsys):
    """All that q1 could find is of its own patient. Its recall is nothing over nothing: it is in no mean, no count and no interval."""
    rows = [{"image_id": f"g{i}", "labels": ["A"], "patient_id": "p"} for i in range(3)]
    rows += [
        {"image_id": f"q{i}", "split": "test", "labels": ["A"], "patient_id": "p" if i == 1 else f"o{i}"}
        for i in range(6)
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    for name in ("exact", "approximate"):
        search(study, "pixels32", "exact", SearchOptions(k=2, exclude_same=("patient_id",), save_as=name))
    run = study.run_of("neighbors", "pixels32", "approximate")
    run["parameters"]["index"] = "hnsw"  # a search whose neighbors are known
    run["inputs"].pop("index", None)
    study.write_json(run, "neighbors", "pixels32", "approximate", "run.json")
    assert said(capsys, "evaluate", "--study", study.address, "--k", "1,2", "--resamples", "100")[0] == 0
    metrics = (
        pq.read_table(study.files("metrics"))
        .to_pandas()
        .query("metric == 'ann_recall' and slice_by == 'all' and k == 2")
    )
    row = metrics.iloc[0]
    assert (row["value"], row["ci_low"], row["ci_high"]) == (1, 1, 1)
    assert (row["n_queries"], row["chance"]) == (5, pytest.approx(2 / 3))


def test_searches_whose_failed_queries_differ_are_not_compared(tmp_path, capsys):
    """Both found the same embedded queries, but one was asked for two more that could not be embedded: its mean is over more queries."""
    rows = [{"image_id": f"g{i}", "labels": ["AB"[i % 2]]} for i in range(6)]
    rows += [{"image_id": f"q{i}", "split": "test", "labels": ["AB"[i % 2]]} for i in range(8)]
    rng = np.random.default_rng(0)
    vectors = {row["image_id"]: rng.normal(0, 1, 3) for row in rows if row["image_id"] not in ("q0", "q5")}
    study = make_study(tmp_path / "s", rows, vectors)
    search(study, "pixels32", "exact", SearchOptions(k=3))
    search(
        study,
        "pixels32",
        "exact",
        SearchOptions(k=3, queries="split = 'test' AND image_id NOT IN ('q0', 'q5')", save_as="fewer"),
    )
    assert said(capsys, "evaluate", "--study", study.address, "--resamples", "100")[0] == 0
    comparisons, metrics = (pq.read_table(study.files(name)).to_pandas() for name in ("comparisons", "metrics"))
    assert len(metrics)
    assert comparisons.empty


def test_chance_of_a_vote_is_unknown_where_it_is_unknown_in_one_region(tmp_path, capsys):
    """In one region images have one label, in the other two: there a vote's chance is unknown, and so is that of both together."""
    rows = [
        {"image_id": f"{region}{i}", "split": "test" if i < 2 else "train", "region": region,
         "labels": ["XR/both/A", "XR/both/B"][: 2 if region == "hand" and i >= 2 else 1]}
        for region in ("chest", "hand")
        for i in range(5)
    ]  # fmt: skip
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    search(study, "pixels32", "exact", SearchOptions())
    assert (
        said(capsys, "evaluate", "--study", study.address, "--metric", "majority_vote_at_k", "--k", "1", *FAST)[0] == 0
    )
    metrics = (
        pq.read_table(study.files("metrics")).to_pandas().query("relevance == 'label_in_region' and average == 'micro'")
    )
    chance = metrics.set_index(["slice_by", "slice"])["chance"]
    assert chance["region", "chest"] == 1
    assert np.isnan(chance["region", "hand"])
    assert np.isnan(chance["all", "all"])
    assert np.isnan(metrics.set_index("slice_by")["lift"]["all"])


def test_run_json_says_what_was_asked(study, capsys):
    search(study, "pixels32", "exact", SearchOptions(k=4, exclude_same=("patient_id",)))
    assert said(capsys, "evaluate", "--study", study.address, "--k", "1", "--slice", "age", *FAST)[0] == 0
    run = json.loads(Path(study.path("metrics", "run.json")).read_text())
    assert (run["parameters"]["k"], run["parameters"]["slice"], run["parameters"]["resamples"]) == ([1], ["age"], 0)
    assert image_key("d/0") in pq.read_table(study.files("query_metrics", "pixels32", "exact"))["query_key"].to_pylist()


def test_a_run_refuses_patients_on_both_sides_before_it_embeds(tmp_path, capsys):
    rows = [{"image_id": f"a/{i}", "split": split, "patient_id": "p"} for i, split in enumerate(("train", "test"))]
    study = make_study(tmp_path / "s", rows)
    assert main(["run", "--study", str(study.root), "--encoder", "pixels32", "--index", "exact"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith(
        "cbmir run: 1 patient has queries and gallery images in the searches, one of them with query"
    )
    assert line.endswith("search with --exclude-same patient_id, or go on with --allow-overlap")
    assert not study.exists("embeddings")
