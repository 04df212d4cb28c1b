"""kNN classification: each statement by hand, in DuckDB alone; every figure at every k against scikit-learn on dense arrays."""

import itertools
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from cbmir.classifying.pairs import knn_figures
from cbmir.evaluate import find_searches
from cbmir.flags import parse
from cbmir.index import IndexOptions, build_index
from cbmir.schemas import check, image_key
from cbmir.search import SearchOptions, search
from cbmir.sql_files import names
from tests.studies import make_study

SQL = Path(__file__).resolve().parents[1] / "sql" / "classification"

# Two labels a (1) and b (2), c (3) that no gallery image has; queries 1 and 2, and 3 that was not embedded. Query 1 finds b, a, a+b, -; query 2 finds a, a.
HAND = {
    "manifest": """VALUES (1, ['a']), (2, ['b', 'c']), (3, ['a']), (4, []), (11, ['b']), (12, ['a']), (13, ['b', 'a']), (14, []), (15, ['d'])
                   AS t(image_key, labels)""",
    "query_keys": "VALUES (1), (2), (3), (4) AS t(image_key)",
    "gallery_keys": "VALUES (11), (12), (13), (14), (15) AS t(image_key)",
    "embedded": "VALUES (1), (2), (4), (11), (12), (13), (14) AS t(image_key)",
    "judged": "VALUES (1, true, ['a']), (2, true, ['b', 'c']), (3, false, ['a']) AS t(query_key, embedded, labels)",
    "labels": "VALUES (1, 'a', 2, 1), (2, 'b', 1, 2), (3, 'c', 1, 2) AS t(code, label, positives, negatives)",
    "carriers": "VALUES (11, 2), (12, 1), (13, 1), (13, 2) AS t(image_key, code)",
    "truths": "VALUES (1, 1), (2, 2), (2, 3), (3, 1) AS t(query_key, code)",
    "neighbors": """VALUES (1, 11, 1), (1, 12, 2), (1, 13, 3), (1, 14, 4), (2, 14, 1), (2, 12, 2), (2, 13, 3), (4, 11, 1)
                    AS t(query_key, neighbor_key, rank)""",
    "votes": """VALUES (1, 2, 1, 1, 2), (1, 1, 1, 2, 2), (1, 2, 2, 3, 4), (1, 1, 2, 3, 4), (2, 1, 1, 2, 2), (2, 1, 2, 3, 4), (2, 2, 1, 3, 4)
                AS t(query_key, code, votes, first_k, last_k)""",
    "leaders": "VALUES (1, 2, 1, 2), (1, 1, 3, 4), (2, 1, 2, 2), (2, 1, 3, 4) AS t(query_key, code, first_k, last_k)",
    "scores": "VALUES (1, 2, 0.5, 3), (1, 1, 0.5, 3), (2, 1, 0.5, 3), (2, 2, 0.25, 3) AS t(query_key, code, score, turn)",
    "predicted": "VALUES (1, 1), (2, 1) AS t(query_key, code)",
    "score_counts": "VALUES (4, 1, 0.5, 1, 1), (4, 2, 0.5, 0, 1), (4, 2, 0.25, 1, 0) AS t(k, code, score, positives, negatives)",
    "outcomes": "VALUES (4, 1, 2, 1), (4, 2, 0, 0), (4, 3, 0, 0) AS t(k, code, predicted, hits)",
}  # fmt: skip

