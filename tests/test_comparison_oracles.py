"""Comparisons and intervals of whole evaluations: which searches are held against each other, and whether the figures are those of `metrics` and of plain Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.index import IndexOptions, build_index
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.studies import add_embeddings, make_study

FEW = {"ks": (1, 5), "resamples": 200, "permutations": 300}
FIGURE = ["metric", "relevance", "k", "slice_by", "slice", "average"]


def drawn(root: Path, *, images: int = 160, patients: int = 70) -> Study:
    """Encoders: good sees the label, twin is the same one again, bad sees noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, images)
    rows = [
        {"image_id": f"d/{i}", "split": "test" if i % 2 else "train", "labels": ["ABCD"[label]], "patient_id": f"{i % 2} {rng.integers(0, patients)}",
         "region": ["chest", "hand"][i % 3 == 0]}
        for i, label in enumerate(labels)
    ]  # fmt: skip
    good = {f"d/{i}": np.eye(4)[label] + rng.normal(0, 0.6, 4) for i, label in enumerate(labels)}
    bad = {name: rng.normal(0, 1, 4) for name in good}
    study = make_study(root, rows, good, encoder="good")
    for encoder, vectors in (("twin", good), ("bad", bad)):
        add_embeddings(study, list(good), vectors, encoder=encoder)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    study = drawn(tmp_path_factory.mktemp("compared") / "study")
    for encoder in ("good", "twin", "bad"):
        search(study, encoder, "exact", SearchOptions(k=10))
    search(study, "good", "exact", SearchOptions(k=10, metric="l2", save_as="euclidean"))
    search(
        study, "good", "exact", SearchOptions(k=10, gallery="split = 'train' AND region = 'chest'", save_as="smaller")
    )
    search(study, "good", "exact", SearchOptions(k=10, exclude_same=("patient_id",), save_as="excluding"))
    search(study, "good", "exact", SearchOptions(k=7, save_as="less deep"))
    for encoder in ("good", "bad"):
        build_index(study, encoder, "hnsw", IndexOptions())
        search(study, encoder, "hnsw", SearchOptions(k=10))
    evaluate(study, EvaluateOptions(**FEW))
    return study


def table(study: Study, dataset: str) -> pd.DataFrame:
    return pq.read_table(study.files(dataset)).to_pandas()


def test_which_searches_are_compared(study):
    """Exact with exact across encoders, anything within one; never another gallery, other exclusions or another depth."""
    found = table(study, "comparisons")[["encoder_a", "index_a", "encoder_b", "index_b"]].drop_duplicates()
    pairs = {frozenset([(a, i), (b, j)]) for a, i, b, j in found.itertuples(index=False)}
    good, euclidean, graph = ("good", "exact"), ("good", "euclidean"), ("good", "hnsw")
    bad, twin, bad_graph = ("bad", "exact"), ("twin", "exact"), ("bad", "hnsw")
    expected = [
        (good, bad), (good, twin), (bad, twin), (euclidean, bad), (euclidean, twin), (good, euclidean), (good, graph), (euclidean, graph), (bad, bad_graph),
    ]  # fmt: skip
    assert pairs == {frozenset(pair) for pair in expected}
    assert len(found) == len(expected)


def test_values_are_those_of_metrics(study):
    comparisons, metrics = table(study, "comparisons"), table(study, "metrics")
    assert len(comparisons)
    sides = comparisons
    for side in "ab":
        keys = {f"encoder_{side}": "encoder", f"index_{side}": "index"}
        one = metrics.rename(columns={ours: theirs for theirs, ours in keys.items()})
        wanted = [*keys, *FIGURE, "value", "n_queries", "n_patients"]
        sides = sides.merge(one[wanted], on=[*keys, *FIGURE], suffixes=("", f"_of_{side}"), validate="many_to_one")
        assert len(sides) == len(comparisons)
        np.testing.assert_allclose(sides[f"value_{side}"], sides["value"], atol=1e-12, rtol=0)
        sides = sides.drop(columns="value")
    np.testing.assert_allclose(sides["difference"], sides["value_a"] - sides["value_b"], atol=1e-10, rtol=0)
    assert (sides["n_queries"] == sides["n_queries_of_b"]).all()
    assert (sides["n_patients"] == sides["n_patients_of_b"]).all()


def step_down(p: list[float]) -> list[float]:
    """Holm 1979: in ascending order, each p times the hypotheses that are left."""
    order, worst, found = sorted(range(len(p)), key=p.__getitem__), 0.0, [0.0] * len(p)
    for place, at in enumerate(order):
        worst = max(worst, min(1.0, p[at] * (len(p) - place)))
        found[at] = worst
    return found


