"""Every figure against a hand-worked case and against an independent computation in plain Python."""

import itertools
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import AT_EVERY_LEVEL, LEVELS, EvaluateOptions
from cbmir.evaluating.staging import attach_slices, lay_out, stage
from cbmir.index import IndexOptions, build_index
from cbmir.schemas import ContractError, image_key
from cbmir.search import SearchOptions, search
from cbmir.select import connect
from cbmir.sql_files import create, names, read
from cbmir.store import Study
from tests.studies import make_study


def metrics(study: Study) -> list[dict]:
    return pq.read_table(study.files("metrics")[0]).to_pylist()


def figure(rows: list[dict], **where) -> dict:
    found = [row for row in rows if all(row[key] == value for key, value in where.items())]
    assert len(found) == 1, found
    return found[0]


# A gallery of four on a line of angles, so that the order of neighbors can be read off.
HAND = [
    {"image_id": "a/1", "split": "train", "labels": ["A"]},
    {"image_id": "a/2", "split": "train", "labels": ["B"]},
    {"image_id": "a/3", "split": "train", "labels": ["A", "B"]},
    {"image_id": "a/4", "split": "train", "labels": [], "modality": "CT"},
    {"image_id": "a/q1", "split": "test", "labels": ["A"]},  # finds 1, 2, 3, 4: A, B, AB, none
    {"image_id": "a/q2", "split": "test", "labels": ["B"], "modality": "CT"},  # finds 4, 3, 2, 1
    {"image_id": "a/q3", "split": "test", "labels": ["C"]},  # its label is not in the gallery: scores 0, stays
    {"image_id": "a/q4", "split": "test", "labels": ["A"]},  # was not embedded: scores 0, stays
    {"image_id": "a/q5", "split": "test", "labels": []},  # has no label: cannot be judged by label
]
ANGLES = {"a/1": 10, "a/2": 20, "a/3": 30, "a/4": 40, "a/q1": 0, "a/q2": 50, "a/q3": 0, "a/q5": 0}


@pytest.fixture
def hand(tmp_path):
    for row in HAND:
        modality = row.get("modality", "XR")
        row["labels"] = [label if "/" in label else f"{modality}/chest/{label}" for label in row["labels"]]
    vectors = {name: np.array([np.cos(np.radians(a)), np.sin(np.radians(a))]) for name, a in ANGLES.items()}
    study = make_study(tmp_path / "study", HAND, vectors)
    search(study, "pixels32", "exact", SearchOptions())
    evaluate(
        study,
        EvaluateOptions(
            ks=(
                1,
                2,
                3,
                4,
            ),
            resamples=0,
            allow_overlap=True,
        ),
    )
    return study


@pytest.mark.parametrize(
    "k, expected",  # q1: A, B, AB, -   q2 (CT/chest/B): nothing of its label   q3, q4: 0
    [(1, (1 / 1 + 0 + 0 + 0) / 4), (2, (1 / 2) / 4), (3, (2 / 3) / 4), (4, (2 / 4) / 4)],
)
def test_precision_by_hand(hand, k, expected):
    row = figure(metrics(hand), metric="precision_at_k", relevance="label", k=k, slice_by="all", average="micro")
    assert row["value"] == pytest.approx(expected, abs=1e-12)
    assert (row["n_queries"], row["n_failed"], row["gallery_size"]) == (4, 1, 4)


def test_macro_is_the_mean_over_labels_of_the_mean_within_each(hand):
    row = figure(metrics(hand), metric="precision_at_k", relevance="label", k=1, slice_by="all", average="macro")
    assert row["value"] == pytest.approx(
        ((1 + 0) / 2 + 0 + 0) / 3
    )  # labels XR/chest/A (q1, q4), CT/chest/B (q2), XR/chest/C (q3)


def test_chance_by_hand(hand):
    """q1 and q4: 2 relevant of 4; q2 (CT/chest/B) and q3: none."""
    row = figure(metrics(hand), metric="precision_at_k", relevance="label", k=2, slice_by="all", average="micro")
    assert row["chance"] == pytest.approx((2 / 4 + 0 + 0 + 2 / 4) / 4)


