"""The linear probe: against a plain computation in NumPy, scikit-learn's figures, and cases whose answer is known."""

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cbmir.classifying.examples import Examples, label_codes, unit_length
from cbmir.classifying.linear import Recipe, Tensors, first_weights, targets, train
from cbmir.errors import UserError
from cbmir.flags import parse
from cbmir.probe import ProbeOptions, probe
from cbmir.removing.figures import made_by
from cbmir.schemas import check, image_key
from cbmir.store import Study
from cbmir.vectors import Vectors
from tests.studies import add_embeddings, make_study
from tests.test_classifying import by_scikit_learn

FIGURES = ("classification", "linear_probe%20pixels32")
QUICK = ProbeOptions(epochs=30, patience=5, batch_size=16, lr=0.05, device="cpu")


def drawn(root, *, seed=0, n=240, separable=True, several=False, lost=0.0, files=1) -> tuple[Study, list[dict]]:
    """Images of three labels (or some of them), whose vectors point along their labels' axes, or anywhere."""
    rng = np.random.default_rng(seed)
    rows, vectors = [], {}
    for i in range(n):
        mine = np.flatnonzero(rng.random(3) < 0.4) if several else [rng.integers(0, 3)]
        rows.append(
            {
                "image_id": f"d/{i}",
                "split": ["train", "val", "test"][i % 3],
                "labels": [f"XR/chest/{'ABC'[c]}" for c in mine],
            }
        )
        middle = np.zeros(5) if not separable else sum((np.eye(5)[c] for c in mine), np.zeros(5))
        if rng.random() >= lost:
            vectors[f"d/{i}"] = (10 * middle + 0.5 * rng.standard_normal(5)) * rng.uniform(0.1, 30)
    return make_study(root, rows, vectors, files=files), rows


def figures(study: Study) -> dict[tuple, float]:
    table = pq.read_table(study.files(*FIGURES)[0])
    check(table, "classification")
    return {(r["seed"], r["split"], r["metric"], r["average"]): r["value"] for r in table.to_pylist()}


def predictions(study: Study) -> pa.Table:
    return check(pa.concat_tables(map(pq.read_table, study.files("predictions", "encoder=pixels32"))), "predictions")


def test_what_can_be_separated_is(tmp_path):
    study, _ = drawn(tmp_path / "s")
    run, now = probe(study, "pixels32", QUICK, say=lambda line: None)
    assert now
    found = figures(study)
    assert len(found) == 2 * 7
    assert set(found.values()) == {1.0}
    assert run["trained"]["0"]["val_accuracy"] == 1.0
    assert run["trained"]["0"]["epochs"] == run["trained"]["0"]["best_epoch"] + 5  # the patience
    assert run["images"] == {"train": 80, "val": 80, "test": 80}


def test_vectors_that_say_nothing_give_what_guessing_gives(tmp_path):
    study, _ = drawn(tmp_path / "s", n=3_000, separable=False)
    probe(study, "pixels32", QUICK, say=lambda line: None)
    found = figures(study)
    assert found[0, "test", "accuracy", "micro"] == pytest.approx(1 / 3, abs=0.06)
    assert found[0, "test", "roc_auc", "macro"] == pytest.approx(1 / 2, abs=0.06)


