"""cbmir study index-size: every figure against plain loops over the sample, the whole gallery against `evaluate`, and what vanishes, resumes, and is refused."""

import itertools
import json
import os
from functools import cache

import duckdb
import numpy as np
import pytest

from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.index import IndexOptions
from cbmir.sampled.options import ScalingOptions
from cbmir.sampling import patient_order, random_order, stratified_order
from cbmir.scaling import study_index_size
from cbmir.schemas import CONTRACTS, check, image_key
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.processes import cbmir, killed_when
from tests.studies import make_study

DIM = 12
LEVELS = ("label", "region", "modality", "modality_region", "label_in_region")


def collection(n: int = 400, *, seed: int = 0) -> tuple[list[dict], dict[str, np.ndarray]]:
    """n images, 3 of 4 in the gallery; labels from common to very rare, one that only queries have, some images with two; failures on both sides."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((9, DIM)) * 1.5
    shares = np.array([0.3, 0.25, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02])
    rows, vectors = [], {}
    for i in range(n):
        label = int(rng.choice(8, p=shares))
        labels = [f"XR/chest/{label}"] + ([f"XR/chest/{(label + 1) % 8}"] if label < 6 and rng.random() < 0.1 else [])
        split = "test" if i % 4 == 3 else "train"
        if split == "test" and i % 40 == 3:
            label, labels = 8, ["XR/chest/nowhere"]
        rows.append(
            {
                "image_id": f"s/{i}", "split": split, "labels": sorted(labels), "patient_id": None if i % 9 == 0 else f"p{i // 3}",
                "modality": "CT" if label % 3 == 0 else "XR", "region": ["chest", "hand", "unknown"][label % 3],
            }
        )  # fmt: skip
        vectors[f"s/{i}"] = (centres[label] + rng.standard_normal(DIM)).astype(np.float32)
    for i in (5, 7, 11, 100):
        del vectors[f"s/{i}"]
    return rows, vectors


ROWS, VECTORS = collection()
OPTIONS = {
    "sizes": (20, 60, 150, None),
    "seeds": 2,
    "exclude_same": ("patient_id",),
    "resamples": 100,
    "ks": (1, 5),
    "k": 20,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, ray_session):
    """A study of each sampling, made once: (Study, what was said)."""
    found = {}
    for sampling in ("random", "stratified", "patient"):
        study, said = make_study(tmp_path_factory.mktemp(sampling) / "study", ROWS, VECTORS, files=3), []
        indexes = ("exact", "hnsw") if sampling == "random" else ("exact",)
        study_index_size(
            study, ["pixels32"], ScalingOptions(sampling=sampling, indexes=indexes, **OPTIONS), say=said.append
        )
        found[sampling] = (study, said)
    return found


def figures(study: Study, dataset: str = "scaling"):
    return duckdb.sql(f"SELECT * FROM '{study.path(dataset)}/*.parquet'").df()


def ordered(sampling: str, seed: int) -> tuple[np.ndarray, list[int]]:
    """The gallery's keys in the order of one seed, and what the sizes 20, 60, 150 and all come to."""
    rows = [row for row in ROWS if row["split"] == "train" and row["image_id"] in VECTORS]
    keys = np.array([image_key(row["image_id"]) for row in rows])
    import pyarrow as pa

    if sampling == "patient":
        order = patient_order(
            keys, pa.array([row["patient_id"] and f"hand\x1f{row['patient_id']}" for row in rows]), seed=seed
        )
        return order.keys, [min(end for end in order.ends if end >= size) for size in (20, 60, 150, len(keys))]
    if sampling == "stratified":
        return stratified_order(keys, pa.array([row["labels"] for row in rows]), seed=seed), [20, 60, 150, len(keys)]
    return random_order(keys, seed=seed), [20, 60, 150, len(keys)]


def classes(row: dict, level: str) -> set:
    if level in ("label", "label_in_region"):
        return set() if level == "label_in_region" and row["region"] == "unknown" else set(row["labels"])
    if level == "modality_region":
        return set() if "unknown" in (row["modality"], row["region"]) else {f"{row['modality']}/{row['region']}"}
    return {row[level]} - {"unknown"}


def allowed(query: dict, image: dict) -> bool:
    return query["patient_id"] is None or query["patient_id"] != image["patient_id"]


