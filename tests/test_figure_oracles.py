"""Whole evaluations of drawn studies against pandas: every column of `metrics`, of `confusions` and of `hubness`, recomputed from the manifest and the neighbors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from cbmir.evaluate import evaluate
from cbmir.evaluating.options import AT_EVERY_LEVEL, LEVELS, EvaluateOptions
from cbmir.schemas import image_key
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.oracles import CHANCE, OURS, TREC, Asked, classes, judged, trec
from tests.studies import make_study

KS = (1, 3)
DEPTH = 7
NAMES = [
    "", "all", "unknown", "micro", "it's", 'a "quote"', "semi;colon, comma", "a/b/c/d", "XR//x", "läsion ß", "肺炎", "🫁", "x" * 3000,
    "a|b", "\t tab", "NULL", "' OR 1=1 --", "{k}", "$k", "%s",
]  # fmt: skip
# Columns that a source may have, called like what statements under sql/ call their own.
OURS_TOO = (
    "k", "value", "class", "classes", "class_set", "label", "pool", "rank", "query_key", "neighbor_key", "metric", "average", "slice_by", "profile", "patient",
    "n_queries", "n_gallery", "times", "embedded", "code", "exclusion", "distance", "image", "failed", "m", "q",
)  # fmt: skip
SLICES = ("label", "region", "modality", "dataset", "age", "class", "k", "a.b", 'we "ird', "slice")
KEY = ["metric", "relevance", "k", "slice_by", "slice", "average"]


def drawn(root: Path, seed: int, *, several: bool, n: int = 45) -> Study:
    rng = np.random.default_rng(seed)
    names = rng.choice(np.array(NAMES, object), 5, replace=False)
    rows = []
    for i in range(n):
        labels = (
            [name for name in names if rng.random() < 0.3]
            if several
            else [names[rng.integers(0, 5)]][: rng.integers(0, 8)]
        )
        row = {
            "image_id": f"d/{i}", "split": "test" if rng.random() < 0.45 else "train", "labels": labels,
            "dataset": ["one", "all"][rng.integers(0, 2)],
            "patient_id": f"p{rng.integers(0, 9)}" if rng.random() < 0.8 else None,  # the same text in both datasets
            "modality": ["XR", "CT", "unknown"][rng.integers(0, 3)], "region": ["chest", "all", "unknown"][rng.integers(0, 3)],
            "age": [None, 41.0, 63.5][rng.integers(0, 3)], "a.b": int(rng.integers(0, 2)), 'we "ird': ["x'y", None][rng.integers(0, 2)],
        }  # fmt: skip
        rows.append(row | {name: str(rng.integers(0, 2)) for name in OURS_TOO})
    rows[0]["split"], rows[1]["split"] = "train", "test"
    vectors = {row["image_id"]: rng.integers(-1, 2, 3) for row in rows if rng.random() < 0.9}
    vectors |= {"d/0": np.ones(3), "d/1": np.ones(3)}
    return make_study(root, rows, vectors)


def what_it_holds(study: Study, index: str = "exact") -> tuple[list[dict], dict[str, list[str]]]:
    """The manifest as `judged` takes it, and what each query found, failed ones included."""
    run = study.run_of("neighbors", "pixels32", index)["parameters"]
    rows = pq.read_table(study.files("manifest")).to_pylist()
    done = set(
        pq.read_table(study.files("embeddings", "encoder=pixels32"), columns=["image_key"])["image_key"].to_pylist()
    )
    codes = {}
    for row in rows:
        row["embedded"] = row["image_key"] in done
        whose = row["patient_id"] is not None and "patient_id" in run["exclude_same"]
        row["code"] = codes.setdefault((row["dataset"], row["patient_id"]), len(codes)) if whose else None
        row["gallery"] = run["gallery"] == "true" or row["split"] == "train"
    names = {row["image_key"]: row["image_id"] for row in rows}
    near = pq.read_table(study.files("neighbors", "pixels32", index)).to_pandas().sort_values("rank")
    found = {row["image_id"]: [] for row in rows if run["queries"] == "true" or row["split"] == "test"}
    for query, neighbor in zip(near["query_key"], near["neighbor_key"], strict=True):
        found[names[query]].append(names[neighbor])
    return rows, found


def scored(asked: list[Asked], level: str, depth: int) -> pd.DataFrame:
    """One row a query, metric and k: what it scores, and what chance would."""
    rows = []
    for metric in (*TREC, *OURS) if level == "label" else AT_EVERY_LEVEL:
        once = metric in ("reciprocal_rank", "average_precision", "r_precision")
        for k in [None] if once else range(1, depth + 1) if metric in AT_EVERY_LEVEL else KS:
            theirs = trec(asked, metric, k) if metric in TREC else {q.name: OURS[metric](q, k) for q in asked}
            for query in asked:
                chance = CHANCE[metric](query, k or depth) if query.relevant and metric in CHANCE else 0.0
                rows.append((metric, k, query.name, theirs[query.name], chance))
    return pd.DataFrame(rows, columns=["metric", "k", "image_id", "value", "chance"])


def cells(asked: list[Asked], rows: dict[str, dict], level: str, slices: tuple[str, ...]) -> pd.DataFrame:
    """One row a query, slice and class."""
    found = []
    for query in asked:
        row = rows[query.name]
        for by in ("all", *slices):
            if by == "label":
                there = set(row["labels"])
            else:
                there = {"all"} if by == "all" else {"unknown" if row[by] is None else str(row[by])}
            for value in there:
                found.append((query.name, by, value, "micro", ""))
                if by != ("label" if level == "label_in_region" else level):
                    found += [(query.name, by, value, "macro", name) for name in classes(row, level)]
    return pd.DataFrame(found, columns=["image_id", "slice_by", "slice", "average", "class"])


def expected_metrics(study: Study, slices: tuple[str, ...], index: str = "exact") -> pd.DataFrame:
    listed, ranked = what_it_holds(study, index)
    rows = {row["image_id"]: row for row in listed}
    depth = study.run_of("neighbors", "pixels32", index)["parameters"]["k"]
    tables = []
    for level in LEVELS:
        asked = judged(listed, ranked, level)
        if not asked:
            continue
        values = scored(asked, level, depth).merge(cells(asked, rows, level, slices), on="image_id")
        means = values.groupby([*KEY[:1], *KEY[2:], "class"], dropna=False).agg(
            value=("value", "mean"), std=("value", "std"), chance=("chance", "mean")
        )
        table = (
            means.groupby([*KEY[:1], *KEY[2:]], dropna=False).mean().reset_index()
        )  # means over classes; one for micro
        facts = pd.DataFrame(
            [
                (q.name, not rows[q.name]["embedded"], q.relevant == 0,
                 (rows[q.name]["dataset"], rows[q.name]["patient_id"]) if rows[q.name]["patient_id"] else q.name)
                for q in asked
            ],
            columns=["image_id", "failed", "unanswerable", "patient"],
        )  # fmt: skip
        members = cells(asked, rows, level, slices).query("average == 'micro'").merge(facts, on="image_id")
        sizes = members.groupby(["slice_by", "slice"]).agg(
            n_queries=("image_id", "nunique"), n_failed=("failed", "sum"), n_unanswerable=("unanswerable", "sum"), n_patients=("patient", "nunique")
        )  # fmt: skip
        tables.append(table.merge(sizes.reset_index(), on=["slice_by", "slice"]).assign(relevance=level))
    found = pd.concat(tables)
    whole = (found["relevance"] == "label") | (found["slice_by"] == "all")  # curves are kept at every k
    found = found[whole | found["k"].isin(KS) | found["k"].isna()].copy()
    found.loc[found["metric"] == "majority_vote_at_k", "chance"] = np.nan  # tests/test_metrics.py counts it
    found["lift"] = (found["value"] / found["chance"]).where(found["chance"] > 0)
    return found.assign(gallery_size=sum(row["gallery"] and row["embedded"] for row in listed))


def assert_metrics(study: Study, slices: tuple[str, ...], index: str = "exact") -> None:
    expected = expected_metrics(study, slices, index)
    found = pq.read_table(study.files("metrics")).to_pandas().query("relevance != '' and index == @index")
    assert not found.duplicated(KEY).any()
    both = expected.merge(found, on=KEY, how="outer", suffixes=("", "_found"), indicator=True)
    assert set(both["_merge"]) == {"both"}, both.query("_merge != 'both'")[KEY]
    for name in ("value", "n_queries", "n_failed", "n_unanswerable", "n_patients", "gallery_size"):
        np.testing.assert_allclose(both[f"{name}_found"], both[name], atol=1e-9, rtol=0, err_msg=name)
    np.testing.assert_allclose(both["std_found"], both["std"], atol=1e-7, rtol=0, err_msg="std")
    known = both["metric"] != "majority_vote_at_k"
    np.testing.assert_allclose(both["chance_found"][known], both["chance"][known], atol=1e-9, rtol=0, err_msg="chance")
    np.testing.assert_allclose(both["lift_found"][known], both["lift"][known], rtol=1e-8, err_msg="lift")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_every_column_of_metrics(tmp_path_factory, seed, several, exclude):
    study = drawn(tmp_path_factory.mktemp("s"), seed, several=several)
    gallery = sum(row["gallery"] and row["embedded"] for row in rows_of(study))
    depth = min(DEPTH, gallery)
    search(study, "pixels32", "exact", SearchOptions(k=depth, exclude_same=("patient_id",) if exclude else ()))
    evaluate(study, EvaluateOptions(ks=KS, slices=SLICES, resamples=0, allow_overlap=True), say=lambda line: None)
    assert_metrics(study, SLICES)


def rows_of(study: Study) -> list[dict]:
    done = set(
        pq.read_table(study.files("embeddings", "encoder=pixels32"), columns=["image_key"])["image_key"].to_pylist()
    )
    rows = pq.read_table(study.files("manifest")).to_pylist()
    return [row | {"embedded": row["image_key"] in done, "gallery": row["split"] == "train"} for row in rows]


def test_leave_one_out_passes_over_the_query_itself(tmp_path):
    """Gallery = queries = all: the query is neither found nor counted as a candidate; curves and chance know it, too."""
    study = drawn(tmp_path / "s", 3, several=True)
    search(
        study, "pixels32", "exact", SearchOptions(k=DEPTH, gallery="true", queries="true", exclude_same=("patient_id",))
    )
    slices = ("label", "region", "modality", "dataset")
    evaluate(study, EvaluateOptions(ks=KS, resamples=0), say=lambda line: None)
    assert_metrics(study, slices)


def confusion_of(study: Study) -> pd.DataFrame:
    """pandas.crosstab of the queries' labels and their nearest neighbor's, each row a mean: label, retrieved, share, n_queries."""
    rows, found = what_it_holds(study)
    labels = {row["image_id"]: row["labels"] for row in rows}
    pairs, sizes = [], {}
    for query, near in found.items():
        there = (labels[near[0]] if near else []) or [""]
        for label in labels[query]:
            sizes[label] = sizes.get(label, 0) + 1
            pairs += [(label, name, 1 / len(there)) for name in there]
    table = pd.DataFrame(pairs, columns=["label", "retrieved", "part"])
    crossed = pd.crosstab(table["label"], table["retrieved"], values=table["part"], aggfunc="sum", normalize="index")
    long = crossed.stack().rename("share").reset_index()
    long = long[long["share"] > 0]
    return long.assign(n_queries=long["label"].map(sizes))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_confusions_and_hubness(tmp_path, seed, several):
    study = drawn(tmp_path / "s", seed, several=several, n=70)
    search(study, "pixels32", "exact", SearchOptions(k=DEPTH))
    evaluate(study, EvaluateOptions(ks=KS, resamples=0, allow_overlap=True), say=lambda line: None)
    found = pq.read_table(study.files("confusions")).to_pandas()
    assert found.groupby("label")["share"].sum().to_numpy() == pytest.approx(1)
    expected = confusion_of(study).merge(found, on=["label", "retrieved"], how="outer", suffixes=("", "_found"))
    np.testing.assert_allclose(expected["share_found"], expected["share"], atol=1e-12)
    np.testing.assert_array_equal(expected["n_queries_found"], expected["n_queries"])
    assert_hubness(study)


def assert_hubness(study: Study) -> None:
    rows, found = what_it_holds(study)
    names = [row["image_id"] for row in rows if row["gallery"] and row["embedded"]]
    hubs = pq.read_table(study.files("hubness")).to_pandas().set_index("k")
    assert list(hubs.index) == [1, DEPTH]
    for k, hub in hubs.iterrows():
        counts = pd.Series(0, index=names).add(
            pd.Series([n for near in found.values() for n in near[:k]]).value_counts(), fill_value=0
        )
        assert hub["skewness"] == pytest.approx(skew(counts.to_numpy()), abs=1e-9)
        assert hub["never_found"] == pytest.approx(np.mean(counts == 0))
        assert hub["top_share"] == pytest.approx(
            np.sort(counts)[::-1][: max(1, len(names) // 100)].sum() / counts.sum()
        )
        assert hub["most_found"] == counts.max()
        assert hub["most_found_key"] == min(image_key(name) for name in counts.index[counts == counts.max()])
        assert (hub["n_queries"], hub["gallery_size"]) == (
            sum(row["embedded"] and row["image_id"] in found for row in rows),
            len(names),
        )


def test_nothing_stands_out_of_a_gallery_that_is_found_alike(tmp_path):
    """Each query finds all: no skewness; and without a neighbor at all there is no most found image."""
    rows = [
        {"image_id": f"{split}{i}", "split": split, "labels": ["A"], "patient_id": "p"}
        for split in ("train", "test")
        for i in range(3)
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    search(study, "pixels32", "exact", SearchOptions(k=3))
    search(study, "pixels32", "exact", SearchOptions(k=3, exclude_same=("patient_id",), save_as="none"))
    evaluate(study, EvaluateOptions(resamples=0, allow_overlap=True))
    hubs = pq.read_table(study.files("hubness")).to_pandas().query("k == 3").set_index("index")
    assert hubs["skewness"].isna().all()
    assert hubs.loc["exact", ["never_found", "top_share", "most_found"]].tolist() == pytest.approx([0, 1 / 3, 3])
    assert hubs.loc["none", ["never_found", "top_share", "most_found"]].tolist() == [1, 0, 0]
    assert pd.isna(hubs.loc["none", "most_found_key"])
    metrics = pq.read_table(study.files("metrics")).to_pandas().query("index == 'none'")
    assert (metrics["value"] == 0).all()
    metrics = metrics[metrics["metric"] != "majority_vote_at_k"]  # its chance counts what a search passes over
    assert (metrics["chance"] == 0).all()
    assert metrics["lift"].isna().all()