def test_modality_level_judges_every_query(hand):
    row = figure(metrics(hand), metric="precision_at_k", relevance="modality", k=1, slice_by="all", average="micro")
    assert row["n_queries"] == 5
    assert row["value"] == pytest.approx((1 + 1 + 1 + 0 + 1) / 5)  # q1 XR, q2 CT, q3 XR, q4 failed, q5 XR
    assert row["chance"] == pytest.approx((3 / 4 * 4 + 1 / 4) / 5)


def test_per_label_region_and_modality_slices_are_there(hand):
    rows = [row for row in metrics(hand) if row["metric"] == "precision_at_k"]
    assert figure(rows, relevance="label", k=1, slice_by="label", slice="XR/chest/A")["value"] == pytest.approx(0.5)
    assert figure(rows, relevance="label", k=1, slice_by="modality", slice="CT", average="micro")["value"] == 0
    assert figure(rows, relevance="label", k=1, slice_by="region", slice="chest", average="micro")["n_queries"] == 4
    assert {row["average"] for row in rows if row["slice_by"] == "label" and row["relevance"] == "label"} == {"micro"}


def test_figures_are_unique_and_chance_stands_beside_each(hand):
    rows = metrics(hand)
    keys = ["encoder", "index", "metric", "relevance", "k", "slice_by", "slice", "average"]
    assert len({tuple(row[key] for key in keys) for row in rows}) == len(rows)
    assert all(0 <= row["value"] <= 1 for row in rows)
    assert {row["metric"] for row in rows if row["chance"] is None} == {"majority_vote_at_k"}  # an image has two labels
    assert all(0 <= row["chance"] <= 1 for row in rows if row["chance"] is not None)


def naive(rows, neighbors, *, level, k):
    """query -> (P@k, classes), in plain Python; None where the query cannot be judged."""
    by_key = {image_key(row["image_id"]): row for row in rows}

    def classes(row):
        if level in ("label", "label_in_region"):
            return set(row["labels"])
        if level == "modality_region":
            return set() if "unknown" in (row["modality"], row["region"]) else {(row["modality"], row["region"])}
        return {row[level]} - {"unknown"}

    found = {}
    for key, row in by_key.items():
        if row["split"] == "test" and classes(row):
            near = neighbors.get(key, [])
            if level == "label_in_region":
                near = [n for n in near if by_key[n]["region"] == row["region"]]
            near = near[:k]
            hits = sum(bool(classes(by_key[n]) & classes(row)) for n in near)
            found[key] = (hits / k, classes(row))
    return found


