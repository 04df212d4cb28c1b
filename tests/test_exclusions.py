"""What a query must not find, at any share of the gallery: itself, its patient, its study, its duplicates; against a double loop."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.searches import find_searches
from cbmir.exclusions import DUPLICATES, duplicates_digest, exclusion_codes
from cbmir.fresh import outdated
from cbmir.index import IndexOptions, build_index
from cbmir.inspection import InspectionOptions, inspect
from cbmir.schemas import IMAGE_FACTS, image_key
from cbmir.search import SearchOptions, search
from cbmir.store import Study, run_record
from tests.studies import make_study
from tests.test_search import brute, neighbors

N, DIM, K = 600, 12, 10
DISTANCE = 2


def collection() -> tuple[list[dict], dict[str, np.ndarray]]:
    """600 images of patients with two studies; neighbors in space are often of one patient, one study or one group of copies."""
    rng = np.random.default_rng(3)
    rows, vectors = [], {}
    people = rng.standard_normal((N // 6 + 1, DIM)) * 3
    for i in range(N):
        rows.append(
            {
                "image_id": f"hand/{i}",
                "dataset": "hand" if i % 2 else "other",
                "split": "test" if i % 9 == 4 else "train",
                "patient_id": None if i % 25 == 0 else f"p{i // 6 % 80}",  # the last patients are the first ones again
                "study_id": None if i % 31 == 0 else f"s{i // 3}",
                "modality": "CT" if i % 4 < 2 else "XR",
                "bucket": i % 100,
                "labels": [f"XR/chest/{i % 5}"],
            }
        )
        vectors[f"hand/{i}"] = (people[i // 6] + rng.standard_normal(DIM)).astype(np.float32)
    return rows, vectors


def hashes() -> list[tuple[str, int | None]]:
    """(pixels_hash, perceptual_hash) of each image: pairs, chains whose ends are not alike, copies of one color, and mostly neither."""
    rng = np.random.default_rng(4)
    found: list[tuple[str, int | None]] = [(f"pixels{i}", int(rng.integers(-(2**63), 2**63 - 1))) for i in range(N)]
    for start in range(0, N - 6, 12):
        pixels, code = found[start]
        found[start + 1] = (found[start + 1][0], code ^ 0b11)  # alike
        found[start + 3] = (found[start + 3][0], code ^ 0b1111)  # alike to the one before, not to the first
        found[start + 4] = (found[start + 1][0], code ^ 0b11)  # equal to the second
        found[start + 6] = (f"{pixels}-flat", None)
        if start % 24 == 0:
            found[start + 7] = (f"{pixels}-flat", None)  # equal, and of one color
    return found


HASHES = {f"hand/{i}": pair for i, pair in enumerate(hashes())}


def alike(a: str, b: str) -> bool:
    (pixels_a, code_a), (pixels_b, code_b) = HASHES[a], HASHES[b]
    near = code_a is not None and code_b is not None and ((code_a ^ code_b) & (2**64 - 1)).bit_count() <= DISTANCE
    return pixels_a == pixels_b or near


def groups() -> dict[str, str]:
    """Image -> the first image that it is reached from by pairs that are alike: a plain walk."""
    ids = list(HASHES)
    found: dict[str, str] = {}
    for first in ids:
        if first in found:
            continue
        found[first], pending = first, [first]
        while pending:
            one = pending.pop()
            for other in ids:
                if other not in found and alike(one, other):
                    found[other] = first
                    pending.append(other)
    return found


GROUPS = groups()


def with_facts(study: Study) -> Study:
    """What `manifest check` finds of images, without any image: their hashes as given, the problems by its own statements."""
    rows = study.dataset("manifest").to_table(columns=["image_key", "image_id", "uri"]).to_pylist()
    facts = [
        {field.name: None for field in IMAGE_FACTS}
        | {"image_key": row["image_key"], "uri": row["uri"]}
        | dict(zip(("pixels_hash", "perceptual_hash"), HASHES[row["image_id"]], strict=True))
        for row in rows
    ]
    study.write_table(pa.Table.from_pylist(facts, schema=IMAGE_FACTS), "image_facts", "facts.parquet")
    inputs = {"manifest": study.require("manifest")["fingerprint"]}
    study.write_json(run_record("look", parameters={}, inputs=inputs, rows=len(rows)), "image_facts", "run.json")
    inspect(study, InspectionOptions(distance=DISTANCE), say=lambda line: None)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    made = with_facts(make_study(tmp_path_factory.mktemp("exclusions") / "study", *collection(), files=3))
    build_index(made, "pixels32", "graph", IndexOptions(gallery="true"))
    return made


def same(column: str, *, own: bool):
    """Whether two images have one value of a column; `own`: ids count within a dataset."""
    return lambda q, g: q[column] is not None and q[column] == g[column] and (not own or q["dataset"] == g["dataset"])


GALLERIES = {
    "one row": ("image_id = 'hand/17'", lambda row: row["image_id"] == "hand/17"),
    "1 %": ("bucket = 40", lambda row: row["bucket"] == 40),
    "50 %": ("modality = 'CT'", lambda row: row["modality"] == "CT"),
    "all": ("true", lambda row: True),
}
EXCLUSIONS = {
    "itself": ((), lambda q, g: False),
    "patient": (("patient_id",), same("patient_id", own=True)),
    "study": (("study_id",), same("study_id", own=True)),
    "modality": (("modality",), same("modality", own=False)),
    "duplicates": ((DUPLICATES,), lambda q, g: GROUPS[q["image_id"]] == GROUPS[g["image_id"]]),
    "patient and duplicates": (
        ("patient_id", DUPLICATES),
        lambda q, g: same("patient_id", own=True)(q, g) or GROUPS[q["image_id"]] == GROUPS[g["image_id"]],
    ),
}


def asks(row: dict) -> bool:
    return row["split"] == "test" or row["image_id"] in ("hand/17", "hand/0", "hand/1", "hand/6")


QUERIES = "split = 'test' OR image_id IN ('hand/17', 'hand/0', 'hand/1', 'hand/6')"


@pytest.mark.parametrize("index", ["exact", "graph"])
@pytest.mark.parametrize("exclusion", EXCLUSIONS)
@pytest.mark.parametrize("gallery", GALLERIES)
def test_neighbors_are_those_of_a_double_loop(study, gallery, exclusion, index):
    """Exact: the very same. Through an index: as many, none that is excluded or outside the gallery, and nearly always the nearest."""
    predicate, chosen = GALLERIES[gallery]
    columns, barred = EXCLUSIONS[exclusion]
    size = sum(map(chosen, collection()[0]))
    k = min(K, size)
    options = SearchOptions(k=k, gallery=predicate, queries=QUERIES, exclude_same=columns, overwrite=True)
    search(study, "pixels32", index, options)
    found = {query: [key for key, _ in near] for query, near in neighbors(study, index).items()}
    whole = brute(*collection(), k=N, gallery=chosen, queries=asks, barred=barred)
    expected = {query: keys[:k] for query, keys in whole.items() if keys}
    assert sum(map(len, expected.values())) > 0 or gallery == "one row"
    if index == "exact":
        assert found == expected
        return
    assert {query: len(keys) for query, keys in found.items()} == {query: len(keys) for query, keys in expected.items()}
    assert all(set(keys) <= set(whole[query]) and len(set(keys)) == len(keys) for query, keys in found.items())
    right = sum(len(set(keys) & set(expected[query])) for query, keys in found.items())
    assert right >= 0.97 * sum(map(len, expected.values()))


def test_every_exclusion_changes_what_is_found():
    """Else the cases above could not fail."""
    rows, vectors = collection()
    found = [
        brute(rows, vectors, k=K, gallery=lambda r: True, queries=asks, barred=barred)
        for _, barred in EXCLUSIONS.values()
    ]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
    chain = [f"hand/{i}" for i in (0, 1, 3, 4)]
    assert len({GROUPS[name] for name in chain}) == 1
    assert not alike("hand/0", "hand/3")


def test_codes_are_the_groups_and_images_without_a_duplicate_have_none(study):
    keys, codes = exclusion_codes(study, (DUPLICATES,))
    code = dict(zip(keys.tolist(), codes[:, 0].tolist(), strict=True))
    sizes = {name: list(GROUPS.values()).count(name) for name in set(GROUPS.values())}
    expected: dict[str, set] = {}
    for image, group in GROUPS.items():
        if sizes[group] == 1:
            assert code[image_key(image)] == -1
        else:
            expected.setdefault(group, set()).add(code[image_key(image)])
    assert all(len(codes) == 1 for codes in expected.values())
    assert len(set.union(*expected.values())) == len(expected) > 50
    assert -1 not in set.union(*expected.values())


def test_codes_keep_the_order_of_the_columns(study):
    _, both = exclusion_codes(study, (DUPLICATES, "study_id"))
    _, turned = exclusion_codes(study, ("study_id", DUPLICATES))
    assert (both == turned[:, ::-1]).all()


def test_a_column_of_that_name_comes_first(tmp_path):
    rows = [{"image_id": f"hand/{i}", DUPLICATES: "ab"[i % 2]} for i in range(4)]
    study = make_study(tmp_path / "s", rows)
    keys, codes = exclusion_codes(study, (DUPLICATES,))
    code = dict(zip(keys.tolist(), codes[:, 0].tolist(), strict=True))
    assert (
        code[image_key("hand/0")] == code[image_key("hand/2")] != code[image_key("hand/1")] == code[image_key("hand/3")]
    )


def test_no_duplicates_at_all_exclude_nothing(tmp_path):
    rows, vectors = collection()
    lone = [row for row in rows if list(GROUPS.values()).count(GROUPS[row["image_id"]]) == 1]
    study = with_facts(make_study(tmp_path / "s", lone, vectors))
    assert (exclusion_codes(study, (DUPLICATES,))[1] == -1).all()
    search(study, "pixels32", "exact", SearchOptions(k=5, exclude_same=(DUPLICATES,)))
    assert all(len(near) == 5 for near in neighbors(study).values())


def test_figures_and_chance_know_of_the_duplicates(study):
    """Counted pair by pair in Python: the expected P@3 of a gallery in random order, without what may not be found."""
    rows, _ = collection()
    for index in ("exact", "graph"):
        study.delete("neighbors", "pixels32", index)
    search(study, "pixels32", "exact", SearchOptions(k=3, exclude_same=(DUPLICATES, "patient_id")))
    evaluate(study, EvaluateOptions(ks=(3,), resamples=0, allow_overlap=True), say=lambda line: None)
    path = study.path("query_metrics", "pixels32", "exact", "*.parquet")
    found = dict(
        duckdb.sql(
            f"SELECT query_key, chance FROM '{path}' WHERE relevance = 'label' AND metric = 'precision_at_k'"
        ).fetchall()
    )
    barred = EXCLUSIONS["patient and duplicates"][1]
    for q in [row for row in rows if row["split"] == "test"]:
        candidates = [g for g in rows if g["split"] == "train" and not barred(q, g)]
        relevant = sum(g["labels"] == q["labels"] for g in candidates)
        assert found[image_key(q["image_id"])] == pytest.approx(
            relevant / len(candidates) * min(3, len(candidates)) / 3
        )
    assert len(found) == sum(row["split"] == "test" for row in rows)


def test_without_a_check_it_is_one_line_that_names_the_command(tmp_path, capsys):
    study = make_study(tmp_path / "s", *collection())
    with pytest.raises(
        UserError,
        match=r"--exclude-same duplicate_group: the check for duplicates has not been made; make it with: cbmir manifest check",
    ):
        exclusion_codes(study, (DUPLICATES,))
    assert duplicates_digest(study) is None
    assert (
        main(
            [
                "search",
                "--study",
                study.address,
                "--encoder",
                "pixels32",
                "--index",
                "exact",
                "--exclude-same",
                "duplicate_grup",
            ]
        )
        == 2
    )
    assert "nearest: 'duplicate_group'" in capsys.readouterr().err
    with_facts(study)
    run = study.run_of("problems")
    study.write_json(run | {"inputs": {"manifest": "0" * 16}}, "problems", "run.json")
    with pytest.raises(UserError, match=r"is older than the manifest; make it with: cbmir manifest check --study"):
        exclusion_codes(study, (DUPLICATES,))


def test_another_check_with_other_duplicates_makes_the_search_outdated(tmp_path):
    study = with_facts(make_study(tmp_path / "s", *collection()))
    options = SearchOptions(k=3, exclude_same=(DUPLICATES,))
    run, _ = search(study, "pixels32", "exact", options)
    inspect(
        study, InspectionOptions(distance=DISTANCE, k=3, gallery="true"), say=lambda line: None
    )  # the same duplicates
    assert not outdated(study, "pixels32", run)
    assert search(study, "pixels32", "exact", options) == (run, False)
    inspect(study, InspectionOptions(distance=0), say=lambda line: None)
    assert outdated(study, "pixels32", run)
    with pytest.raises(
        UserError, match="older than the manifest, the embeddings or the index or the duplicates found; search again"
    ):
        find_searches(study)
    again, searched = search(study, "pixels32", "exact", options)
    assert searched
    assert not outdated(study, "pixels32", again)
    study.delete("problems")
    assert outdated(study, "pixels32", again)
    plain, _ = search(study, "pixels32", "exact", SearchOptions(k=3, overwrite=True))
    assert not outdated(study, "pixels32", plain)
