"""The figures that the published code of Mahbod et al. 2024 gave on a drawn case, through the whole of search and evaluate."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.schemas import image_key
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.studies import make_study

THEIRS = {  # their name -> ours
    "mAP@5": ("average_precision_over_hits_at_k", 5),
    "mMV@5": ("majority_vote_at_k", 5),
    "ACC@1": ("hit_rate_at_k", 1),
    "ACC@3": ("hit_rate_at_k", 3),
    "ACC@5": ("hit_rate_at_k", 5),
}


@pytest.fixture(scope="module")
def golden(shared):
    directory = shared / "golden" / "mahbod"
    if not directory.is_dir():
        pytest.skip(f"no folder {directory}: this test reads the golden case there")
    return directory


@pytest.fixture(scope="module")
def study(golden, tmp_path_factory) -> Study:
    """The case searched by Euclidean distance and by cosine, k = 5, and scored."""
    case = np.load(golden / "case.npz")
    rows, vectors = [], {}
    for split, role in (("train", "gallery"), ("test", "queries")):
        labels = case["query_labels" if role == "queries" else "gallery_labels"]
        for i, (vector, label) in enumerate(zip(case[role], labels, strict=True)):
            rows.append({"image_id": f"{role}/{i}", "split": split, "labels": [str(label)]})
            vectors[f"{role}/{i}"] = vector
    study = make_study(tmp_path_factory.mktemp("golden") / "study", rows, vectors)
    search(study, "pixels32", "exact", SearchOptions(k=5, metric="cos"))
    search(study, "pixels32", "exact", SearchOptions(k=5, metric="l2", save_as="euclidean"))
    evaluate(study, EvaluateOptions(ks=(1, 3, 5), resamples=0))
    return study


@pytest.mark.parametrize("index, file", [("exact", "cosine"), ("euclidean", "euclidean")])
def test_the_published_figures(study, golden, index, file):
    metrics = pq.read_table(study.files("metrics")).to_pandas()
    metrics = metrics.query("slice_by == 'all' and relevance == 'label' and average == 'micro' and index == @index")
    found = metrics.set_index(["metric", "k"])["value"]
    expected = json.loads((golden / f"{file}.json").read_text())
    assert expected.keys() == THEIRS.keys()
    assert {name: found[ours] for name, ours in THEIRS.items()} == pytest.approx(expected, abs=1e-9)


def test_each_query(study, golden):
    expected = pd.read_csv(golden / "per_query_euclidean.csv").set_index("query")
    table = pq.read_table(study.files("query_metrics", "pixels32", "euclidean")).to_pandas()
    table = table[table["relevance"] == "label"].set_index(["metric", "k", "query_key"])["value"]
    keys = [image_key(f"queries/{i}") for i in expected.index]
    assert len(keys) == 120
    for name, ours in THEIRS.items():
        assert table.loc[ours].loc[keys].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-9), name


def test_the_neighbors(study, golden):
    top = np.load(golden / "case.npz")["euclidean_top5"]
    found = pq.read_table(study.files("neighbors", "pixels32", "euclidean")).to_pandas()
    found = found.sort_values("rank").groupby("query_key")["neighbor_key"].agg(list)
    assert {
        image_key(f"queries/{i}"): [image_key(f"gallery/{n}") for n in near] for i, near in enumerate(top)
    } == found.to_dict()
