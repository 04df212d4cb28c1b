"""The retrieval figures that the published code of Denner et al. 2024 gave on a drawn case: P@1 to P@99, micro and macro, with their spread."""

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.search import SearchOptions, search
from tests.studies import make_study


@pytest.fixture(scope="module")
def golden(shared):
    directory = shared / "golden" / "denner"
    if not directory.is_dir():
        pytest.skip(f"no folder {directory}: this test reads the golden case there")
    return directory


@pytest.fixture(scope="module")
def figures(golden, tmp_path_factory) -> pd.DataFrame:
    """precision_at_k_capped over all queries, of an exact search by inner product."""
    rows, vectors = [], {}
    with h5py.File(golden / "syn.h5") as stored:
        for split in ("train", "test"):
            table = pd.read_csv(golden / f"{split}.csv")
            names = [name for name in table.columns if name.count("/") == 2]
            for _, row in table.iterrows():
                path = row["filepath"]
                rows.append({"image_id": path, "split": split, "labels": [name for name in names if row[name] == 1]})
                vectors[path] = np.array(stored[path])
    study = make_study(tmp_path_factory.mktemp("golden") / "study", rows, vectors)
    search(study, "pixels32", "exact", SearchOptions(metric="ip"))
    evaluate(study, EvaluateOptions(metrics=("precision_at_k_capped",), resamples=0))
    metrics = pq.read_table(study.files("metrics")).to_pandas()
    return metrics.query("slice_by == 'all' and relevance == 'label'").set_index(["average", "k"])


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("column, theirs", [("value", "mean"), ("std", "std")])
def test_the_published_curves(figures, golden, average, column, theirs):
    expected = pd.read_csv(golden / "retrieval.csv")[f"{average}_precision_{theirs}"]
    assert len(expected) == 99
    assert figures["n_unanswerable"].max() == 0  # theirs would lose such queries
    assert figures.loc[average][column].loc[1:99].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)
