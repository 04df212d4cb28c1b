"""The search-effort study: its front and figures against plain loops, a sweep that goes on after a kill, and misuse in one line."""

import itertools
import json
import random
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cbmir.cli import main
from cbmir.effort import study_search_effort
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.flags import parse
from cbmir.index import build_index, open_index
from cbmir.indexing.codec import DTYPES
from cbmir.schemas import check
from cbmir.search import SearchOptions, search
from cbmir.select import connect
from cbmir.session import frame
from cbmir.sql_files import read
from cbmir.store import Study
from cbmir.sweeping.front import recommended
from cbmir.sweeping.options import EffortOptions
from cbmir.sweeping.points import Graph, points_of, raised_line
from tests.processes import cbmir, killed_when
from tests.studies import add_embeddings, make_study

SMALL = EffortOptions(
    dtypes=("bf16", "i8"), expansions=(16, 64), reranks=(1, 2), ks=(1, 5), rounds=1, timed_queries=40, resamples=200, allow_overlap=True
)  # fmt: skip
TINY = EffortOptions(**vars(SMALL) | {"dtypes": ("bf16",), "reranks": (1,), "resamples": 100})
GALLERY, QUERIES, DIM = 600, 80, 24


def rows_and_vectors(seed: int = 0) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Images of three classes in a narrow cone, a few a patient; patients have queries and gallery images."""
    drawn = np.random.default_rng(seed)
    rows, vectors = [], {}
    centres = drawn.normal(size=(3, DIM))
    for i in range(GALLERY + QUERIES):
        image, label = f"e/{i}", int(drawn.integers(3))
        split = "train" if i < GALLERY else "test"
        rows.append({"image_id": image, "split": split, "labels": [f"c{label}"], "patient_id": f"p{i % 50}"})
        vectors[image] = (3 + centres[label] + 2 * drawn.normal(size=DIM)).astype(np.float32)
    return rows, vectors


@pytest.fixture
def study(tmp_path) -> Study:
    rows, vectors = rows_and_vectors()
    return make_study(tmp_path / "study", rows, vectors)


def figures(study: Study) -> list[dict]:
    return check(pq.read_table(study.files("search_effort")[0]), "search_effort").to_pylist()


def points(study: Study) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in Path(study.path("effort_points")).glob("*/*/run.json")}


def sweep(study: Study, options: EffortOptions = SMALL, encoders=("pixels32",)) -> list[str]:
    said: list[str] = []
    study_search_effort(study, list(encoders), options, say=said.append)
    return said


# --- the front


def front(rows: list[tuple]) -> list[bool]:
    """is_pareto of (encoder, metric, k, value, queries/s), in their order, by the statement."""
    names = ("dtype", "pca", "connectivity", "expansion_search", "rerank")
    table = pa.table(
        {name: [row[i] for row in rows] for i, name in enumerate(("encoder", "metric", "k", "value", "queries_per_second"))}
        | {"relevance": ["label"] * len(rows), "place": list(range(len(rows)))}
        | {name: pa.nulls(len(rows), pa.int32()) for name in names}
    )  # fmt: skip
    connection = connect()
    connection.register("points", table)
    found = connection.sql(read("studies", "pareto")).to_arrow_table().to_pylist()
    assert [r["queries_per_second"] for r in found if r["encoder"] == "e" and r["k"] == 1] == sorted(
        [r[4] for r in rows if r[0] == "e" and r[2] == 1], reverse=True
    )
    return [row["is_pareto"] for row in sorted(found, key=lambda row: row["place"])]


def test_the_front_by_hand():
    rows = [
        ("e", "ann_recall", 1, 0.90, 900.0),  # the fastest
        ("e", "ann_recall", 1, 0.95, 500.0),  # slower and better
        ("e", "ann_recall", 1, 0.95, 400.0),  # as good as the one before, and slower
        ("e", "ann_recall", 1, 0.94, 500.0),  # as fast, and worse
        ("e", "ann_recall", 1, 0.99, 100.0),  # equal to the next one: both stay
        ("e", "ann_recall", 1, 0.99, 100.0),
        ("e", "ann_recall", 1, 1.00, 99.0),  # the best
        ("e", "ann_recall", 5, 0.10, 10.0),  # another k, another metric, another encoder: fronts of their own
        ("e", "recall_at_k", 1, 0.10, 10.0),
        ("f", "ann_recall", 1, 0.10, 10.0),
        ("e", "r_precision", None, 0.30, 10.0),  # metrics without k
        ("e", "r_precision", None, 0.20, 10.0),
    ]
    assert front(rows) == [True, True, False, False, True, True, True, True, True, True, True, False]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_against_plain_loops(seed):
    drawn = random.Random(seed)
    rows = [
        (drawn.choice("ef"), "ann_recall", drawn.choice((1, 5)), drawn.randint(0, 8) / 8, float(drawn.randint(1, 9)))
        for _ in range(40)
    ]
    expected = []
    for mine in rows:
        beaten = False
        for other in rows:
            if other[:3] == mine[:3] and other != mine and other[3] >= mine[3] and other[4] >= mine[4]:
                beaten = True
        expected.append(not beaten)
    assert front(rows) == expected


# --- the points


def test_expansions_below_the_candidates_are_one_point():
    options = EffortOptions(expansions=(8, 16, 64), reranks=(1, 4), ks=(1, 10))
    graph = Graph("bf16", None, 16)
    found = points_of(graph, options, gallery=1_000, passes_over=False)
    assert [(point.expansion, point.rerank) for point in found] == [(11, 1), (16, 1), (64, 1), (40, 4), (64, 4)]
    assert raised_line(options, gallery=1_000, passes_over=False).endswith(
        "8 as 11 at rerank 1; 8, 16 as 40 at rerank 4"
    )
    passing = points_of(graph, options, gallery=1_000, passes_over=True)  # twice as many: half may be excluded
    assert [(point.expansion, point.rerank) for point in passing][:2] == [(22, 1), (64, 1)]
    assert raised_line(EffortOptions(expansions=(64,)), gallery=1_000, passes_over=False) is None
    huge = EffortOptions(expansions=(64, 2_000, 10_000_000_000), reranks=(1,))
    assert [point.expansion for point in points_of(graph, huge, gallery=1_000, passes_over=False)] == [64, 1_000]
    assert raised_line(huge, gallery=1_000, passes_over=False) == (
        "expansions beyond the gallery are measured as its 1,000 images: 2,000, 10,000,000,000"
    )


def test_a_raised_expansion_finds_what_the_smaller_one_finds(study):
    """The walk is as deep either way, so that one point may stand for both."""
    small = EffortOptions(
        **{**vars(TINY), "expansions": (2,), "dtypes": ("bf16",), "reranks": (2,), "keep_graphs": True}
    )
    sweep(study, small)
    (point,) = [name for name in points(study) if name.startswith("effort-bf16-c16-e10-")]
    ours = pq.read_table(study.files("effort_points", "pixels32", point)).to_pydict()
    search(study, "pixels32", "effort-bf16-c16", SearchOptions(k=5, expansion_search=2, rerank=2))
    theirs = pq.read_table(study.files("neighbors", "pixels32", "effort-bf16-c16")).to_pydict()
    assert ours == theirs


def test_every_figure_against_plain_loops(study):
    rows, vectors = rows_and_vectors()
    label = {row["image_id"]: row["labels"][0] for row in rows}
    sweep(study)
    found = figures(study)
    manifest = pq.read_table(study.files("manifest")[0]).to_pydict()
    name_of = dict(zip(manifest["image_key"], manifest["image_id"], strict=True))
    gallery = [row["image_id"] for row in rows if row["split"] == "train"]
    unit = {image: v.astype(np.float64) / np.linalg.norm(v.astype(np.float64)) for image, v in vectors.items()}
    stacked = np.stack([unit[image] for image in gallery])
    for point in points(study):
        neighbors: dict[str, list[str]] = {}
        table = pq.read_table(study.files("effort_points", "pixels32", point)).to_pylist()
        for row in sorted(table, key=lambda row: row["rank"]):
            neighbors.setdefault(name_of[row["query_key"]], []).append(name_of[row["neighbor_key"]])
        assert len(neighbors) == QUERIES
        run = study.run_of("effort_points", "pixels32", point)["parameters"]
        mine = [
            r
            for r in found
            if all(r[n] == run[n] for n in ("dtype", "pca", "connectivity", "expansion_search", "rerank"))
        ]
        for k in SMALL.ks:
            recalls, precisions = [], []
            for query, near in neighbors.items():
                truth = [gallery[i] for i in np.argsort(-(stacked @ unit[query]))[:k]]
                recalls.append(len([image for image in near[:k] if image in truth]) / k)
                precisions.append(sum(label[image] == label[query] for image in near[:k]) / k)
            for metric, values in (("ann_recall", recalls), ("precision_at_k", precisions)):
                (row,) = [r for r in mine if (r["metric"], r["k"]) == (metric, k)]
                assert row["value"] == pytest.approx(sum(values) / len(values), abs=1e-12)
                assert row["ci_low"] <= row["value"] <= row["ci_high"]
                assert (row["n_queries"], row["gallery_size"]) == (QUERIES, GALLERY)
    assert len(points(study)) == 1 + 2 * 2 * 2
    assert len(found) == 9 * 2 * 2


def test_intervals_are_those_of_an_evaluation(study):
    """Exact search, scored from where the sweep keeps it, and by `cbmir evaluate`."""
    sweep(study, EffortOptions(**vars(TINY) | {"resamples": 200}))
    search(study, "pixels32", "exact", SearchOptions(k=5))
    evaluate(study, EvaluateOptions(ks=(1, 5), resamples=200, allow_overlap=True))
    there = pq.read_table(study.files("metrics")[0]).to_pylist()
    for k in (1, 5):
        (mine,) = [r for r in figures(study) if (r["dtype"], r["metric"], r["k"]) == ("exact", "precision_at_k", k)]
        (theirs,) = [
            r for r in there
            if (r["metric"], r["relevance"], r["k"], r["slice_by"], r["average"]) == ("precision_at_k", "label", k, "all", "micro")
        ]  # fmt: skip
        assert {n: mine[n] for n in ("value", "ci_low", "ci_high")} == {
            n: theirs[n] for n in ("value", "ci_low", "ci_high")
        }
        assert mine["ci_low"] < mine["value"] < mine["ci_high"]


def test_exact_search_is_the_reference(study):
    sweep(study, TINY)
    exact = [row for row in figures(study) if row["dtype"] == "exact"]
    assert {row["value"] for row in exact if row["metric"] == "ann_recall"} == {1.0}
    assert {
        row[name]
        for row in exact
        for name in ("pca", "connectivity", "expansion_search", "rerank", "build_seconds", "graph_bytes")
    } == {None}
    assert all(row["queries_per_second"] > 0 for row in exact)


def test_costs_and_threads_are_told(study):
    before = torch.get_num_threads()
    said = sweep(
        study,
        EffortOptions(
            **vars(TINY)
            | {
                "threads": 1,
                "dtypes": ("bf16", "i8"),
                "expansions": (64,),
                "pcas": (8, None),
                "connectivities": (8, 16),
            }
        ),
    )
    assert torch.get_num_threads() == before
    rows = figures(study)
    assert {row["threads"] for row in rows} == {1}
    assert {row["timed_queries"] for row in rows} == {40}
    graphs = {
        (r["dtype"], r["pca"], r["connectivity"]): (r["build_seconds"], r["graph_bytes"])
        for r in rows
        if r["dtype"] != "exact"
    }
    assert set(graphs) == set(itertools.product(("bf16", "i8"), (8, None), (8, 16)))
    assert graphs["i8", None, 16][1] < graphs["bf16", None, 16][1]  # a byte a number, and two
    assert graphs["bf16", 8, 16][1] < graphs["bf16", None, 16][1]
    assert any("1 thread;" in line for line in said)


def test_what_shares_a_patient_is_passed_over(study):
    sweep(study, EffortOptions(**vars(TINY) | {"exclude_same": ("patient_id",), "allow_overlap": False}))
    patient = dict(frame(study, "SELECT image_key, patient_id FROM manifest").itertuples(index=False))
    for point in points(study):
        table = pq.read_table(study.files("effort_points", "pixels32", point)).to_pylist()
        assert len(table) == QUERIES * 5
        assert all(patient[row["query_key"]] != patient[row["neighbor_key"]] for row in table)


# --- what is kept


def test_finished_points_are_not_measured_again(study):
    sweep(study, TINY)
    before, rows = points(study), figures(study)
    said = sweep(study, TINY)
    assert "pixels32: 3 of 3 points have been measured already" in said
    assert (points(study), figures(study)) == (before, rows)
    more = EffortOptions(**vars(TINY) | {"expansions": (16, 64, 128)})
    assert "pixels32: 3 of 4 points have been measured already" in sweep(study, more)
    after = points(study)
    assert {name: after[name] for name in before} == before
    assert len(after) == 4
    assert len({(r["dtype"], r["expansion_search"], r["rerank"]) for r in figures(study)}) == 4
    sweep(study, EffortOptions(**vars(TINY) | {"overwrite": True}))
    assert all(points(study)[name] != text for name, text in before.items())


def test_other_timings_and_vectors_are_measured_anew(study):
    sweep(study, TINY)
    before = points(study)
    assert not any("already" in line for line in sweep(study, EffortOptions(**vars(TINY) | {"rounds": 2})))
    assert all(len(json.loads(text)["seconds_by_round"]) == 2 for text in points(study).values())
    ids = [row["image_id"] for row in rows_and_vectors()[0]]
    run = study.run_of("embeddings", "encoder=pixels32")
    study.delete("embeddings", "encoder=pixels32")
    add_embeddings(study, ids, rows_and_vectors(seed=1)[1], encoder="pixels32")
    study.write_json(run | {"fingerprint": "other"}, "embeddings", "encoder=pixels32", "run.json")
    assert not any("already" in line for line in sweep(study, TINY))
    assert set(points(study)) == set(before)
    assert all(json.loads(text)["inputs"]["embeddings"] == "other" for text in points(study).values())


def test_graphs_are_removed_unless_they_are_to_be_kept(study):
    sweep(study, TINY)
    assert not study.exists("effort_graphs")
    assert study.names("index") == []
    sweep(study, EffortOptions(**vars(TINY) | {"keep_graphs": True, "overwrite": True}))
    assert study.names("index", "pixels32") == ["effort-bf16-c16"]
    assert len(open_index(study, "pixels32", "effort-bf16-c16")) == GALLERY


def test_graphs_that_are_wanted_later_are_built_all_the_same(study):
    sweep(study, TINY)
    before = points(study)
    sweep(study, EffortOptions(**vars(TINY) | {"keep_graphs": True}))
    assert points(study) == before
    assert study.names("index", "pixels32") == ["effort-bf16-c16"]
    with pytest.raises(
        UserError, match=r"index effort-bf16-c16 of pixels32 was built otherwise \(gallery .*--overwrite"
    ):
        sweep(
            study,
            EffortOptions(**vars(TINY) | {"keep_graphs": True, "gallery": "split = 'train' AND patient_id <> 'p1'"}),
        )


def test_a_graph_of_a_killed_sweep_of_another_gallery_is_not_searched(study):
    """The graph is left as a kill leaves it, finished and with points to come."""
    graph = Graph("bf16", None, 16)
    build_index(study, "pixels32", graph.name, graph.build_options(TINY), area="effort_graphs")
    smaller = EffortOptions(**vars(TINY) | {"gallery": "split = 'train' AND patient_id <> 'p1'"})
    sweep(study, smaller)
    patient = dict(frame(study, "SELECT image_key, patient_id FROM manifest").itertuples(index=False))
    for point in points(study):
        table = pq.read_table(study.files("effort_points", "pixels32", point)).to_pylist()
        assert not [row for row in table if patient[row["neighbor_key"]] == "p1"]
        assert study.run_of("effort_points", "pixels32", point)["gallery_size"] == GALLERY - GALLERY // 50


def test_encoders_stay_in_the_dataset_while_they_hold(study):
    rows, vectors = rows_and_vectors()
    other = {image: vector[:12] for image, vector in vectors.items()}
    add_embeddings(study, [row["image_id"] for row in rows], other, encoder="half")
    sweep(study, TINY, encoders=["pixels32", "half"])
    both = figures(study)
    assert {row["encoder"] for row in both} == {"pixels32", "half"}
    sweep(study, TINY, encoders=["half"])
    assert sorted(map(str, figures(study))) == sorted(map(str, both))
    run = study.run_of("embeddings", "encoder=pixels32")
    study.write_json(run | {"fingerprint": "other"}, "embeddings", "encoder=pixels32", "run.json")
    sweep(study, TINY, encoders=["half"])
    assert {row["encoder"] for row in figures(study)} == {"half"}


def test_points_of_an_earlier_sweep_stay_beside_those_of_this_one(study):
    """The front is that of both."""
    sweep(study, TINY)
    before = points(study)
    sweep(study, EffortOptions(**vars(TINY) | {"dtypes": ("i8",)}))
    assert before.items() <= points(study).items()
    rows = [row for row in figures(study) if (row["metric"], row["k"]) == ("ann_recall", 5)]
    assert sorted(row["dtype"] for row in rows) == ["bf16", "bf16", "exact", "i8", "i8"]
    names = [(row["encoder"], row["metric"], row["k"], row["value"], row["queries_per_second"]) for row in rows]
    assert [row["is_pareto"] for row in rows] == front(names)
    sweep(study, EffortOptions(**vars(TINY) | {"dtypes": ("i8",), "rounds": 2}))
    assert {row["dtype"] for row in figures(study)} == {"exact", "i8"}, "points with other timings are of another sweep"


@pytest.mark.parametrize(
    "change, said",
    [
        ({"gallery": "split = 'train' AND patient_id <> 'p1'"}, "--gallery split = 'train', now split = 'train' AND"),
        ({"threads": 1}, "--threads 3, now 1"),
        ({"ks": (1, 3)}, "the largest --k 5, now 3"),
        ({"metric": "l2"}, "--metric cos, now l2"),
        ({"resamples": 0}, None),
        ({"expansions": (16,)}, None),
    ],
)
def test_encoders_that_were_asked_otherwise_do_not_stay(study, change, said):
    rows, vectors = rows_and_vectors()
    other = {image: vector[:12] for image, vector in vectors.items()}
    add_embeddings(study, [row["image_id"] for row in rows], other, encoder="half")
    asked = {"threads": 3, "expansions": (16, 64)}
    sweep(study, EffortOptions(**vars(TINY) | asked), encoders=["half"])
    lines = sweep(study, EffortOptions(**vars(TINY) | asked | change))
    told = [line for line in lines if line.startswith("half is no longer in search_effort: it was measured with")]
    assert {row["encoder"] for row in figures(study)} == ({"pixels32"} if said else {"pixels32", "half"})
    assert len(told) == (1 if said else 0)
    assert not said or said in told[0]
    assert set(study.run_of("search_effort")["parameters"]) == {row["encoder"] for row in figures(study)}


def test_run_json_says_what_was_asked_and_on_what_machine(study):
    sweep(study, EffortOptions(**vars(TINY) | {"keep_graphs": True, "threads": 1}))
    said = study.run_of("search_effort")["parameters"]["pixels32"]
    assert (said["keep_graphs"], said["device"], said["threads"]) == (
        True,
        "cuda" if torch.cuda.is_available() else "cpu",
        1,
    )
    assert set(vars(TINY)) - {"overwrite"} <= set(said)
    assert said["processor"]


@pytest.mark.slow
def test_a_killed_sweep_goes_on(tmp_path):
    """SIGKILL while points are measured; what was finished stays, and the same command measures the rest."""
    rows, vectors = rows_and_vectors()
    study = make_study(tmp_path / "study", rows, vectors)
    command = ["study", "search-effort", "--study", study.address, "--encoder", "pixels32", "--allow-overlap", "--rounds", "10",
               "--expansions", "16,32,64,128,256,512", "--dtypes", "bf16", "--resamples", "100"]  # fmt: skip
    for least in (2, 6):
        killed_when(lambda least=least: len(points(study)) >= least, *command, after=0.05)
        there = points(study)
        assert study.run_of("search_effort") is None
    result = cbmir(*command)
    assert result.returncode == 0, result.stderr
    after = points(study)
    assert f"{len(there)} of {len(after)} points have been measured already" in result.stdout
    assert {name: after[name] for name in there} == there
    assert len(after) > len(there)
    assert not study.exists("effort_graphs")
    assert not Path(study.path(".staging")).exists()
    assert len({(r["dtype"], r["expansion_search"], r["rerank"]) for r in figures(study)}) == len(after)


# --- what a person is told


def test_the_recommended_line_can_be_typed(study):
    said = sweep(study, EffortOptions(**vars(TINY) | {"recall": 0.5}))
    line = next(line for line in said if "fastest graph with recall@5 >= 0.5" in line)
    command = line.partition("build it with: ")[2].partition(";")[0]
    asked = parse(shlex.split(command)[1:])
    rows = [
        r
        for r in figures(study)
        if r["metric"] == "ann_recall" and r["k"] == 5 and r["dtype"] != "exact" and r["value"] >= 0.5
    ]
    fastest = max(rows, key=lambda row: row["queries_per_second"])
    assert (asked.dtype, asked.expansion_search, asked.rerank) == (
        fastest["dtype"],
        fastest["expansion_search"],
        fastest["rerank"],
    )
    assert main(shlex.split(command)[1:]) == 0


def test_what_is_said_where_no_graph_is_good_enough_or_exact_search_is_faster():
    point = {
        "encoder": "e",
        "metric": "ann_recall",
        "k": 10,
        "pca": None,
        "connectivity": 16,
        "expansion_search": 64,
        "rerank": 2,
    }
    exact = point | {"dtype": "exact", "value": 1.0, "queries_per_second": 500.0}
    graph = point | {"dtype": "i8", "value": 0.9, "queries_per_second": 400.0}
    assert recommended([exact, graph], "e", EffortOptions(), study="s") == (
        "e: no graph has recall@10 >= 0.99; the best is i8, connectivity 16, expansion 64, rerank 2: 400 queries/s, recall@10 0.900: raise "
        "--expansions, --reranks or --connectivity; exact search: 500 queries/s"
    )
    assert recommended([exact, graph], "e", EffortOptions(recall=0.9, gallery="age > 3"), study="s") == (
        "e: fastest graph with recall@10 >= 0.9: i8, connectivity 16, expansion 64, rerank 2: 400 queries/s, recall@10 0.900; build it with: "
        "cbmir index --study s --encoder e --index hnsw --gallery 'age > 3' --dtype i8 --expansion-search 64 --rerank 2; exact search: "
        "500 queries/s, at least as fast in batches as this graph: for them no index is needed"
    )


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--dtypes bf17", "--dtypes bf17: no type of graphs; nearest: 'bf16'"),
        ("--dtypes double", f"expected some of: {', '.join(DTYPES)}"),
        ("--expansions 0,16", "--expansions 0,16; expected numbers from 1 on"),
        ("--expansions few", "'few' is not a list of numbers"),
        ("--reranks 0", "--reranks 0; expected numbers from 1 on"),
        ("--connectivity 1", "--connectivity 1; expected numbers from 2 on"),
        ("--pca 0", "--pca 0; expected 1 or more, or all"),
        ("--pca 25", "--pca 25; the vectors of pixels32 have 24 numbers; expected as many or fewer"),
        ("--k 601", "--k 601 is too deep for the gallery of pixels32 (600 embedded images); expected 1 to 600"),
        ("--k 0", "--k 0; expected numbers from 1 on"),
        ("--score precision_at", "--score precision_at: no such metric; nearest: 'precision_at_k'"),
        ("--recall 0", "--recall 0.0; expected a share above 0"),
        ("--rounds 0", "--rounds 0; expected 1 or more"),
        ("--threads 0", "--threads 0; expected 1 or more"),
        ("--timed-queries 0", "--timed-queries 0; expected 1 or more"),
        ("--resamples 5", "--resamples 5: too few for a 95 % interval"),
        ("--encoder other", "no embeddings of encoder 'other' in the study"),
        ("--gallery wrong=1", "no column 'wrong' in the manifest"),
        (
            "--queries \"split = 'val'\"",
            "the queries is empty: split = 'val' selects none of the manifest's 680 images",
        ),
        ("--exclude-same age", "--exclude-same age: no such column in the manifest; "),
        ("", "50 patients have queries and gallery images"),
    ],
)
def test_misuse_is_one_line(study, capsys, flags, said):
    arguments = ["study", "search-effort", "--study", study.address, "--encoder", "pixels32", *shlex.split(flags)]
    try:
        code = main(arguments)
    except SystemExit as left:  # the parser's own
        code = left.code
    text = capsys.readouterr().err.strip()
    assert code == 2
    assert said in text
    assert len(text.splitlines()) == 1
    assert not study.exists("effort_points")


# --- real images


def test_a_sweep_over_real_images(shared, ray_session, tmp_path, capsys):
    """800 real images of six body parts, by pixels32: recall rises with the expansion, and the front ends at exact search."""
    import csv

    with open(shared / "data" / "images.csv", newline="") as file:
        rows = [
            r | {"path": str(shared / "data" / r["path"])}
            for r in csv.DictReader(file)
            if r["source"] == "mednist_64px"
        ][::6]
    with open(tmp_path / "images.csv", "w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    address = str(tmp_path / "study")
    assert main(["manifest", "csv", str(tmp_path / "images.csv"), "--study", address]) == 0
    assert main(["embed", "--study", address, "--encoder", "pixels32"]) == 0
    flags = ["--dtypes", "bf16", "--expansions", "16,256", "--reranks", "1", "--rounds", "1", "--resamples", "200"]
    assert main(["study", "search-effort", "--study", address, "--encoder", "pixels32", *flags]) == 0
    assert (
        "fastest graph with recall@10 >= 0.99: bf16, connectivity 16, expansion 256, rerank 1"
        in capsys.readouterr().out
    )
    found = {r["expansion_search"]: r for r in figures(Study(address)) if r["metric"] == "ann_recall" and r["k"] == 10}
    assert found[16]["value"] < found[256]["value"] <= found[None]["value"] == 1.0
    assert found[None]["is_pareto"]
    precision = {
        r["expansion_search"]: r for r in figures(Study(address)) if r["metric"] == "precision_at_k" and r["k"] == 1
    }
    assert precision[None]["value"] > 0.9  # by the body part: easy
    assert precision[None]["ci_low"] < precision[None]["value"] < precision[None]["ci_high"]


def test_a_sweep_on_an_object_store(s3, study):
    """Graphs are fetched, points published there; recall is that of the same sweep on a disk, but for how threads build."""
    rows, vectors = rows_and_vectors()
    remote = make_study(s3.address("study"), rows, vectors)
    exactly = EffortOptions(**vars(TINY) | {"dtypes": ("f32",), "expansions": (600,), "reranks": (8,)})
    sweep(study, exactly)
    sweep(remote, exactly)
    there = check(pq.read_table(remote.files("search_effort")[0], filesystem=remote.fs), "search_effort").to_pylist()
    values = [sorted((r["dtype"], r["metric"], r["k"], r["value"]) for r in found) for found in (there, figures(study))]
    assert values[0] == values[1]
    assert not remote.files("effort_graphs", "pixels32", "effort-f32-c16", suffix="")
    assert "pixels32: 2 of 2 points have been measured already" in sweep(remote, exactly)