@pytest.mark.parametrize("several", [False, True])
def test_figures_are_those_of_scikit_learn_on_the_stored_predictions(tmp_path, several):
    """With images that were not embedded, and images without a label, which are predicted and not judged."""
    study, rows = drawn(tmp_path / "s", several=several, lost=0.15, separable=several)
    probe(study, "pixels32", QUICK, say=lambda line: None)
    labels = [f"XR/chest/{c}" for c in "ABC"]
    stored = {}
    for row in predictions(study).to_pylist():
        stored.setdefault(row["image_key"], {})[row["label"]] = row["score"]
    embedded = set(pq.read_table(study.files("embeddings", "encoder=pixels32"))["image_key"].to_pylist())
    asked = {image_key(r["image_id"]) for r in rows if r["split"] != "train"}
    assert set(stored) == embedded & asked
    assert all(sum(scores.values()) == pytest.approx(1) for scores in stored.values())
    for split in ("val", "test"):
        queries = [r for r in rows if r["split"] == split and r["labels"]]
        truths = np.array([[label in r["labels"] for label in labels] for r in queries], int)
        scores = np.array(
            [[stored.get(image_key(r["image_id"]), {}).get(label, 0) for label in labels] for r in queries]
        )
        guesses = (np.arange(3) == scores.argmax(axis=1)[:, None]) & scores.any(axis=1, keepdims=True)
        expected = by_scikit_learn(truths, scores, guesses.astype(int))
        ours = {name: value for (_, s, *name), value in figures(study).items() if s == split for name in [tuple(name)]}
        assert ours == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}
        row = duckdb.sql(
            f"SELECT DISTINCT n_queries, n_failed FROM '{study.files(*FIGURES)[0]}' WHERE split = '{split}'"
        ).fetchall()
        assert row == [(len(queries), sum(image_key(r["image_id"]) not in embedded for r in queries))]