def drawn_study(root: Path, seed: int, n: int = 60) -> tuple[Study, list[dict]]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        labels = [f"XR/chest/{c}" for c in "ABCDE" if rng.random() < 0.25]
        rows.append(
            {
                "image_id": f"d/{i}", "split": "test" if rng.random() < 0.4 else "train", "labels": labels,
                "patient_id": f"p{rng.integers(0, 20)}" if rng.random() < 0.8 else None,
                "modality": ["XR", "CT", "unknown"][rng.integers(0, 3)], "region": ["chest", "hand"][rng.integers(0, 2)],
            }
        )  # fmt: skip
    rows[0]["split"], rows[1]["split"] = "train", "test"
    vectors = {row["image_id"]: rng.integers(-1, 2, 3) for row in rows if rng.random() < 0.9}
    vectors.setdefault("d/0", np.ones(3))
    vectors.setdefault("d/1", np.ones(3))
    return make_study(root, rows, vectors), rows


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_every_figure_equals_a_plain_computation(tmp_path_factory, seed, exclude):
    """Multi-label, ties, failures, unknown modalities, queries without labels or without neighbors."""
    study, rows = drawn_study(tmp_path_factory.mktemp("s"), seed)
    search(study, "pixels32", "exact", SearchOptions(exclude_same=("patient_id",) if exclude else ()))
    evaluate(study, EvaluateOptions(resamples=0, allow_overlap=True), say=lambda line: None)
    table = pq.read_table(study.files("neighbors", "pixels32", "exact")).to_pylist()
    neighbors = {
        q: [r["neighbor_key"] for r in group] for q, group in itertools.groupby(table, key=lambda r: r["query_key"])
    }
    figures = metrics(study)
    for level, k in itertools.product(LEVELS, (1, 3, 5, 10)):
        if k > study.run_of("neighbors", "pixels32", "exact")["parameters"]["k"]:
            continue
        values = naive(rows, neighbors, level=level, k=k)
        if not values:
            continue
        where = {"metric": "precision_at_k", "relevance": level, "k": k, "slice_by": "all"}
        micro, macro = figure(figures, **where, average="micro"), figure(figures, **where, average="macro")
        assert micro["n_queries"] == len(values)
        assert micro["value"] == pytest.approx(np.mean([v for v, _ in values.values()]))
        groups: dict[str, list[float]] = {}
        for value, classes in values.values():
            for name in classes:
                groups.setdefault(name, []).append(value)
        assert macro["value"] == pytest.approx(np.mean([np.mean(g) for g in groups.values()]))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_chance_is_the_mean_of_random_rankings(tmp_path_factory, seed, exclude):
    """Counted pair by pair in Python, with exclusions: expected P@3 = share of relevant candidates."""
    study, rows = drawn_study(tmp_path_factory.mktemp("s"), seed, n=40)
    search(study, "pixels32", "exact", SearchOptions(k=3, exclude_same=("patient_id",) if exclude else ()))
    evaluate(study, EvaluateOptions(ks=(3,), resamples=0, allow_overlap=True))
    embedded = {
        r["image_key"]
        for r in pq.read_table(study.files("embeddings", "encoder=pixels32"), columns=["image_key"]).to_pylist()
    }
    expected = []
    for q in rows:
        if q["split"] != "test" or not q["labels"]:
            continue
        pool = [
            g for g in rows
            if g["split"] == "train" and image_key(g["image_id"]) in embedded
            and not (exclude and q["patient_id"] is not None and q["patient_id"] == g["patient_id"])
        ]  # fmt: skip
        relevant = sum(bool(set(g["labels"]) & set(q["labels"])) for g in pool)
        expected.append(relevant / len(pool) * min(3, len(pool)) / 3 if pool else 0.0)
    if expected:
        row = figure(metrics(study), metric="precision_at_k", relevance="label", k=3, slice_by="all", average="micro")
        assert row["chance"] == pytest.approx(np.mean(expected))


def test_the_curve_is_the_metric_at_every_depth(tmp_path):
    study, _ = drawn_study(tmp_path / "s", 5)
    search(study, "pixels32", "exact", SearchOptions(k=12))
    evaluate(study, EvaluateOptions(ks=(1,), resamples=0, allow_overlap=True))
    names = ("metric", "relevance", "average", "slice_by", "slice", "k")
    curve = {tuple(r[name] for name in names): r for r in metrics(study) if r["metric"] in AT_EVERY_LEVEL}
    evaluate(study, EvaluateOptions(ks=tuple(range(1, 13)), resamples=0, allow_overlap=True))
    direct = {tuple(r[name] for name in names): r for r in metrics(study) if r["metric"] in AT_EVERY_LEVEL}
    assert curve.keys() == {key for key in direct if key[1] == "label" or key[3] == "all" or key[5] == 1}
    assert len([key for key in curve if key[3] == "all"]) == 2 * len(LEVELS) * 2 * 12
    for key in curve:
        assert curve[key]["value"] == pytest.approx(direct[key]["value"])
        assert curve[key]["chance"] == pytest.approx(direct[key]["chance"])
        assert curve[key]["std"] == pytest.approx(direct[key]["std"], abs=1e-9)
        assert (curve[key]["n_queries"], curve[key]["n_failed"]) == (direct[key]["n_queries"], direct[key]["n_failed"])


def test_ann_recall_by_hand(hand):
    """An index whose neighbors are known: q1 finds one of two, q2 both."""
    build_index(hand, "pixels32", "hnsw", IndexOptions())
    search(hand, "pixels32", "hnsw", SearchOptions())
    q1, q2, q3, q5 = (image_key(f"a/{name}") for name in ("q1", "q2", "q3", "q5"))
    a, b, c, d = (image_key(f"a/{n}") for n in "1234")
    found = {q1: [a, d], q2: [d, c], q3: [a, b], q5: [b, a]}
    rows = [(q, n, rank, 0.1 * rank) for q, near in found.items() for rank, n in enumerate(near, 1)]
    table = pa.table(
        [pa.array(column) for column in zip(*rows, strict=True)],
        names=["query_key", "neighbor_key", "rank", "distance"],
    )
    schema = pq.read_schema(hand.files("neighbors", "pixels32", "hnsw")[0])
    hand.write_table(table.cast(schema), "neighbors", "pixels32", "hnsw", "part-00000.parquet")
    evaluate(hand, EvaluateOptions(ks=(2,)))
    row = figure(metrics(hand), index="hnsw", metric="ann_recall", k=2, slice_by="all")
    assert row["value"] == pytest.approx((1 / 2 + 1 + 1 + 1) / 4)
    assert row["chance"] == pytest.approx(2 / 4)
    assert (row["n_queries"], row["relevance"], row["average"]) == (4, "", "micro")