# statement -> (parameters, rows); where a table of HAND has the statement's name, that is what it gives
GIVES = {
    "judged": ({}, HAND["judged"]),
    "labels": ({}, HAND["labels"]),
    "carriers": ({}, HAND["carriers"]),
    "truths": ({}, HAND["truths"]),
    "votes": ({"depth": 4}, HAND["votes"]),
    "leaders": ({"depth": 4}, HAND["leaders"]),
    "neighbor_scores": ({"k": 4}, HAND["scores"]),
    "predicted": ({}, HAND["predicted"]),
    "score_counts": ({"k": 4}, HAND["score_counts"]),
    "outcomes": ({"k": 4}, HAND["outcomes"]),
    # votes of a: k 2: one by query 1 (has it) and one by 2 (has not), k 3 and 4: two by each; of b: k 1, 2: one by query 1 (has not); then two by it, one by 2
    "score_counts_by_k": (
        {"depth": 4},
        """VALUES (2, 1, 1, 1, 1), (3, 1, 2, 1, 1), (4, 1, 2, 1, 1), (1, 2, 1, 0, 1), (2, 2, 1, 0, 1), (3, 2, 2, 0, 1), (4, 2, 2, 0, 1),
           (3, 2, 1, 1, 0), (4, 2, 1, 1, 0)""",
    ),
    # k 1: query 1 says b; k 2: it says b, query 2 says a; then both say a, and query 1 is right
    "outcomes_by_k": (
        {"depth": 4},
        "VALUES (1, 1, 0, 0), (2, 1, 1, 0), (3, 1, 2, 1), (4, 1, 2, 1), (1, 2, 1, 0), (2, 2, 1, 0), (3, 2, 0, 0), (4, 2, 0, 0), "
        + ", ".join(f"({k}, 3, 0, 0)" for k in (1, 2, 3, 4)),
    ),
    # of 3 queries one is right; a: precision 1/2, recall 1/2, F1 1/2; b and c: 0; micro F1 = 2 x 1 / (2 predicted + 4 true)
    "rates": (
        {},
        """VALUES (4, 'accuracy', 'micro', 1/3, 3), (4, 'f1', 'micro', 1/3, 3), (4, 'f1', 'macro', 0.5/3, 3),
           (4, 'precision', 'macro', 0.5/3, 3), (4, 'recall', 'macro', 0.5/3, 3)""",
    ),
    # a: positives 0.5, 0, negative 0.5: (1/2 + 0) / 2; b: positive 0.25, negatives 0.5, 0: 1/2; c: all 0: 1/2.
    # micro: positives 0.5, 0.25, 0, 0, negatives 0.5, 0.5, 0, 0, 0: (2/2 + 3) + 3 + 2 x 3/2 = 10 of 20
    "roc_auc": ({}, "VALUES (4, 'roc_auc', 'micro', 10/20, 3), (4, 'roc_auc', 'macro', (1/4 + 1/2 + 1/2) / 3, 3)"),
}  # fmt: skip


def test_every_statement_has_its_case():
    assert set(GIVES) == set(names("classification"))


@pytest.mark.parametrize("name", GIVES)
def test_statements_by_hand(name):
    """DuckDB and the file, nothing of cbmir."""
    connection = duckdb.connect()
    for table, rows in HAND.items():
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM ({rows})")
    parameters, expected = GIVES[name]
    found = connection.execute((SQL / f"{name}.sql").read_text(), parameters).fetchall()
    wanted = connection.execute(
        expected if expected.startswith("VALUES") and " AS t(" not in expected else f"FROM ({expected})"
    ).fetchall()
    assert sorted(found) == [
        pytest.approx(row) if any(isinstance(v, float) for v in row) else row for row in sorted(wanted)
    ]


@pytest.mark.parametrize(
    "kind, name", [(kind, name) for kind in ("classification", "as_published") for name in names(kind)]
)
def test_every_statement_says_what_it_reads_and_returns(kind, name):
    text = (SQL.parent / kind / f"{name}.sql").read_text()
    assert text.startswith(f"-- {name}: ")
    assert "\n-- reads    " in text
    assert "\n-- returns  " in text


