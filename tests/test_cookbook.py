"""docs/sql-cookbook.md: every block runs on a study that the commands of the page made, and says what pandas says."""

import re
import shlex

import duckdb
import pandas as pd
import pytest

from cbmir import Study
from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.schemas import CONTRACTS
from tests.cookbook import PAGE, STUDY, Block, blocks, output

BLOCKS = blocks()
MAY_BE_EMPTY = {(1, 0)}  # of 32 small classes none need be better in one direction
# a figure's name: whoever forgets one of these mixes figures
KEYS = {
    "metrics": ["encoder", "index", "metric", "relevance", "k", "slice_by", "slice", "average"],
    "comparisons": ["encoder_a", "index_a", "encoder_b", "index_b", "metric", "relevance", "k", "slice_by", "slice", "average"],
    "query_metrics": ["encoder", "index", "metric", "relevance", "k"],
    "confusions": ["encoder", "index", "label", "retrieved"],
    "hubness": ["encoder", "index", "k"],
    "neighbors": ["encoder", "index", "rank"],
}  # fmt: skip


@pytest.fixture(scope="module")
def study(ray_session, tmp_path_factory) -> Study:
    """The page's study, drawn smaller."""
    from cbmir.phantoms import draw_collection

    root = tmp_path_factory.mktemp("cookbook")
    draw_collection(root / "images", images=320, seed=0, broken=3)
    address = str(root / "study")
    encoders = ["--encoder", "pixels32", "--encoder", "timm:mobilenetv3_small_100~random0"]
    fast = ["--resamples", "100"]
    assert main(["run", "phantoms", str(root / "images"), "--study", address, *encoders, *fast, "--exclude-same", "patient_id"]) == 0  # fmt: skip
    first = re.search(r"```\nmake demo\n(.*?)```", PAGE.read_text(), flags=re.DOTALL).group(1).splitlines()
    assert len(first) == 6
    for line in first:
        more = [*fast, "--permutations", "500"] if "evaluate" in line else []
        assert main([*shlex.split(line.replace(STUDY, address))[1:], *more]) == 0, line
    return Study(address)


def answer(study: Study, question: int, at: int = 0) -> pd.DataFrame:
    return study.sql([b for b in BLOCKS if b.question == question and b.kind == "sql"][at].text)


def precision(found: pd.DataFrame, manifest: pd.DataFrame, k: int) -> pd.Series:
    """P@k of each query that found something, from neighbors and labels alone: key -> share."""
    labels = manifest.set_index("image_key")["labels"].map(set)
    top = found[found["rank"] <= k]
    right = [bool(labels[q] & labels[n]) for q, n in zip(top["query_key"], top["neighbor_key"], strict=True)]
    return pd.Series(right, index=top["query_key"]).groupby(level=0).sum() / k


def test_every_question_has_blocks_and_the_page_shows_their_output():
    assert sorted({b.question for b in BLOCKS}) == list(range(1, 13))
    page = PAGE.read_text()
    assert page.count("```text\n") == len(BLOCKS)


@pytest.mark.parametrize("at", range(len(BLOCKS)), ids=[f"{b.question}-{b.kind}" for b in BLOCKS])
def test_every_block_runs_and_answers(study, at):
    block = BLOCKS[at]
    if block.kind == "python":
        said = output(block, study.address)
        assert "timm:mobilenetv3_small_100~random0" in said
        assert "pixels32" in said
        return
    nth = [b for b in BLOCKS[:at] if b.question == block.question]
    rows = study.sql(block.text)
    assert len(rows) or (block.question, len(nth)) in MAY_BE_EMPTY


def unnamed(text: str) -> list[str]:
    """Key columns of the views that a statement reads, which it neither fixes nor shows."""
    words = set(re.findall(r"[a-z_]+", text.lower()))
    missing = []
    for view, keys in KEYS.items():
        if not re.search(rf"\b(?:FROM|JOIN) {view}\b", text):
            continue
        whole = "slice_by = 'all'" in text  # then slice is 'all', too
        missing += [f"{view}.{key}" for key in keys if key not in words and not (key == "slice" and whole)]
    return missing


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "sql"], ids=lambda b: str(b.question))
def test_every_statement_names_every_key_of_what_it_reads(block):
    assert unnamed(block.text) == []


def test_a_forgotten_key_is_noticed():
    text = next(b.text for b in BLOCKS if b.question == 8)
    assert unnamed(text.replace("average = 'macro'", "true")) == ["metrics.average"]
    assert unnamed("SELECT avg(value) FROM query_metrics WHERE metric = 'precision_at_k'") == [
        "query_metrics.encoder", "query_metrics.index", "query_metrics.relevance", "query_metrics.k"
    ]  # fmt: skip
    for view, keys in KEYS.items():
        assert set(keys) - {"encoder", "index"} <= set(CONTRACTS[view].names), view