def test_holm_by_question(study):
    """One table: over all queries, all pairs that answer one question; for slices of a kind, the slices of one pair."""
    comparisons = table(study, "comparisons")
    assert comparisons["p_value"].between(1 / 301, 1).all()
    overall = comparisons["slice_by"] == "all"
    family = ["metric", "relevance", "k", "average", "slice_by"]
    pair = ["encoder_a", "index_a", "encoder_b", "index_b"]
    for rows, by in ((comparisons[overall], family), (comparisons[~overall], family + pair)):
        for _, group in rows.groupby(by, dropna=False):
            assert (group["n_tests"] == len(group)).all()
            np.testing.assert_allclose(group["p_holm"], step_down(group["p_value"].tolist()), atol=1e-12)
    assert set(comparisons[overall]["n_tests"]) == {9}


def test_what_is_equal_does_not_differ_and_what_is_better_does(study):
    """The twin's difference has an interval without width: the resamples are the same patients for every encoder."""
    comparisons = table(study, "comparisons")
    same = comparisons[
        (comparisons["encoder_a"] == "good")
        & (comparisons["encoder_b"] == "twin")
        & (comparisons["index_a"] == "exact")
    ]
    assert len(same)
    assert (same[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (same[["p_value", "p_holm"]] == 1).all(axis=None)
    better = comparisons[
        (comparisons["encoder_a"] == "bad") & (comparisons["encoder_b"] == "good") & (comparisons["index_b"] == "exact")
    ]
    better = better[(better["relevance"] == "label") & (better["slice_by"] == "all")]
    assert len(better)
    assert (better["difference"] < -0.1).all()
    assert (better["ci_high"] < 0).all()
    assert (better["p_value"] < 0.01).all()


def test_encoders_share_their_resamples(study):
    metrics = table(study, "metrics").query("index == 'exact'").drop(columns="index")
    good, twin = (
        metrics[metrics["encoder"] == name].drop(columns="encoder").reset_index(drop=True) for name in ("good", "twin")
    )
    pd.testing.assert_frame_equal(good, twin)


def test_intervals_hold_their_figures_and_are_those_of_another_bootstrap(study):
    metrics = table(study, "metrics").dropna(subset="ci_low")
    inside = metrics["value"].between(metrics["ci_low"] - 1e-12, metrics["ci_high"] + 1e-12)
    assert inside.mean() > 0.97
    manifest = pq.read_table(study.files("manifest")).to_pandas().set_index("image_key")
    values = pq.read_table(study.files("query_metrics", "bad", "exact")).to_pandas()
    values = values.query("metric == 'precision_at_k' and relevance == 'label' and k == 5").join(
        manifest["patient_id"], on="query_key"
    )
    sums = values.groupby("patient_id")["value"].agg(["sum", "count"]).to_numpy()
    rng = np.random.default_rng(5)
    means = [np.divide(*sums[rng.integers(0, len(sums), len(sums))].sum(axis=0)) for _ in range(4000)]
    row = metrics.query(
        "encoder == 'bad' and index == 'exact' and metric == 'precision_at_k' and relevance == 'label' and k == 5"
    )
    row = row.query("slice_by == 'all' and average == 'micro'").iloc[0]
    width = row["ci_high"] - row["ci_low"]
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.2 * width)


def test_same_seed_same_bytes_other_seed_other_intervals(tmp_path):
    study = drawn(tmp_path / "s", images=60)
    for encoder in ("good", "bad"):
        search(study, encoder, "exact", SearchOptions(k=5))

    def evaluated(seed: int) -> dict[str, bytes]:
        evaluate(study, EvaluateOptions(**FEW | {"seed": seed}))
        return {
            name: Path(study.files(name)[0]).read_bytes()
            for name in ("metrics", "comparisons", "confusions", "hubness")
        }

    first, metrics = evaluated(0), table(study, "metrics")
    assert evaluated(0) == first
    evaluated(1)
    other = table(study, "metrics")
    pd.testing.assert_frame_equal(
        other.drop(columns=["ci_low", "ci_high"]), metrics.drop(columns=["ci_low", "ci_high"])
    )
    assert (other["ci_low"] != metrics["ci_low"])[metrics["ci_low"].notna()].mean() > 0.2


def test_without_resamples_there_are_neither_intervals_nor_comparisons(tmp_path):
    study = drawn(tmp_path / "s", images=40)
    for encoder in ("good", "bad"):
        search(study, encoder, "exact", SearchOptions(k=5))
    evaluate(study, EvaluateOptions(ks=(1,), resamples=0))
    assert table(study, "metrics")[["ci_low", "ci_high"]].isna().all(axis=None)
    assert len(table(study, "metrics"))
    assert table(study, "comparisons").empty


def test_one_patient_gives_no_interval(tmp_path):
    study = drawn(tmp_path / "s", images=40, patients=1)
    for encoder in ("good", "bad"):
        search(study, encoder, "exact", SearchOptions(k=5))
    evaluate(study, EvaluateOptions(**FEW))
    assert table(study, "metrics")[["ci_low", "ci_high"]].isna().all(axis=None)
    comparisons = table(study, "comparisons")
    assert len(comparisons)
    assert comparisons[["ci_low", "ci_high"]].isna().all(axis=None)
    assert (comparisons["p_value"] == 1).all()
