"""--as-published denner2024 against what the paper's code gave, by the product's own route from their files."""

import csv
import io
import json

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from cbmir.as_published.denner2024 import write_denner2024
from cbmir.as_published.label_order import label_order
from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.evaluate import find_searches
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.studies import make_study

FILES = ("retrieval", "knn_validation_val", "knn_classification")
PLACE = ("as_published", "denner2024")


def table(text: str) -> list[dict[str, float]]:
    """Rows of a CSV file; an empty cell is None."""
    return [{name: float(v) if v else None for name, v in row.items()} for row in csv.DictReader(io.StringIO(text))]


def split_searches(study: Study, encoder: str, **options) -> None:
    for split, name in (("test", None), ("val", "exact-val")):
        search(study, encoder, "exact", SearchOptions(queries=f"split = '{split}'", save_as=name, **options))


def test_the_papers_code_and_ours_give_the_same_figures(shared, tmp_path):
    golden = shared / "golden" / "denner"
    if not golden.is_dir():
        pytest.skip(f"no folder {golden}: this test reads the figures of the paper's code there")
    address = str(tmp_path / "study")
    assert (
        main(
            [
                "manifest",
                "denner-csv",
                *(str(golden / f"{s}.csv") for s in ("train", "val", "test")),
                "--study",
                address,
            ]
        )
        == 0
    )
    assert main(["embeddings", "import", str(golden / "syn.h5"), "--encoder", "syn", "--study", address]) == 0
    study, said = Study(address), []
    split_searches(study, "syn", metric="ip", k=100)
    (run,) = write_denner2024(study, find_searches(study), say=said.append)
    assert said == ["as published: denner2024 of syn by exact: 3 CSV files in as_published/denner2024"]
    assert run["best_row"] == 34
    for name in FILES:
        theirs = (golden / f"{name}.csv").read_text()
        ours = study.read_text(*PLACE, "syn", "exact", f"{name}.csv")
        assert ours.splitlines()[0] == theirs.splitlines()[0]
        expected, found = table(theirs), table(ours)
        assert len(found) == len(expected) > 0
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-9, rel=0)