def by_hand(x, y, vx, vy, labels, recipe, seed):
    """The same training in NumPy, float64: gradient of the cross entropy by its formula, AdamW as Loshchilov and Hutter write it."""
    weight, bias = (t.detach().numpy().astype(float) for t in first_weights(labels, x.shape[1], seed, "cpu"))
    parameters = [weight, bias]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    step, best, history = 0, (-1.0, 0, None), []
    for epoch in range(1, recipe.epochs + 1):
        order = np.random.default_rng([seed, epoch]).permutation(len(x))
        for start in range(0, len(x), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            scores = x[rows] @ parameters[0].T + parameters[1]
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            error = (chances / chances.sum(axis=1, keepdims=True) - y[rows]) / len(rows)
            step += 1
            for p, g, (m, v) in zip(parameters, [error.T @ x[rows], error.sum(axis=0)], moments, strict=True):
                p *= 1 - recipe.lr * recipe.weight_decay
                m += (1 - 0.9) * (g - m)
                v += (1 - 0.999) * (g * g - v)
                p -= recipe.lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        accuracy = float(np.mean((vy > 0)[np.arange(len(vx)), (vx @ parameters[0].T + parameters[1]).argmax(axis=1)]))
        history.append(accuracy)
        if accuracy > best[0]:
            best = (accuracy, epoch, [p.copy() for p in parameters])
        if epoch - best[1] >= recipe.patience:
            break
    return best, history


@pytest.mark.parametrize("several", [False, True])
def test_training_is_what_the_recipe_says(tmp_path, several):
    study, rows = drawn(tmp_path / "s", several=several, separable=several, seed=3, n=200, files=3)
    vectors = Vectors(study, "pixels32")
    recipe = Recipe(epochs=25, patience=6, batch_size=16, lr=0.02, weight_decay=0.1)
    labels = [f"XR/chest/{c}" for c in "ABC"]
    sides, arrays = [], []
    for split in ("train", "val"):
        chosen = sorted((image_key(r["image_id"]), r["labels"]) for r in rows if r["split"] == split and r["labels"])
        keys = np.array([key for key, _ in chosen])
        sides.append(
            Tensors(
                Examples(
                    vectors,
                    keys,
                    label_codes(pa.chunked_array([[names for _, names in chosen]]), labels),
                    most_bytes=2**20,
                ),
                "cpu",
            )
        )
        x = vectors.load(keys)[1].astype(float)
        truth = np.array([[label in names for label in labels] for _, names in chosen], float)
        arrays += [x / np.linalg.norm(x, axis=1, keepdims=True), truth / truth.sum(axis=1, keepdims=True)]
    heard = []
    trained = train(*sides, 3, recipe, seed=7, told=lambda epoch, accuracy: heard.append((epoch, accuracy)))
    (accuracy, epoch, (weight, bias)), history = by_hand(*arrays, 3, recipe, 7)
    assert (trained.epochs, trained.best_epoch, trained.accuracy) == (len(history), epoch, pytest.approx(accuracy))
    assert heard == [(i, pytest.approx(max(history[:i]))) for i in range(1, len(history) + 1)]
    np.testing.assert_allclose(trained.weight.numpy(), weight, atol=2e-4)
    np.testing.assert_allclose(trained.bias.numpy(), bias, atol=2e-4)


def test_labels_share_one_target():
    codes = torch.tensor([[0, -1, -1], [2, 0, -1], [0, 1, 2], [-1, 1, -1]])
    expected = [[1, 0, 0], [0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3], [0, 1, 0]]
    np.testing.assert_allclose(targets(codes, 3).numpy(), expected, rtol=1e-6)


def test_codes_of_labels_by_hand():
    lists = pa.chunked_array([[["b"], [], ["a", "c"]], [["x", "a"]]])
    assert label_codes(lists, ["a", "b", "c"]).tolist() == [[1, -1], [-1, -1], [0, 2], [-1, 0]]


def test_lengths_that_are_no_float32_are_normalised():
    vectors = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0], [-5, 0]], np.float32)
    np.testing.assert_allclose(unit_length(vectors), [[0.6, 0.8], [0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)


def test_what_does_not_fit_is_streamed_once_each_in_drawn_order(tmp_path):
    study, rows = drawn(tmp_path / "s", n=120, files=8)
    vectors = Vectors(study, "pixels32")
    keys = np.sort([image_key(r["image_id"]) for r in rows])
    examples = Examples(vectors, keys, np.zeros((120, 1), np.int64), most_bytes=17 * 4 * 5)
    assert not examples.fits
    _, loaded = vectors.load(keys)
    passes = []
    for seed in (0, 1, 0):
        seen = []
        for chunk in examples.chunks(np.random.default_rng(seed)):
            assert len(chunk.keys) <= 17
            np.testing.assert_array_equal(chunk.vectors, unit_length(loaded[np.searchsorted(keys, chunk.keys)]))
            seen += chunk.keys.tolist()
        assert sorted(seen) == keys.tolist()
        passes.append(seen)
    assert passes[0] == passes[2] != passes[1]


def test_a_streamed_probe_learns_as_well(tmp_path, monkeypatch):
    study, _ = drawn(tmp_path / "s", files=6)
    monkeypatch.setattr("cbmir.probe.TRAIN_BYTES", 20 * 4 * 5)
    monkeypatch.setattr("cbmir.probe.VAL_BYTES", 20 * 4 * 5)
    monkeypatch.setattr("cbmir.probe.ROWS_PER_FILE", 30)
    probe(study, "pixels32", QUICK, say=lambda line: None)
    assert set(figures(study).values()) == {1.0}
    assert predictions(study).num_rows == 160 * 3
    assert len(study.files("predictions", "encoder=pixels32")) > 3


def test_a_seed_gives_the_same_probe_and_another_another(tmp_path):
    """Whatever files the vectors lie in."""
    found = []
    for name, files, seeds in (("a", 1, (5,)), ("b", 4, (5, 6))):
        study, _ = drawn(tmp_path / name, separable=False, files=files)
        probe(study, "pixels32", ProbeOptions(epochs=3, seeds=seeds, device="cpu"), say=lambda line: None)
        found.append((predictions(study).sort_by([("image_key", "ascending"), ("label", "ascending")]), figures(study)))
    assert found[0][0].equals(found[1][0])
    of_5 = {name: value for name, value in found[1][1].items() if name[0] == 5}
    assert found[0][1] == of_5
    of_6 = {(5, *name[1:]): value for name, value in found[1][1].items() if name[0] == 6}
    assert of_6.keys() == of_5.keys()
    assert of_6 != of_5


def test_it_is_trained_again_only_for_a_reason(tmp_path):
    study, rows = drawn(tmp_path / "s")
    said = []
    first, _ = probe(study, "pixels32", QUICK, say=said.append)
    again, now = probe(study, "pixels32", QUICK, say=said.append)
    assert (again, now) == (first, False)
    assert said[-1].startswith("probe of pixels32: already trained, 3 labels; seed 0: val accuracy 1.0000 at epoch")
    with pytest.raises(UserError, match=r"was trained otherwise \(lr 0.05 there, 0.01 now\); --overwrite"):
        probe(study, "pixels32", replace(QUICK, lr=0.01), say=said.append)
    _, now = probe(study, "pixels32", ProbeOptions(lr=0.01, epochs=2, device="cpu", overwrite=True), say=said.append)
    assert now
    add_embeddings(study, [r["image_id"] for r in rows], {r["image_id"]: np.ones(4) for r in rows}, encoder="pixels32")
    run = study.run_of("embeddings", "encoder=pixels32")
    study.write_json(run | {"fingerprint": "another"}, "embeddings", "encoder=pixels32", "run.json")
    _, now = probe(study, "pixels32", ProbeOptions(lr=0.01, epochs=2, device="cpu"), say=said.append)
    assert now


def test_a_removal_names_the_command_that_makes_it_again(tmp_path):
    import shlex

    study, _ = drawn(tmp_path / "s")
    probe(study, "pixels32", ProbeOptions(epochs=2, seeds=(1, 0), device="cpu"), say=lambda line: None)
    (made,) = made_by(study)
    arguments = parse(shlex.split(made["command"])[1:])
    assert (arguments.seeds, arguments.epochs, arguments.encoder, arguments.val) == (
        (1, 0),
        2,
        ["pixels32"],
        "split = 'val'",
    )


def changed(root, change) -> Study:
    _, rows = drawn(root / "drawn")
    for row in rows:
        change(row)
    return make_study(root / "s", rows, {row["image_id"]: np.ones(5) for row in rows if "lost" not in row})


@pytest.mark.parametrize(
    "change, options, says",
    [
        (lambda r: r.update(split=r["split"].replace("val", "test")), {}, "the val is empty: split = 'val' selects none .* choose with --val"),
        (lambda r: r.update(labels=[] if r["split"] == "val" else r["labels"]), {}, "the val is empty: .* both a vector of pixels32 and a label"),
        (lambda r: r.update(labels=["XR/chest/A"]), {}, r"one label only \(XR/chest/A\); expected two or more"),
        (lambda r: None, {"val": "split <> 'test'"}, "--train and --val share 80 images; expected none"),
        (lambda r: None, {"test": "splt = 'test'"}, "no column 'splt' in the manifest; nearest: 'split'"),
        (lambda r: None, {"lr": 0.0}, "--lr 0.0; expected a number above 0"),
        (lambda r: None, {"epochs": 0}, "--epochs 0; expected 1 or more"),
        (lambda r: None, {"seeds": (-1,)}, "--seeds -1; expected whole numbers"),
        (lambda r: None, {"weight_decay": float("nan")}, "--weight-decay nan; expected a number from 0 on"),
        (lambda r: None, {"lr": 1e6, "weight_decay": 1e6, "batch_size": 8}, "training diverged: .* try a smaller --lr"),
    ],
)  # fmt: skip
def test_errors_are_one_line(tmp_path, change, options, says):
    study = changed(tmp_path, change)
    with pytest.raises(UserError, match=says) as error:
        probe(study, "pixels32", ProbeOptions(**{"device": "cpu", "epochs": 3} | options), say=lambda line: None)
    assert "\n" not in str(error.value)
    assert not study.exists(*FIGURES)
    assert not study.exists("predictions")


def test_an_encoder_without_embeddings_and_vectors_with_nan_are_refused(tmp_path):
    study, rows = drawn(tmp_path / "s")
    with pytest.raises(UserError, match="no embeddings of encoder 'biomedclip' in the study"):
        probe(study, "biomedclip", QUICK)
    broken = {r["image_id"]: np.full(5, np.nan if i == 30 else 1.0) for i, r in enumerate(rows)}
    add_embeddings(study, [r["image_id"] for r in rows], broken, encoder="pixels32")
    with pytest.raises(UserError, match="1 vectors with NaN or infinity"):
        probe(study, "pixels32", QUICK)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the probe trains on the processor here")
def test_a_gpu_learns_the_same(tmp_path):
    study, _ = drawn(tmp_path / "s")
    run, _ = probe(study, "pixels32", ProbeOptions(epochs=30, lr=0.05, device="cuda"), say=lambda line: None)
    assert run["device"] == "cuda"
    assert set(figures(study).values()) == {1.0}