def drawn_study(root: Path, seed: int, *, several: bool):
    """40 to 70 images with ties in distance, failures, images without labels and labels of one role only."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(int(rng.integers(40, 70))):
        split = ["train", "val", "test"][rng.integers(0, 3)]
        mine = (
            [c for c in "ABCD" if rng.random() < 0.3]
            if several
            else ["ABCD"[rng.integers(0, 4)]] * (rng.random() < 0.9)
        )
        own = [split] if rng.random() < 0.1 and (several or not mine) else []  # a label that no other role has
        rows.append({"image_id": f"d/{i}", "split": split, "labels": [f"XR/chest/{c}" for c in [*mine, *own]],
                     "patient_id": f"p{rng.integers(0, 12)}"})  # fmt: skip
    for i, split in enumerate(["train", "val", "test"]):
        rows[i] |= {"split": split, "labels": ["XR/chest/A"]}
    vectors = {row["image_id"]: rng.integers(-1, 2, 3) for row in rows if rng.random() < 0.9}
    for i in range(3):
        vectors.setdefault(f"d/{i}", np.ones(3))
    return make_study(root, rows, vectors), rows


def dense(rows, neighbors, split, k, labels):
    """(truths, scores, predictions) (n, labels) of the judged queries of a split, by a plain loop over ranks."""
    by_key = {image_key(row["image_id"]): row["labels"] for row in rows}
    queries = [row for row in rows if row["split"] == split and row["labels"]]
    shape = (len(queries), len(labels))
    truths, votes, predictions = np.zeros(shape, int), np.zeros(shape), np.zeros(shape, int)
    for i, row in enumerate(queries):
        truths[i] = [label in row["labels"] for label in labels]
        leader = None
        for key in neighbors.get(image_key(row["image_id"]), [])[:k]:
            for j in sorted(labels.index(label) for label in by_key[key]):
                votes[i, j] += 1
                if leader is None or votes[i, j] > votes[i, leader]:
                    leader = j
        if leader is not None:
            predictions[i, leader] = 1
    return truths, votes / k, predictions


def by_scikit_learn(truths, scores, predictions):
    asked = np.flatnonzero(truths.any(axis=0))
    both = [j for j in range(truths.shape[1]) if 0 < truths[:, j].sum() < len(truths)]
    macro = {"average": "macro", "labels": asked, "zero_division": 0}
    return {
        ("accuracy", "micro"): (truths * predictions).sum() / len(truths),
        ("f1", "micro"): f1_score(truths, predictions, average="micro", zero_division=0),
        ("f1", "macro"): f1_score(truths, predictions, **macro),
        ("precision", "macro"): precision_score(truths, predictions, **macro),
        ("recall", "macro"): recall_score(truths, predictions, **macro),
        ("roc_auc", "micro"): roc_auc_score(truths.ravel(), scores.ravel()),
        ("roc_auc", "macro"): np.mean([roc_auc_score(truths[:, j], scores[:, j]) for j in both]) if both else None,
    }


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_every_figure_at_every_k_is_that_of_scikit_learn(tmp_path_factory, seed, several, exclude):
    study, rows = drawn_study(tmp_path_factory.mktemp("s"), seed, several=several)
    same = ("patient_id",) if exclude else ()
    for split in ("val", "test"):
        search(
            study,
            "pixels32",
            "exact",
            SearchOptions(queries=f"split = '{split}'", save_as=f"exact-{split}", exclude_same=same),
        )
    table, lines = knn_figures(study, find_searches(study))
    check(table, "classification")
    assert lines == []
    depth = study.run_of("neighbors", "pixels32", "exact-val")["parameters"]["k"]
    figures = table.to_pylist()
    chosen = {row["k"] for row in figures if row["chosen"]}
    assert len(chosen) == 1
    assert {row["k"] for row in figures if row["split"] == "val"} == set(range(1, depth + 1))
    embedded = set(pq.read_table(study.files("embeddings", "encoder=pixels32"))["image_key"].to_pylist())
    best = []
    for split in ("val", "test"):
        found = pq.read_table(study.files("neighbors", "pixels32", f"exact-{split}")).to_pylist()
        near = {
            q: [r["neighbor_key"] for r in group] for q, group in itertools.groupby(found, key=lambda r: r["query_key"])
        }
        in_gallery = [row for row in rows if row["split"] == "train" and image_key(row["image_id"]) in embedded]
        labels = sorted(
            {label for row in [*in_gallery, *(r for r in rows if r["split"] == split)] for label in row["labels"]}
        )
        for k in range(1, depth + 1) if split == "val" else chosen:
            arrays = dense(rows, near, split, k, labels)
            expected = by_scikit_learn(*arrays)
            rows_of_k = [row for row in figures if row["split"] == split and row["k"] == k]
            assert {(r["metric"], r["average"]): r["value"] for r in rows_of_k} == {
                name: value if value is None else pytest.approx(value, abs=1e-12) for name, value in expected.items()
            }
            asked = [r for r in rows if r["split"] == split and r["labels"]]
            lost = sum(image_key(r["image_id"]) not in embedded for r in asked)
            assert {(r["n_queries"], r["n_failed"]) for r in rows_of_k} == {(len(asked), lost)}
            if split == "val":
                best.append(expected["f1", "micro"])
    assert chosen == {int(np.argmax(np.round(best, 12))) + 1}


@pytest.fixture
def pair(tmp_path):
    """A study that has searched its test images, and not yet those of val."""
    study, _ = drawn_study(tmp_path / "study", 3, several=False)
    search(study, "pixels32", "exact", SearchOptions(k=5, exclude_same=("patient_id",)))
    return study


def test_what_to_run_is_said_and_then_makes_the_pair(pair):
    import shlex

    from cbmir.cli import main

    table, lines = knn_figures(pair, find_searches(pair))
    assert table.num_rows == 0
    command = lines[0].split("make it with: ")[1]
    assert parse(shlex.split(command)[1:]).queries == "split = 'val'"
    assert main(shlex.split(command)[1:]) == 0
    table, lines = knn_figures(pair, find_searches(pair))
    assert lines == []
    assert set(table["index"].to_pylist()) == {"exact"}
    assert table.num_rows == 7 * (5 + 1)


def test_only_searches_alike_are_a_pair(pair):
    search(pair, "pixels32", "exact", SearchOptions(k=5, queries="split = 'val'", save_as="exact-val"))
    _, lines = knn_figures(pair, find_searches(pair))
    assert "--exclude-same patient_id --save-as exact-val" in lines[0]


def test_an_index_has_a_pair_of_its_own(pair):
    build_index(pair, "pixels32", "hnsw", IndexOptions())
    search(pair, "pixels32", "hnsw", SearchOptions(k=5))
    search(pair, "pixels32", "exact", SearchOptions(k=5, queries="split = 'val'", save_as="v"))
    _, lines = knn_figures(pair, find_searches(pair))
    assert ["of pixels32 by exact" in lines[0], "--index hnsw" in lines[1]] == [True, True]


def test_one_search_of_both_splits_is_its_own_partner(pair):
    search(pair, "pixels32", "exact", SearchOptions(k=5, queries="split <> 'train'", save_as="all"))
    table, _ = knn_figures(pair, [s for s in find_searches(pair) if s.index == "all"])
    splits = {(row["split"], row["n_queries"]) for row in table.to_pylist()}
    counts = dict(
        duckdb.sql(
            f"SELECT split, count(*) FROM '{pair.files('manifest')[0]}' WHERE len(labels) > 0 GROUP BY 1"
        ).fetchall()
    )
    assert splits == {("val", counts["val"]), ("test", counts["test"])}


def test_a_study_without_val_images_has_no_knn_classification(tmp_path):
    rows = [{"image_id": f"a/{i}", "split": "test" if i % 2 else "train", "labels": ["XR/chest/A"]} for i in range(6)]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    search(study, "pixels32", "exact", SearchOptions())
    table, lines = knn_figures(study, find_searches(study))
    assert (table.num_rows, lines) == (0, [])


def test_queries_without_any_label_are_told_of(tmp_path):
    rows = [
        {"image_id": f"a/{i}", "split": ["train", "val", "test"][i % 3], "labels": ["XR/chest/A"] if i % 3 == 0 else []}
        for i in range(9)
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(2) for row in rows})
    search(study, "pixels32", "exact", SearchOptions(queries="split <> 'train'"))
    table, lines = knn_figures(study, find_searches(study))
    assert table.num_rows == 0
    assert "has a label" in lines[0]