def test_without_an_exact_search_alike_recall_is_not_made_up(hand):
    said = []
    build_index(hand, "pixels32", "hnsw", IndexOptions())
    search(hand, "pixels32", "hnsw", SearchOptions(queries="image_id = 'a/q1'"))
    evaluate(hand, say=said.append)
    assert not [row for row in metrics(hand) if row["metric"] == "ann_recall"]
    assert "no ANN recall" in said[0]
    assert "--encoder pixels32 --index exact" in said[0]


def test_query_metrics_average_to_the_metrics(hand):
    table = duckdb.sql(
        f"SELECT avg(value), count(*) FROM '{hand.path('query_metrics')}/*/*/*.parquet' WHERE metric = 'precision_at_k' AND relevance = 'label' AND k = 3"
    ).fetchall()[0]
    row = figure(metrics(hand), metric="precision_at_k", relevance="label", k=3, slice_by="all", average="micro")
    assert table == (pytest.approx(row["value"]), 4)


def test_too_deep_k_says_how_deep_the_search_was(hand):
    with pytest.raises(
        UserError, match=r"--k 5: neighbors of pixels32 by exact were searched with -k 4; expected 1 to 4"
    ):
        evaluate(
            hand,
            EvaluateOptions(
                ks=(
                    1,
                    5,
                )
            ),
        )


def test_nothing_searched_and_outdated_searches_are_refused(tmp_path, hand):
    empty = make_study(tmp_path / "empty", HAND, {"a/1": np.ones(2)})
    with pytest.raises(UserError, match="no neighbors to evaluate; make them with: cbmir search"):
        evaluate(empty)
    run = hand.run_of("embeddings", "encoder=pixels32")
    hand.write_json(run | {"fingerprint": "0" * 16}, "embeddings", "encoder=pixels32", "run.json")
    with pytest.raises(UserError, match="neighbors of pixels32 by exact are older than"):
        evaluate(hand)


def test_unfinished_neighbors_are_refused_by_name(hand):
    hand.delete("neighbors", "pixels32", "exact", "run.json")
    with pytest.raises(ContractError, match="neighbors/pixels32/exact is unfinished"):
        evaluate(hand)


@pytest.mark.parametrize(
    "change, problem",
    [
        ("SELECT query_key, neighbor_key, (rank + 1)::SMALLINT AS rank, distance FROM n", "ranks are not 1, 2, 3"),
        ("SELECT query_key, neighbor_key, rank, (1 - distance)::FLOAT AS distance FROM n", "distances descend"),
        ("SELECT query_key, neighbor_key + 1 AS neighbor_key, rank, distance FROM n", "neighbor is not in the gallery"),
        (
            "SELECT query_key, any_value(neighbor_key) OVER (PARTITION BY query_key) AS neighbor_key, rank, distance FROM n",
            "neighbor stands twice",
        ),
    ],
)
def test_checks_find_broken_neighbors(hand, change, problem):
    n = pq.read_table(hand.files("neighbors", "pixels32", "exact")[0])
    broken = duckdb.sql(change).to_arrow_table().cast(n.schema)
    hand.write_table(broken, "neighbors", "pixels32", "exact", "part-00000.parquet")
    with pytest.raises(UserError, match=problem):
        evaluate(hand)


def test_conservation_check_finds_a_row_that_stands_twice(hand):
    table = pq.read_table(hand.files("embeddings", "encoder=pixels32")[0]).slice(0, 1)
    hand.write_table(table, "embeddings", "encoder=pixels32", "again.parquet")
    with pytest.raises(UserError, match=r"sql/checks/conservation.sql found .*a/1.*2\)"):
        evaluate(hand)