def test_the_manifest_keeps_the_order_of_label_columns(tmp_path):
    head = "filepath,dataset,split,modality,anatomic_region,"
    (tmp_path / "a.csv").write_text(head + "XR/chest/Z,XR/chest/A\na.png,d,train,XR,chest,1,0\n")
    (tmp_path / "b.csv").write_text(head + "XR/chest/M,XR/chest/A\nb.png,d,test,XR,chest,0,1\n")
    study = Study(str(tmp_path / "study"))
    assert (
        main(["manifest", "denner-csv", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--study", study.address])
        == 0
    )
    assert label_order(study) == (["XR/chest/Z", "XR/chest/A", "XR/chest/M"], True)
    assert not pq.read_schema(study.files("manifest")[0]).metadata


# Angles of a gallery that a query at 0 finds from the first to the last; 105 more behind them, so that there are 100 neighbors.
RARE, COMMON = "XR/chest/Rare", "XR/chest/Common"


def small(tmp_path, *, lost=(), more=()) -> Study:
    """Gallery: Rare, Common, Rare, then 105 x Common. Queries of val and test: one Rare, one Common, one of a label that the gallery lacks."""
    labels = [RARE, COMMON, RARE, *[COMMON] * 105]
    rows = [{"image_id": f"g/{i}", "split": "train", "labels": [label]} for i, label in enumerate(labels)]
    angles = {f"g/{i}": 0.1 * (i + 1) for i in range(len(labels))}
    for split in ("val", "test"):
        for label in (RARE, COMMON, "XR/chest/Nowhere"):
            rows.append({"image_id": f"{split}/{label[9:]}", "split": split, "labels": [label]})
            angles[rows[-1]["image_id"]] = 0.0
    rows += more
    vectors = {
        name: np.array([np.cos(np.radians(a)), np.sin(np.radians(a))]) for name, a in angles.items() if name not in lost
    }
    vectors |= {row["image_id"]: np.array([1.0, 0.0]) for row in more}
    return make_study(tmp_path / "study", rows, vectors)


def test_their_definitions_by_hand(tmp_path):
    """Rare has two images, so at most two neighbors vote for the query of that label; nobody counts the query of Nowhere."""
    study, said = small(tmp_path), []
    split_searches(study, "pixels32", k=100)
    (run,) = write_denner2024(study, find_searches(study), say=said.append)
    assert "alphabetical order" in said[0]
    retrieval, on_val, on_test = (table(study.read_text(*PLACE, "pixels32", "exact", f"{name}.csv")) for name in FILES)
    for n, rare, common in ((1, 1, 0), (2, 1 / 2, 1 / 2), (3, 1 / 2, 1 / 3), (4, 1 / 2, 2 / 4), (99, 1 / 2, 97 / 99)):
        row = retrieval[n - 1]
        assert row["micro_precision_mean"] == pytest.approx((rare + common) / 2)
        assert row["macro_precision_mean"] == pytest.approx((rare + common) / 2)
        assert row["micro_precision_std"] == pytest.approx(abs(rare - common) / 2**0.5)
        assert row["macro_precision_std"] is None  # one query a label has no deviation
    # k 1: both say Rare. k 2: a tie for both, and Common stands before Rare in alphabetical order. k 3: Rare's query has two voters, Common's three: R C R
    assert [row["macro_accuracy"] for row in on_val[:5]] == [0.5, 0.5, 0.0, 0.5, 0.5]
    assert run["best_row"] == 0
    assert set(on_test[0].values()) == {None}  # no neighbor votes: their code gives no number


def test_what_the_definitions_do_not_cover_is_refused(tmp_path):
    two = {"image_id": "g/two", "split": "train", "labels": [RARE, COMMON]}
    study = small(tmp_path, more=[two])
    split_searches(study, "pixels32", k=100)
    with pytest.raises(UserError, match="1 images have several labels"):
        write_denner2024(study, find_searches(study), say=lambda line: None)
    assert not study.exists("as_published")


def test_shallow_searches_and_a_missing_one_are_told_of(tmp_path):
    study = small(tmp_path)
    search(study, "pixels32", "exact", SearchOptions(k=100))
    with pytest.raises(UserError, match="k is chosen on a search of the split val"):
        write_denner2024(study, find_searches(study), say=lambda line: None)
    search(study, "pixels32", "exact", SearchOptions(k=50, queries="split = 'val'", save_as="exact-val"))
    with pytest.raises(UserError, match="searched with -k 50; expected 99 or more"):
        write_denner2024(study, find_searches(study), say=lambda line: None)


def test_a_split_without_a_query_to_judge_is_told_of(tmp_path):
    study = small(tmp_path, lost=("val/Rare", "val/Common"))
    split_searches(study, "pixels32", k=100)
    with pytest.raises(UserError, match="no image of split val has a vector and a label that the gallery has"):
        write_denner2024(study, find_searches(study), say=lambda line: None)


def test_what_is_published_names_its_inputs(tmp_path):
    study = small(tmp_path)
    split_searches(study, "pixels32", k=100)
    write_denner2024(study, find_searches(study), say=lambda line: None)
    run = json.loads(study.read_text(*PLACE, "pixels32", "exact", "run.json"))
    assert run["inputs"]["manifest"] == study.require("manifest")["fingerprint"]
    assert run["inputs"]["neighbors_val"] == study.require("neighbors", "pixels32", "exact-val")["fingerprint"]
    assert run["parameters"]["label_order"] == sorted([RARE, COMMON, "XR/chest/Nowhere"])


def test_the_statements_run_in_duckdb_alone(tmp_path):
    """Query 1 has label 1, of which the gallery has one image; it finds an image of label 2, then that one."""
    from pathlib import Path

    sql = Path(__file__).resolve().parents[1] / "sql" / "as_published"
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE neighbors AS FROM (VALUES (1, 12, 1), (1, 11, 2)) AS t(query_key, neighbor_key, rank)"
    )
    connection.execute("CREATE TABLE carriers AS FROM (VALUES (11, 1), (12, 2)) AS t(image_key, code)")
    connection.execute("CREATE TABLE truths AS SELECT 1 AS query_key, 1 AS code")
    connection.execute(f"CREATE TABLE caps AS {(sql / 'caps.sql').read_text()}")
    assert connection.execute("FROM caps").fetchall() == [(1, 1, 1)]
    assert connection.execute((sql / "capped_scores.sql").read_text(), {"k": 2}).fetchall() == [(1, 2, 1.0, 0)]
    assert connection.execute((sql / "retrieval.sql").read_text(), {"most": 2}).fetchall() == [
        (1, 0, None, 0, None),
        (2, 0, None, 0, None),
    ]