BY_KEY = {image_key(row["image_id"]): row for row in ROWS}
WHOLE = [row for row in ROWS if row["split"] == "train" and row["image_id"] in VECTORS]


def relevant(query: dict, images: list[dict], level: str) -> bool:
    """Whether any of the images that a query may find is right."""
    return any(
        allowed(query, image) and classes(query, level) & classes(image, level)
        and (level != "label_in_region" or image["region"] == query["region"])
        for image in images
    )  # fmt: skip


@cache
def in_order(query: str) -> list[dict]:
    """All images of the gallery that a query may find, from the nearest on."""
    row, scored = next(row for row in ROWS if row["image_id"] == query), []
    a = VECTORS[query].astype(float)
    for image in WHOLE:
        if allowed(row, image):
            b = VECTORS[image["image_id"]].astype(float)
            distance = np.float32(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            scored.append((distance, image_key(image["image_id"]), image))
    return [image for *_, image in sorted(scored, key=lambda each: each[:2])]


def neighbors(query: dict, images: list[dict], depth: int) -> list[dict]:
    if query["image_id"] not in VECTORS:
        return []
    there = {image["image_id"] for image in images}
    return [image for image in in_order(query["image_id"]) if image["image_id"] in there][:depth]


def thirds() -> dict[str, str]:
    """Label -> rare, middle or common."""
    counts: dict[str, int] = {}
    for row in WHOLE:
        for label in row["labels"]:
            counts[label] = counts.get(label, 0) + 1
    names = sorted(counts, key=lambda label: (counts[label], label))
    cut = [len(part) for part in np.array_split(np.arange(len(names)), 3)]
    return dict(zip(names, np.repeat(["rare", "middle", "common"], cut).tolist(), strict=True))


def by_hand(images: list[dict], level: str, k: int) -> tuple[dict[int, float], int]:
    """P@k of each query that stays, and how many vanish."""
    values, vanished = {}, 0
    for row in ROWS:
        if row["split"] != "test" or not classes(row, level):
            continue
        if not relevant(row, images, level) and relevant(row, WHOLE, level):
            vanished += 1
            continue
        near = neighbors(row, images, 20)
        if level == "label_in_region":
            near = [image for image in near if image["region"] == row["region"]]
        values[image_key(row["image_id"])] = (
            sum(bool(classes(row, level) & classes(image, level)) for image in near[:k]) / k
        )
    return values, vanished


@pytest.mark.parametrize("sampling", ["random", "stratified", "patient"])
def test_every_figure_of_every_sample_equals_plain_loops(made, sampling):
    table = figures(made[sampling][0])
    exact = table[(table["index"] == "exact") & (table["metric"] == "precision_at_k")]
    seen = 0
    for seed in (0, 1):
        order, sizes = ordered(sampling, seed)
        for asked, size in zip((20, 60, 150, len(order)), sizes, strict=True):
            images = [BY_KEY[key] for key in order[:size].tolist()]
            for level, k in itertools.product(LEVELS, (1, 5)):
                rows = exact[
                    (exact["seed"] == seed)
                    & (exact["sample_size"] == asked)
                    & (exact["relevance"] == level)
                    & (exact["k"] == k)
                ]
                values, vanished = by_hand(images, level, k)
                of_all = rows[rows["slice_by"] == "all"].set_index("average")
                assert of_all.loc["micro", "n_queries"] == len(values)
                assert of_all.loc["micro", "n_vanished"] == vanished
                assert of_all.loc["micro", "gallery_size"] == size
                assert of_all.loc["micro", "value"] == pytest.approx(np.mean(list(values.values())), abs=1e-12)
                groups: dict[str, list[float]] = {}
                for key, value in values.items():
                    for name in classes(BY_KEY[key], level):
                        groups.setdefault(name, []).append(value)
                assert of_all.loc["macro", "value"] == pytest.approx(
                    np.mean([np.mean(g) for g in groups.values()]), abs=1e-12
                )
                if level == "label":
                    assert_slices(rows, values, groups)
                seen += 1
    assert seen == 80


def assert_slices(rows, values: dict[int, float], groups: dict[str, list[float]]) -> None:
    """Per label, and by prevalence, where the query's rarest label counts."""
    of_label = rows[rows["slice_by"] == "label"].set_index("slice")["value"].to_dict()
    assert of_label == pytest.approx({name: np.mean(group) for name, group in groups.items()})
    third, prevalence = thirds(), {}
    for key, value in values.items():
        mine = [third[label] for label in BY_KEY[key]["labels"] if label in third]
        if mine:
            prevalence.setdefault(min(mine, key=["rare", "middle", "common"].index), []).append(value)
    found = (
        rows[(rows["slice_by"] == "prevalence") & (rows["average"] == "micro")].set_index("slice")["value"].to_dict()
    )
    assert found == pytest.approx({name: np.mean(group) for name, group in prevalence.items()})


@pytest.mark.parametrize("sampling", ["random", "stratified", "patient"])
def test_what_vanishes_is_reported_and_neither_averaged_nor_passed_over(made, sampling):
    study, said = made[sampling]
    gone = figures(study, "vanished")
    assert not gone.duplicated(["encoder", "sampling", "seed", "sample_size", "relevance", "label"]).any()
    gone = gone[gone["relevance"] == "label"]
    for seed, (place, asked) in itertools.product((0, 1), enumerate((20, 60, 150))):
        order, sizes = ordered(sampling, seed)
        images = [BY_KEY[key] for key in order[: sizes[place]].tolist()]
        expected: dict[str, list[bool]] = {}
        for row in (row for row in ROWS if row["split"] == "test"):
            for label in row["labels"]:
                expected.setdefault(label, []).append(
                    not relevant(row, images, "label") and relevant(row, WHOLE, "label")
                )
        rows = gone[(gone["seed"] == seed) & (gone["sample_size"] == asked)].set_index("label")
        assert rows["n_queries"].to_dict() == {label: sum(lost) for label, lost in expected.items() if any(lost)}
        assert rows["is_gone"].to_dict() == {label: all(lost) for label, lost in expected.items() if any(lost)}
    assert gone["is_gone"].any() or sampling != "random", "the smallest random samples lose a label"
    assert "XR/chest/nowhere" not in set(gone["label"]), "what the whole gallery does not have has not vanished"
    table = figures(study)
    nowhere = table[
        (table["slice"] == "XR/chest/nowhere") & (table["metric"] == "precision_at_k") & (table["relevance"] == "label")
    ]
    assert len(nowhere)
    assert (nowhere["value"] == 0).all()
    if gone["is_gone"].any():
        lost = gone[gone["is_gone"]].iloc[0]
        same = (
            (table["seed"] == lost["seed"])
            & (table["sample_size"] == lost["sample_size"])
            & (table["relevance"] == "label")
        )
        assert not (table[same & (table["index"] == "exact")]["slice"] == lost["label"]).any()
        assert any(f"samples of {lost['sample_size']:,}: up to" in line and "n_vanished" in line for line in said)


def test_the_whole_gallery_has_the_figures_that_evaluate_gives(made, tmp_path):
    study = make_study(tmp_path / "study", ROWS, VECTORS)
    search(study, "pixels32", "exact", SearchOptions(k=20, exclude_same=("patient_id",)))
    options = EvaluateOptions(
        ks=(1, 5), metrics=("precision_at_k", "precision_at_k_capped"), resamples=100, allow_overlap=True
    )
    evaluate(study, options, say=lambda line: None)
    keys = ["metric", "relevance", "k", "slice_by", "slice", "average"]
    whole = figures(study, "metrics")
    whole = whole[whole["k"].isin((1, 5))].set_index(keys).sort_index()
    table = figures(made["random"][0])
    size = table["gallery_size"].max()
    for seed in (0, 1):
        mine = table[
            (table["index"] == "exact")
            & (table["seed"] == seed)
            & (table["gallery_size"] == size)
            & (table["slice_by"] != "prevalence")
        ]
        mine = mine.set_index(keys).sort_index()
        assert list(mine.index) == list(whole.index)
        for column in (
            "value",
            "std",
            "chance",
            "lift",
            "ci_low",
            "ci_high",
            "n_queries",
            "n_failed",
            "n_unanswerable",
            "n_patients",
            "gallery_size",
        ):
            np.testing.assert_allclose(
                mine[column].to_numpy(float), whole[column].to_numpy(float), atol=1e-12, err_msg=column
            )
        assert (mine["n_vanished"] == 0).all()


def test_an_index_of_each_sample_has_its_recall_and_its_costs(made):
    study = made["random"][0]
    costs, table = figures(study, "scaling_costs"), figures(study)
    assert set(costs["index"]) == {"exact", "hnsw", "hnsw-tuned"}
    assert len(costs) == 3 * 2 * 4
    graphs = costs[costs["index"] != "exact"]
    assert (
        graphs[["build_seconds", "search_seconds", "graph_bytes", "vector_bytes", "peak_bytes", "expansion_search"]] > 0
    ).all(axis=None)
    assert costs[costs["index"] == "exact"]["peak_bytes"].isna().all(), "one pass over all sizes has no peak for each"
    assert (graphs[graphs["index"] == "hnsw"]["expansion_search"] == 256).all()
    assert (graphs[graphs["index"] == "hnsw-tuned"]["recall"] >= 0.99).all()
    assert (costs["recall"].between(0, 1)).all()
    assert (costs[costs["index"] == "exact"]["recall"] == 1).all()
    assert costs[costs["index"] == "exact"][["build_seconds", "graph_bytes", "expansion_search"]].isna().all(axis=None)
    assert set(graphs["k"]) == {10}
    assert set(costs[costs["index"] == "exact"]["k"]) == {20}
    assert set(table[table["index"] == "hnsw"]["relevance"]) == set(table[table["index"] == "exact"]["relevance"]) - {
        "label_in_region"
    } | {""}
    assert (graphs[graphs["index"] == "hnsw-tuned"]["expansion_search"] < 256).all()
    growing = costs.sort_values("gallery_size").groupby(["index", "seed"])
    assert all(group["vector_bytes"].is_monotonic_increasing for _, group in growing)
    assert all(group["search_seconds"].is_monotonic_increasing for (index, _), group in growing if index == "exact")
    recalls = table[(table["metric"] == "ann_recall") & (table["slice_by"] == "all") & (table["k"] == 10)]
    merged = recalls.merge(costs, on=["index", "seed", "sample_size"])
    assert len(merged) == len(graphs)
    np.testing.assert_array_equal(merged["value"], merged["recall"])


def test_an_approximate_index_that_is_poor_has_a_recall_below_one(tmp_path, ray_session):
    """A graph of two principal axes, asked for few candidates: its recall is that of plain set intersections with the exact neighbors."""
    study = make_study(tmp_path / "study", ROWS, VECTORS)
    options = ScalingOptions(
        sizes=(60, 250), seeds=1, indexes=("exact", "poor"), index=IndexOptions(pca=2, rerank=1, expansion_search=1), k=10, resamples=0, allow_overlap=True
    )  # fmt: skip
    study_index_size(study, ["pixels32"], options, say=lambda line: None)
    costs = figures(study, "scaling_costs").set_index(["index", "gallery_size"])
    assert costs.loc[("poor", 250), "recall"] < 0.9
    assert costs.loc[("poor", 250), "recall"] < costs.loc[("poor", 60), "recall"]
    table = figures(study)
    assert table[["ci_low", "ci_high"]].isna().all(axis=None), "no resamples, no intervals"
    assert figures(study, "fits").empty, "two sizes are no curve"


def test_all_datasets_keep_their_contracts_and_leave_nothing_behind(made):
    for study, _ in made.values():
        for dataset in ("scaling", "scaling_costs", "vanished", "fits"):
            check(study.dataset(dataset).to_table(), dataset)
            assert study.require(dataset)["rows"] == study.dataset(dataset).count_rows()
        assert not study.exists("scaling_neighbors", "pixels32")
        assert not study.exists(".staging")
    assert CONTRACTS["scaling"] is CONTRACTS["metrics"]


def test_figures_of_samples_are_rows_of_metrics_in_sql(made):
    study = made["random"][0]
    rows = study_sql(
        study, "SELECT count(*), count(DISTINCT gallery_size), count(DISTINCT seed) FROM metrics WHERE seed IS NOT NULL"
    )
    assert rows == [{"count_star()": len(figures(study)), "count(DISTINCT gallery_size)": 4, "count(DISTINCT seed)": 2}]


def test_figures_and_fits_of_samples_are_dataframes(made):
    from cbmir.study import Study as Face

    study = Face(made["random"][0].address)
    frame = study.scaling(
        index="exact", seed=1, metric="precision_at_k", relevance="label", k=1, slice_by="all", average="micro"
    )
    assert frame["sample_size"].tolist() == sorted(frame["sample_size"])
    assert (len(frame), set(frame["seed"])) == (4, {1})
    assert set(study.fits(metric="precision_at_k", k=5)["encoder"]) <= {"pixels32"}
    with pytest.raises(UserError, match="no seed 7 in scaling; there: 0, 1"):
        study.scaling(seed=7)


def study_sql(study: Study, statement: str) -> list[dict]:
    from cbmir.study import Study as Face

    return Face(study.address).sql(statement).to_dict("records")


def test_one_seed_says_no_spread(tmp_path, ray_session):
    study, said = make_study(tmp_path / "study", ROWS, VECTORS), []
    study_index_size(
        study,
        ["pixels32"],
        ScalingOptions(sizes=(60, 150), seeds=1, resamples=0, ks=(1,), k=10, allow_overlap=True),
        say=said.append,
    )
    assert not any("±" in line or "nan" in line for line in said)
    study_index_size(
        study,
        ["pixels32"],
        ScalingOptions(sizes=(60, 150), seeds=2, resamples=0, ks=(1,), k=10, allow_overlap=True),
        say=said.append,
    )
    assert any("±" in line for line in said)


def test_more_sizes_and_seeds_do_only_what_is_missing(tmp_path, ray_session):
    study, said = make_study(tmp_path / "study", ROWS, VECTORS), []
    options = {"resamples": 0, "ks": (1,), "k": 10, "allow_overlap": True}
    study_index_size(study, ["pixels32"], ScalingOptions(sizes=(60, 150), seeds=1, **options), say=said.append)
    before = stamps(study)
    study_index_size(study, ["pixels32"], ScalingOptions(sizes=(60, 100, 150), seeds=2, **options), say=said.append)
    assert "2 of 6 samples are done already" in said
    after = stamps(study)
    assert len(after) == 6
    assert before.items() <= after.items()
    assert set(figures(study)["sample_size"]) == {60, 100, 150}
    study_index_size(study, ["pixels32"], ScalingOptions(sizes=(60,), seeds=1, **options), say=said.append)
    assert stamps(study) == after, "nothing is done again, and nothing forgotten"
    assert set(figures(study)["sample_size"]) == {60, 100, 150}


def stamps(study: Study) -> dict[str, int]:
    """Cell -> when its run.json was written."""
    root = study.path("scaling_cells", "pixels32")
    found = {}
    for directory, _, files in os.walk(root):
        if "run.json" in files:
            found[directory] = os.stat(os.path.join(directory, "run.json")).st_mtime_ns
    return found


def test_changed_embeddings_are_studied_again(tmp_path, ray_session):
    study = make_study(tmp_path / "study", ROWS, VECTORS)
    options = ScalingOptions(sizes=(60,), seeds=1, resamples=0, ks=(1,), k=10, allow_overlap=True)
    study_index_size(study, ["pixels32"], options, say=lambda line: None)
    before = figures(study)["value"].tolist()
    run = study.run_of("embeddings", "encoder=pixels32")
    study.write_json(run | {"fingerprint": "another"}, "embeddings", "encoder=pixels32", "run.json")
    first = stamps(study)
    study_index_size(study, ["pixels32"], options, say=lambda line: None)
    assert stamps(study).keys() == first.keys()
    assert stamps(study) != first
    assert figures(study)["value"].tolist() == before


@pytest.mark.slow
def test_a_killed_study_goes_on_and_comes_to_the_same(tmp_path):
    """SIGKILL while samples are being studied; the same command again writes the figures of a run that nobody disturbed."""
    arguments = [
        "--encoder",
        "pixels32",
        "--sizes",
        "20,60,100,all",
        "--seeds",
        "3",
        "--k",
        "1,5",
        "-k",
        "20",
        "--resamples",
        "100",
    ]
    arguments += ["--exclude-same", "patient_id"]
    calm, rough = (make_study(tmp_path / name, ROWS, VECTORS, files=3) for name in ("calm", "rough"))
    assert cbmir("study", "index-size", "--study", calm.address, *arguments).returncode == 0
    killed_when(lambda: len(stamps(rough)) >= 3, "study", "index-size", "--study", rough.address, *arguments)
    assert 3 <= len(stamps(rough)) < 12
    kept = stamps(rough)
    again = cbmir("study", "index-size", "--study", rough.address, *arguments)
    assert again.returncode == 0, again.stderr
    assert "of 12 samples are done already" in again.stdout
    assert kept.items() <= stamps(rough).items()
    keys = "encoder, index, metric, relevance, k, slice_by, slice, average, seed, sample_size"
    for dataset, order in (("scaling", keys), ("vanished", "ALL"), ("fits", "ALL")):
        same = duckdb.sql(
            f"(SELECT * FROM '{calm.path(dataset)}/*.parquet' EXCEPT ALL SELECT * FROM '{rough.path(dataset)}/*.parquet') ORDER BY {order}"
        ).fetchall()
        assert same == []
    assert not rough.exists("scaling_neighbors", "pixels32")
    assert not rough.exists(".staging")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": (20, 5_000)}, r"--sizes 5,000: the gallery of pixels32 has 298 embedded images \(split = 'train'\); expected at most as many, or all"),
        ({"sizes": (0, 20)}, "--sizes 0,20; expected numbers of images from 1 on, or all"),
        ({"sizes": ()}, "--sizes ; expected numbers of images"),
        ({"sizes": (5, 20), "k": None}, r"--k 10: each query has 5 neighbors, as many as the samples"),
        ({"sizes": (15, 20), "k": 18}, r"-k 18 is larger than the smallest sample \(15 images\)"),
        ({"seeds": 0}, "--seeds 0; expected 1 or more"),
        ({"sampling": "all"}, "--sampling all; expected one of: random, stratified, patient"),
        ({"indexes": ("exact", "a/b")}, "--index a/b: not a name for an index"),
        ({"indexes": ("hnsw-tuned",)}, "--index hnsw-tuned: that ending is for what is tuned"),
        ({"indexes": ()}, "--index names none"),
        ({"scores": ("precision",)}, "--score precision; nearest: .*'precision_at_k'"),
        ({"scores": ("ann_recall",)}, "--score ann_recall; "),
        ({"at": (0,)}, "--at 0; expected numbers of images"),
        ({"at": (None,)}, "--at all; expected numbers of images"),
        ({"resamples": 10}, "--resamples 10; expected 100 or more, or 0"),
        ({"recall": 1.5}, "--recall 1.5; expected a share"),
        ({"index": IndexOptions(dtype="f8")}, "--dtype f8; expected one of"),
        ({"index": IndexOptions(pca=99), "indexes": ("a",)}, "--pca 99; the vectors of pixels32 have 12 numbers"),
        ({"exclude_same": ()}, "patients have queries and gallery images"),
        ({"exclude_same": ("patient",)}, "--exclude-same patient: no such column"),
        ({"gallery": "split = 'nothing'"}, "the gallery is empty: split = 'nothing' selects none of the manifest's"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(tmp_path, change, said):
    study = make_study(tmp_path / "study", ROWS, VECTORS)
    options = ScalingOptions(**({"sizes": (20, 60), "exclude_same": ("patient_id",)} | change))
    with pytest.raises(UserError, match=said) as error:
        study_index_size(study, ["pixels32"], options, say=lambda line: None)
    assert "\n" not in str(error.value)
    assert not study.exists("scaling")


def test_other_encoders_and_other_questions_are_refused(made):
    study = made["random"][0]
    with pytest.raises(UserError, match="no embeddings of encoder 'pixle' in the study; nearest: 'pixels32'"):
        study_index_size(study, ["pixle"], ScalingOptions(**OPTIONS))
    with pytest.raises(UserError, match=r"were studied with --exclude-same .*, now .*--overwrite to begin anew"):
        study_index_size(study, ["pixels32"], ScalingOptions(**OPTIONS | {"exclude_same": (), "allow_overlap": True}))


def test_run_json_says_how_each_sample_was_made(made):
    study = made["random"][0]
    run = json.loads(study.read_text("scaling_cells", "pixels32", "hnsw-tuned", "random-s1-n60", "run.json"))
    assert (
        run["parameters"]
        | {"seed": 1, "size": 60, "sampling": "random", "recall": 0.99, "exclude_same": ["patient_id"], "dtype": "bf16"}
        == run["parameters"]
    )
    assert run["versions"]["usearch"]
    assert set(run["inputs"]) == {"embeddings", "manifest"}