def test_every_metric_has_its_chance_and_a_header_that_says_what_it_reads():
    assert names("metrics") == names("chance")
    for kind in ("metrics", "chance", "staging", "checks", "report"):
        for name in names(kind):
            text = read(kind, name)
            assert "-- reads " in text, (kind, name)
            assert "-- returns " in text, (kind, name)


def test_duckdb_alone_runs_a_metric_on_the_parquet(hand):
    """Nothing of cbmir: the statements as files, the datasets as files."""
    sql = Path(__file__).resolve().parents[1] / "sql"
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW manifest AS FROM '{hand.root}/manifest/*.parquet'")
    connection.execute(f"CREATE VIEW neighbors AS FROM '{hand.root}/neighbors/pixels32/exact/*.parquet'")
    connection.execute(
        f"CREATE VIEW embedded AS SELECT image_key FROM '{hand.root}/embeddings/encoder=pixels32/*.parquet'"
    )
    connection.execute("CREATE VIEW query_keys AS SELECT image_key FROM manifest WHERE split = 'test'")
    connection.execute("CREATE VIEW gallery_keys AS SELECT image_key FROM manifest WHERE split = 'train'")
    connection.execute("CREATE TABLE exclusions (image_key BIGINT, exclusion INT, code BIGINT)")
    connection.execute("CREATE TABLE duplicates (image_key BIGINT, code BIGINT)")

    def named(text: str) -> dict:
        wanted = duckdb.extract_statements(text)[0].named_parameters
        return {name: value for name, value in {"relevance": "label", "k": 3, "depth": 4}.items() if name in wanted}

    for table in ("kinds", "asked", "held", "pairs"):
        connection.execute(f"CREATE TABLE {table} AS {(sql / 'staging' / f'{table}.sql').read_text()}")
    connection.execute("CREATE VIEW ranked AS FROM pairs")
    for table in ("judged", "queries", "gallery", "sets", "matches", "hits", "found", "barred", "gains", "candidates"):
        text = (sql / "staging" / f"{table}.sql").read_text()
        connection.execute(f"CREATE TABLE {table} AS {text}", named(text))
    connection.execute("CREATE VIEW compared AS SELECT query_key FROM queries WHERE embedded")
    connection.execute("CREATE VIEW exact_neighbors AS FROM neighbors")
    for path in sorted((sql / "metrics").glob("*.sql")):
        text = path.read_text()
        (mean, n) = connection.execute(f"SELECT avg(value), count(*) FROM ({text})", named(text)).fetchall()[0]
        assert n == (3 if path.stem == "ann_recall" else 4)
        if path.stem == "precision_at_k":
            assert mean == pytest.approx((2 / 3) / 4)


def test_row_order_of_the_inputs_does_not_matter(hand):
    connection = connect()
    manifest = pq.read_table(hand.files("manifest")[0])
    neighbors = pq.read_table(hand.files("neighbors", "pixels32", "exact")[0])
    values = []
    for order in (1, -1):
        connection.register(
            "manifest", manifest[::1] if order == 1 else manifest.take(list(range(len(manifest)))[::-1])
        )
        connection.register("neighbors", neighbors if order == 1 else neighbors.take(list(range(len(neighbors)))[::-1]))
        connection.execute("CREATE OR REPLACE TABLE embedded AS SELECT DISTINCT query_key AS image_key FROM neighbors")
        connection.execute("CREATE OR REPLACE TABLE query_keys AS SELECT image_key FROM manifest WHERE split = 'test'")
        connection.execute(
            "CREATE OR REPLACE TABLE gallery_keys AS SELECT image_key FROM manifest WHERE split = 'train'"
        )
        connection.execute("CREATE OR REPLACE TABLE exclusions (image_key BIGINT, exclusion INT, code BIGINT)")
        connection.execute("DROP TABLE IF EXISTS further_slices")
        attach_slices(connection, ("label", "region"))
        create(connection, "patients", "staging", "patients")
        lay_out(connection)
        stage(connection, "label")
        create(connection, "scored", "metrics", "precision_at_k", k=3)
        values.append(connection.execute("SELECT * FROM scored ORDER BY query_key").fetchall())
    assert values[0] == values[1]
