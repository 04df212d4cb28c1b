"""Index and search over hand-made studies: roles, filters, exclusion, short results, and what is refused."""

import duckdb
import numpy as np
import pytest

from cbmir.errors import UserError
from cbmir.index import IndexOptions, build_index
from cbmir.schemas import ContractError, image_key
from cbmir.search import SearchOptions, search
from tests.studies import make_study

DIM = 16


def collection(n: int = 240, *, seed: int = 0) -> tuple[list[dict], dict[str, np.ndarray]]:
    """n images in clusters, 3 of 4 for the gallery, patients of 3 images, one image that was not embedded."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((8, DIM)) * 2
    rows, vectors = [], {}
    for i in range(n):
        rows.append(
            {
                "image_id": f"hand/{i}",
                "split": "test" if i % 4 == 3 else "train",
                "patient_id": None if i % 10 == 0 else f"p{i // 3}",
                "modality": "CT" if i % 8 < 2 else "XR",
                "labels": [f"XR/chest/{i % 8}"],
            }
        )
        vectors[f"hand/{i}"] = (centres[i % 8] + rng.standard_normal(DIM)).astype(np.float32)
    del vectors["hand/3"]
    return rows, vectors


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", *collection(), files=3)


def neighbors(study, index="exact", encoder="pixels32") -> dict[int, list[tuple[int, float]]]:
    rows = duckdb.sql(
        f"SELECT query_key, neighbor_key, distance FROM '{study.path('neighbors', encoder, index)}/*.parquet' ORDER BY query_key, rank"
    ).fetchall()
    found: dict[int, list] = {}
    for query, neighbor, distance in rows:
        found.setdefault(query, []).append((neighbor, distance))
    return found


def brute(rows, vectors, *, k, gallery, queries, barred=lambda q, g: False):
    """A plain double loop in float64."""
    found = {}
    for q in (r for r in rows if queries(r) and r["image_id"] in vectors):
        scored = []
        for g in (r for r in rows if gallery(r) and r["image_id"] in vectors):
            if g["image_id"] == q["image_id"] or barred(q, g):
                continue
            a, b = vectors[q["image_id"]].astype(float), vectors[g["image_id"]].astype(float)
            scored.append((np.float32(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)), image_key(g["image_id"])))
        found[image_key(q["image_id"])] = [key for _, key in sorted(scored)[:k]]
    return found


def train(row):
    return row["split"] == "train"


def test_row(row):
    return row["split"] == "test"


test_row.__test__ = False


def same_patient(q, g):
    return q["patient_id"] is not None and q["patient_id"] == g["patient_id"]


@pytest.mark.parametrize("index", ["exact", "hnsw"])
@pytest.mark.parametrize(
    "options, expect",
    [
        (SearchOptions(k=10), {"gallery": train, "queries": test_row}),
        (
            SearchOptions(k=10, exclude_same=("patient_id",)),
            {"gallery": train, "queries": test_row, "barred": same_patient},
        ),
        (
            SearchOptions(k=10, gallery="split = 'train' AND modality = 'CT'"),
            {"gallery": lambda r: train(r) and r["modality"] == "CT", "queries": test_row},
        ),
        (SearchOptions(k=5, queries="split = 'train'"), {"gallery": train, "queries": train}),
    ],
    ids=["plain", "patients excluded", "filtered gallery", "queries inside the gallery"],
)
def test_neighbors_equal_a_plain_double_loop(study, index, options, expect):
    """The index is asked for far more candidates than it holds edges for, so that it, too, must be exact here."""
    if index != "exact":
        build_index(study, "pixels32", index, IndexOptions(dtype="f32", expansion_search=512, expansion_add=512))
    search(study, "pixels32", index, options)
    found = {query: [key for key, _ in near] for query, near in neighbors(study, index).items()}
    assert found == brute(*collection(), k=options.k, **expect)


def test_a_patient_with_the_whole_gallery_leaves_short_results_not_wrong_ones(tmp_path):
    rows = [{"image_id": f"a/{i}", "patient_id": "p", "split": "train"} for i in range(5)]
    rows += [
        {"image_id": "a/q", "patient_id": "p", "split": "test"},
        {"image_id": "a/r", "patient_id": "r", "split": "test"},
    ]
    vectors = {row["image_id"]: np.arange(1, 5) + i for i, row in enumerate(rows)}
    study = make_study(tmp_path / "s", rows, vectors)
    build_index(study, "pixels32", "hnsw", IndexOptions())
    for index in ("exact", "hnsw"):
        search(study, "pixels32", index, SearchOptions(k=3, exclude_same=("patient_id",)))
        found = neighbors(study, index)
        assert image_key("a/q") not in found
        assert len(found[image_key("a/r")]) == 3


def test_run_json_counts_what_was_not_embedded(study):
    run, searched = search(study, "pixels32", "exact", SearchOptions(k=4))
    assert searched
    assert (run["queries"], run["queries_not_embedded"], run["gallery"]) == (59, 1, 180)
    assert run["rows"] == 59 * 4


def test_same_search_again_is_skipped_and_another_is_refused_until_told(study):
    search(study, "pixels32", "exact", SearchOptions(k=4))
    assert search(study, "pixels32", "exact", SearchOptions(k=4))[1] is False
    with pytest.raises(UserError, match=r"k 4 there, 5 now.*--save-as.*--overwrite"):
        search(study, "pixels32", "exact", SearchOptions(k=5))
    assert len(next(iter(neighbors(study).values()))) == 4
    search(study, "pixels32", "exact", SearchOptions(k=5, overwrite=True))
    assert len(next(iter(neighbors(study).values()))) == 5
    search(study, "pixels32", "exact", SearchOptions(k=2, save_as="two"))
    assert len(next(iter(neighbors(study, "two").values()))) == 2


def test_default_depth_is_the_gallery_where_that_is_smaller_than_100(tmp_path):
    rows = [{"image_id": f"a/{i}", "split": "train" if i < 7 else "test"} for i in range(9)]
    study = make_study(tmp_path / "s", rows, {r["image_id"]: [1, i] for i, r in enumerate(rows)})
    assert search(study, "pixels32", "exact", SearchOptions())[0]["parameters"]["k"] == 7


@pytest.mark.parametrize(
    "options, message",
    [
        (SearchOptions(k=181), r"-k 181 is larger than the gallery \(180 embedded images\); expected -k 180 or less"),
        (SearchOptions(k=0), r"-k 0; expected 1 to 10,000"),
        (
            SearchOptions(gallery="split = 'trian'"),
            r"the gallery is empty: split = 'trian' selects none of the manifest's 240 images",
        ),
        (SearchOptions(queries="splt = 'test'"), r"no column 'splt' in the manifest; nearest: 'split'"),
        (SearchOptions(queries="split = "), r"is not a SQL predicate over the manifest"),
        (
            SearchOptions(exclude_same=("patient",)),
            r"--exclude-same patient: no such column in the manifest; nearest: 'patient_id'",
        ),
        (SearchOptions(queries="image_id = 'hand/3'"), r"the queries is empty: none of the 1 images"),
    ],
)
def test_misuse_is_one_line_and_writes_nothing(study, options, message):
    with pytest.raises(UserError, match=message) as error:
        search(study, "pixels32", "exact", options)
    assert "\n" not in str(error.value)
    assert not study.exists("neighbors")
    assert not study.exists(".staging")


def test_unknown_names_are_answered_with_the_nearest(study):
    with pytest.raises(UserError, match=r"no embeddings of encoder 'pixels3'.*nearest: 'pixels32'"):
        search(study, "pixels3", "exact", SearchOptions())
    build_index(study, "pixels32", "hnsw", IndexOptions())
    with pytest.raises(UserError, match=r"no index 'hsnw'.*nearest: 'hnsw'"):
        search(study, "pixels32", "hsnw", SearchOptions())


def test_unfinished_embeddings_are_refused_by_name(study):
    study.delete("embeddings", "encoder=pixels32", "run.json")
    with pytest.raises(ContractError, match=r"embeddings/encoder=pixels32 is unfinished.*cbmir embed"):
        search(study, "pixels32", "exact", SearchOptions())


def test_a_gallery_outside_the_index_is_refused(study):
    build_index(study, "pixels32", "ct", IndexOptions(gallery="modality = 'CT'"))
    with pytest.raises(UserError, match=r"selects \d+ images that the index does not hold"):
        search(study, "pixels32", "ct", SearchOptions(gallery="split = 'train'", k=3))


def test_zero_vectors_stay_out_of_the_graph_and_are_still_searched(tmp_path):
    rows = [{"image_id": f"a/{i}", "split": "train" if i < 20 else "test"} for i in range(22)]
    rng = np.random.default_rng(0)
    vectors = {row["image_id"]: rng.standard_normal(4) for row in rows}
    vectors["a/5"] = np.zeros(4)
    vectors["a/21"] = np.zeros(4)
    study = make_study(tmp_path / "s", rows, vectors)
    run, _ = build_index(study, "pixels32", "hnsw", IndexOptions())
    assert (run["rows"], run["zero_vectors"]) == (19, 1)
    search(study, "pixels32", "hnsw", SearchOptions(k=19))
    found = neighbors(study, "hnsw")
    assert [distance for _, distance in found[image_key("a/21")]] == [1.0] * 19
    assert len(found[image_key("a/20")]) == 19


def test_a_filter_that_leaves_as_many_images_as_the_graph_holds_is_a_filter(tmp_path):
    """Two vectors of zeros are not in the graph: without one other image, the gallery is still larger than the graph."""
    rows = [{"image_id": f"a/{i}", "split": "train" if i < 20 else "test"} for i in range(21)]
    rng = np.random.default_rng(0)
    vectors = {row["image_id"]: rng.standard_normal(4) for row in rows}
    vectors["a/5"] = vectors["a/6"] = np.zeros(4)
    vectors["a/0"] = vectors["a/20"]
    study = make_study(tmp_path / "s", rows, vectors)
    build_index(study, "pixels32", "hnsw", IndexOptions())
    gallery = "split = 'train' AND image_id != 'a/0'"
    for index in ("hnsw", "exact"):
        search(study, "pixels32", index, SearchOptions(k=5, gallery=gallery))
    assert neighbors(study, "hnsw") == neighbors(study, "exact")
    assert image_key("a/0") not in [key for key, _ in neighbors(study, "hnsw")[image_key("a/20")]]


def test_an_index_older_than_the_embeddings_is_rebuilt_and_its_search_outdated(study):
    from cbmir.evaluating.searches import find_searches
    from cbmir.fresh import outdated

    build_index(study, "pixels32", "hnsw", IndexOptions())
    run, _ = search(study, "pixels32", "hnsw", SearchOptions(k=3))
    assert not outdated(study, "pixels32", run)
    build_index(study, "pixels32", "hnsw", IndexOptions(dtype="i8", overwrite=True))
    assert outdated(study, "pixels32", run)
    with pytest.raises(UserError, match="older than the manifest, the embeddings or the index; search again"):
        find_searches(study)
    assert search(study, "pixels32", "hnsw", SearchOptions(k=3))[1] is True
    embedded = study.run_of("embeddings", "encoder=pixels32")
    study.write_json(embedded | {"fingerprint": "1" * 16}, "embeddings", "encoder=pixels32", "run.json")
    assert build_index(study, "pixels32", "hnsw", IndexOptions(dtype="i8"))[1] is True


def test_an_approximate_search_is_not_stored_as_exact(study):
    build_index(study, "pixels32", "hnsw", IndexOptions())
    with pytest.raises(UserError, match="--save-as exact with --index hnsw"):
        search(study, "pixels32", "hnsw", SearchOptions(k=3, save_as="exact"))


def test_a_predicate_may_end_in_a_semicolon_and_still_be_evaluated(study):
    from cbmir.evaluate import evaluate
    from cbmir.evaluating.options import EvaluateOptions

    search(study, "pixels32", "exact", SearchOptions(k=3, queries="split = 'test' ;"))
    assert evaluate(study, EvaluateOptions(allow_overlap=True))["rows"] > 0


def test_ids_are_a_datasets_own(tmp_path):
    """Patient 1 of one dataset is not patient 1 of another; a value of any other column is what it is."""
    rows = [
        {"image_id": "a/1", "dataset": "a", "patient_id": "1", "view": "PA"},
        {"image_id": "b/1", "dataset": "b", "patient_id": "1", "view": "PA"},
        {"image_id": "a/q", "dataset": "a", "patient_id": "1", "view": "PA", "split": "test"},
        {"image_id": "b/2", "dataset": "b", "patient_id": "2", "view": "AP"},
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: [1, i] for i, row in enumerate(rows)})
    search(study, "pixels32", "exact", SearchOptions(k=3, exclude_same=("patient_id",)))
    assert {key for key, _ in neighbors(study)[image_key("a/q")]} == {image_key("b/1"), image_key("b/2")}
    search(study, "pixels32", "exact", SearchOptions(k=3, exclude_same=("view",), overwrite=True))
    assert {key for key, _ in neighbors(study)[image_key("a/q")]} == {image_key("b/2")}


def test_an_interrupted_search_leaves_nothing_behind(study, monkeypatch):
    from cbmir.searching.searchers import ExactSearch

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ExactSearch, "block", fail)
    with pytest.raises(KeyboardInterrupt):
        search(study, "pixels32", "exact", SearchOptions(k=3))
    assert not study.exists("neighbors", "pixels32")