def test_better_pathologies_are_those_of_the_neighbors(study):
    statement = BLOCKS[0].text.replace("AND difference > 0", "").replace("LIMIT 6", "")
    rows = study.sql(statement).set_index("pathology")
    manifest = study.sql("FROM manifest")
    asked = manifest[manifest["split"] == "test"]
    other = "timm:mobilenetv3_small_100~random0"
    means = {}
    for encoder in ("pixels32", other):
        found = study.sql(f"FROM neighbors WHERE encoder = '{encoder}' AND index = 'exact'")
        value = asked["image_key"].map(precision(found, manifest, 10)).fillna(0)
        means[encoder] = asked.assign(value=value).explode("labels").groupby("labels")["value"].mean()
    assert set(rows.index) == set(means["pixels32"].index)
    points = 100 * (means["pixels32"] - means[other])
    assert rows["points"].to_numpy() == pytest.approx(points[rows.index].to_numpy(), abs=0.0501)
    assert rows["significant"].tolist() == (rows["p_holm"] < 0.05).tolist()
    shown = set(answer(study, 1)["pathology"])
    assert shown <= set(points.index[points > 0])
    assert len(shown) == min(6, (points > 1e-9).sum())


def test_age_bands_are_those_of_pandas(study):
    rows = answer(study, 2)
    manifest = study.sql("FROM manifest")
    asked = manifest[manifest["split"] == "test"]
    found = study.sql("FROM neighbors WHERE encoder = 'pixels32' AND index = 'exact'")
    asked = asked.assign(value=asked["image_key"].map(precision(found, manifest, 1)).fillna(0), band=asked["age"] // 20)
    expected = asked.groupby("band").agg(value=("value", "mean"), queries=("value", "size"), patients=("patient_id", "nunique"))  # fmt: skip
    ours = rows[rows["encoder"] == "pixels32"]
    assert ours["age"].tolist() == [f"{20 * band} to {20 * band + 19}" for band in expected.index]
    assert ours["p_at_1"].to_numpy() == pytest.approx(100 * expected["value"].to_numpy(), abs=0.0501)
    assert ours["queries"].tolist() == expected["queries"].tolist()
    assert ours["patients"].tolist() == expected["patients"].tolist()


def test_what_is_found_in_place_of_a_pathology(study):
    label = re.search(r"label = '(.*?)'", next(b.text for b in BLOCKS if b.question == 3)).group(1)
    manifest = study.sql("FROM manifest").set_index("image_key")
    found = study.sql("FROM neighbors WHERE encoder = 'pixels32' AND index = 'exact' AND rank = 1")
    nearest = found.set_index("query_key")["neighbor_key"]
    shares: dict[str, float] = {}
    asked = manifest[(manifest["split"] == "test") & manifest["labels"].map(lambda labels: label in labels)]
    for key in asked.index:
        retrieved = manifest.loc[nearest[key], "labels"] if key in nearest.index else [""]
        for name in retrieved or [""]:
            shares[name] = shares.get(name, 0) + 100 / len(asked) / len(retrieved or [""])
    rows = answer(study, 3).set_index("retrieved")["percent"]
    assert rows.to_dict() == pytest.approx(shares, abs=0.0501)


def test_hubs_are_counted_as_pandas_counts(study):
    rows = answer(study, 4, 1)
    found = pd.concat(study.neighbors(e, k=10).assign(encoder=e) for e in study.encoders)
    times = found.groupby(["encoder", "neighbor"]).size()
    assert rows["found_by"].tolist() == sorted(times, reverse=True)[:6]
    for row in rows.itertuples():
        mine = found[(found["encoder"] == row.encoder) & (found["neighbor"] == row.image_id)]
        right = [bool(set(a) & set(b)) for a, b in zip(mine["query_labels"], mine["neighbor_labels"], strict=True)]
        assert row.found_by == len(mine)
        assert row.percent_right == pytest.approx(100 * sum(right) / len(right), abs=0.0501)
    most = study.sql("SELECT encoder, most_found FROM hubness WHERE index = 'exact' AND k = 10")
    assert most.set_index("encoder")["most_found"].to_dict() == times.groupby("encoder").max().to_dict()


def test_the_cost_of_an_index_is_its_recall_and_its_precision(study):
    rows = answer(study, 5)
    assert list(zip(rows["encoder"], rows["index"], strict=True)) == [
        ("pixels32", "hnsw"), ("pixels32", "small"), ("timm:mobilenetv3_small_100~random0", "hnsw")
    ]  # fmt: skip
    for row in rows.itertuples():
        exact, found = (study.neighbors(row.encoder, index) for index in ("exact", row.index))
        shared = exact.merge(found, on=["query_key", "neighbor_key"])
        assert row.ann_recall_at_10 == pytest.approx(100 * len(shared) / len(exact), abs=0.0501)
        assert row.points == pytest.approx(row.p_at_10 - row.exact_p_at_10, abs=0.0101)


def test_what_is_owed_to_the_same_patient(study):
    rows = answer(study, 6, 1)
    searched = study.query_metrics("pixels32", "all", metric="precision_at_k", relevance="label", k=1)
    assert rows["queries"].sum() == len(searched)
    total = (rows["queries"] * rows["p_at_1"]).sum() / rows["queries"].sum()
    whole, without = answer(study, 6, 0)["p_at_1"]
    assert total == pytest.approx(whole, abs=0.1)
    patients = study.sql("FROM manifest").set_index("image_id")["patient_id"]
    nearest = study.neighbors("pixels32", "all", k=1)
    alike = (nearest["query"].map(patients) == nearest["neighbor"].map(patients)).sum()
    assert rows.set_index("nearest_is")["queries"].get("same patient", 0) <= alike
    others = study.neighbors("pixels32", "others", k=1)
    assert (others["query"].map(patients) != others["neighbor"].map(patients)).all()
    assert without < whole


def test_the_curve_is_that_of_the_neighbors(study):
    rows = answer(study, 7).set_index("k")
    manifest = study.sql("FROM manifest")
    found = study.sql("FROM neighbors WHERE encoder = 'pixels32' AND index = 'exact'")
    asked = manifest[manifest["split"] == "test"]
    for k in rows.index:
        value = asked["image_key"].map(precision(found, manifest, k)).fillna(0)
        macro = asked.assign(value=value).explode("labels").groupby("labels")["value"].mean().mean()
        assert rows.loc[k, "pixels32"] == pytest.approx(100 * macro, abs=0.0501)


def test_anatomy_is_shown_once_a_level(study):
    rows = answer(study, 8)
    levels = {"label", "region", "modality", "modality_region", "label_in_region"}
    assert sorted(zip(rows["encoder"], rows["relevance"], strict=True)) == sorted(
        (encoder, level) for encoder in study.encoders for level in levels
    )
    modality = rows[(rows["relevance"] == "modality") & (rows["encoder"] == "pixels32")]
    assert modality["chance"].item() == pytest.approx(
        25, abs=0.05
    )  # macro: the mean over four shares that add up to one


def test_failed_queries_are_listed_and_counted(study):
    failed, counted = answer(study, 9), answer(study, 9, 1)
    assert len(failed) == 1
    assert failed["encoders"][0] == study.encoders
    assert counted.set_index("pathology")["n_failed"].to_dict() == dict.fromkeys(failed["labels"][0], 1)
    assert (counted["n_unanswerable"] == 0).all()


def test_hard_queries_are_the_least_of_the_best(study):
    scores = [study.query_metrics(e, metric="average_precision", relevance="label").set_index("image_id") for e in study.encoders]  # fmt: skip
    best = pd.concat([s["value"] for s in scores], axis=1).max(axis=1)
    failed = set(study.sql("SELECT image_id FROM failures JOIN manifest USING (image_key)")["image_id"])
    best = best[(scores[0]["chance"] > 0) & ~best.index.isin(failed)]
    assert answer(study, 10)["best_ap"].tolist() == pytest.approx(sorted(100 * best)[:5], abs=0.00501)


def test_shared_neighbors_are_those_of_sets(study):
    a, b = (study.neighbors(e, k=10).groupby("query")["neighbor"].agg(set) for e in study.encoders)
    modality = study.sql("FROM manifest").set_index("image_id")["modality"]
    shared = pd.Series({q: 10 * len(a[q] & b[q]) for q in a.index}).groupby(modality).mean()
    assert answer(study, 11).set_index("modality")["percent_shared"].to_dict() == pytest.approx(shared.to_dict(), abs=0.0501)  # fmt: skip


def test_what_the_page_exports_is_read_by_anybody(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^cbmir sql .*--(?:parquet|csv) \S+$", PAGE.read_text(), flags=re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert main(shlex.split(line.replace(STUDY, study.address))[1:]) == 0
    exported = pd.read_parquet("by_label.parquet")
    assert len(exported) == len(study.metrics(metric="precision_at_k", slice_by="label"))
    count = duckdb.sql("SELECT count(*) FROM 'comparisons.csv'").fetchall()[0][0]
    assert count == len(study.comparisons(slice_by="all")) > 0


def test_outputs_are_written_by_the_program_and_errors_are_not(study):
    said = output(Block(1, "sql", "SELECT 'x' AS answer"), study.address)
    assert "answer" in said
    with pytest.raises(RuntimeError, match=r'question 3: .*"nothing" not found'):
        output(Block(3, "sql", "SELECT nothing FROM metrics"), study.address)
    with pytest.raises(UserError, match="predictions: not in this study; make it with: cbmir probe"):
        study.sql("FROM predictions")
