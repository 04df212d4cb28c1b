"""Stage: embeddings + labels -> a linear probe's predictions and figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.classifying.examples import Examples, label_codes
from cbmir.classifying.figures import classification_rows, figures_of_scores, judging, size
from cbmir.errors import UserError
from cbmir.progress import Progress
from cbmir.schemas import PREDICTIONS
from cbmir.select import attach_manifest, connect, keys_where, limit_memory, select_where
from cbmir.store import Publication, Study, changed_parameter, path_name, run_record
from cbmir.vectors import Vectors, find_encoder

if TYPE_CHECKING:
    from cbmir.classifying.linear import Trained

TRAIN_BYTES, VAL_BYTES = 2**32, 2**28  # of vectors held in memory; what is more is read again at every epoch
ROWS_PER_FILE = 1_000_000  # predictions
JUDGE_BYTES, JUDGE_BYTES_A_SCORE = 2**32, 150  # that DuckDB may take for the figures; beyond, it writes to disk
_ROLES = ("train", "val", "test")


@dataclass(frozen=True)
class ProbeOptions:
    """What decides a probe; all of it but `overwrite` stands in its run.json."""

    train: str = "split = 'train'"
    val: str = "split = 'val'"  # chooses the epoch
    test: str = "split = 'test'"
    seeds: tuple[int, ...] = (0,)  # of the first weights and of the order of images; predictions are those of the first
    epochs: int = 100
    patience: int = 20
    batch_size: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.01
    device: str = "auto"
    overwrite: bool = False

    def refuse_nonsense(self) -> None:
        """UserError for numbers outside what they can be."""
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}; expected 1 or more")
        if not 0 < self.lr <= 1e6:
            raise UserError(f"--lr {self.lr}; expected a number above 0, such as 0.001")
        if not 0 <= self.weight_decay <= 1e6:
            raise UserError(f"--weight-decay {self.weight_decay}; expected a number from 0 on, such as 0.01")
        if not self.seeds or min(self.seeds) < 0 or max(self.seeds) >= 2**31:
            raise UserError(f"--seeds {','.join(map(str, self.seeds))}; expected whole numbers from 0 to 2147483647")


def probe(
    study: Study, encoder: str, options: ProbeOptions, *, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], bool]:
    """Train, choose the epoch on val, predict val and test -> (run.json of classification/linear_probe E, whether it was trained now).

    Publishes the predictions of the first seed and the figures of every seed. A probe that was trained otherwise is refused unless `overwrite`; one
    that is older than the embeddings or the manifest is trained again.
    """
    from cbmir.searching.searchers import torch_device

    options.refuse_nonsense()
    encoder = find_encoder(study, encoder)
    vectors = Vectors(study, encoder)
    parameters = {"encoder": encoder, **asdict(options)}
    parameters = {name: value for name, value in parameters.items() if name not in ("overwrite", "device")} | {
        "seeds": list(options.seeds)
    }
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    draft = run_record("probe", parameters=parameters, inputs=inputs, rows=0)
    figures_at = ("classification", path_name(f"linear_probe {encoder}"))
    predictions_at = ("predictions", f"encoder={path_name(encoder)}")
    before = study.run_of(*figures_at)
    if before and not options.overwrite:
        there = study.run_of(*predictions_at) or {}
        if before["fingerprint"] == there.get("fingerprint") == draft["fingerprint"]:
            say(f"probe of {encoder}: already trained, {_told(before)}")
            return before, False
        changed = changed_parameter(before, draft)
        if changed:
            raise UserError(f"the probe of {encoder} was trained otherwise ({changed}); --overwrite to replace it")
    began, device = time.monotonic(), torch_device(options.device)
    roles = _roles(study, vectors, options)
    trained = _trained(roles, options, device)
    judges = {
        role: judging(study, encoder, gallery=options.train, queries=getattr(options, role)) for role in ("val", "test")
    }
    tables = []
    with study.publishing(*predictions_at) as out:
        rows = _Predictions(out, roles.names)
        for seed, layer in trained.items():
            first = seed == options.seeds[0]
            tables += [
                _judged(judges[role], roles, role, layer, rows if first else None, encoder, seed) for role in judges
            ]
        rows.flush()
        out.run = draft | {"rows": rows.written, "seed": options.seeds[0]}
    table = pa.concat_tables(tables)
    with study.publishing(*figures_at) as out:
        out.write_table(table, "classification.parquet", "classification")
        out.run = draft | {
            "rows": table.num_rows,
            "device": device,
            "labels": len(roles.names),
            "images": {role: len(getattr(roles, role).keys) for role in _ROLES},
            "trained": {
                str(s): {"epochs": t.epochs, "best_epoch": t.best_epoch, "val_accuracy": t.accuracy}
                for s, t in trained.items()
            },
            "seconds": round(time.monotonic() - began, 2),
        }
    say(f"probe of {encoder}: {_told(out.run)}; {out.run['seconds']:.1f} s")
    for row in table.to_pylist():
        if row["split"] == "test" and row["metric"] in ("accuracy", "roc_auc") and row["value"] is not None:
            say(
                f"  seed {row['seed']}, test: {row['metric']} ({row['average']}) {row['value']:.4f} of {row['n_queries']:,} images"
            )
    return out.run, True


@dataclass(frozen=True)
class _Roles:
    """Images of each role that have a vector; those of train and val have a label. `names`: the labels of train, ascending."""

    names: list[str]
    train: Examples
    val: Examples
    test: Examples
    val_all: Examples  # with those that have no label: they are predicted, too


def _roles(study: Study, vectors: Vectors, options: ProbeOptions) -> _Roles:
    """Resolve the predicates; refuses an empty role, images in two roles, and labels that leave nothing to learn."""
    connection = connect()
    attach_manifest(connection, study)
    found = {}
    for role in _ROLES:
        predicate = getattr(options, role)
        keys_where(study, predicate, role=role)  # refuses one that selects nothing
        table = select_where(connection, predicate, "image_key, labels", role=role)
        keys = vectors.keys(table["image_key"].to_numpy())
        found[role] = table.filter(pc.is_in(table["image_key"], pa.array(keys)))
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        both = len(np.intersect1d(found[one]["image_key"], found[other]["image_key"], assume_unique=True))
        if both:
            raise UserError(f"--{one} and --{other} share {both:,} images; expected none; correct the predicates")
    labelled = {
        role: table.filter(pc.greater(pc.list_value_length(table["labels"]), 0)) for role, table in found.items()
    }
    for role, table in labelled.items():
        if table.num_rows == 0:
            raise UserError(
                f"the {role} is empty: none of the images of {getattr(options, role)} has both a vector of {vectors.encoder} and a label; "
                f'choose others with --{role} "SQL predicate"'
            )
    names = sorted(pc.unique(pc.list_flatten(labelled["train"]["labels"])).to_pylist())
    if len(names) < 2:
        raise UserError(
            f"the images of {options.train} have one label only ({names[0]}); expected two or more to tell apart"
        )
    made = {
        name: Examples(vectors, table["image_key"].to_numpy(), label_codes(table["labels"], names), most_bytes=most)
        for name, table, most in (
            ("train", labelled["train"], TRAIN_BYTES),
            ("val", labelled["val"], VAL_BYTES),
            ("val_all", found["val"], VAL_BYTES),
            ("test", found["test"], VAL_BYTES),
        )
    }
    return _Roles(names, **made)


def _trained(roles: _Roles, options: ProbeOptions, device: str) -> dict[int, Trained]:
    """seed -> the probe that it gives."""
    from cbmir.classifying.linear import Recipe, Tensors, train

    recipe = Recipe(options.epochs, options.patience, options.batch_size, options.lr, options.weight_decay)
    training, validation = Tensors(roles.train, device), Tensors(roles.val, device)
    trained = {}
    with Progress("probe", recipe.epochs * len(options.seeds), unit="epochs") as progress:
        for n, seed in enumerate(options.seeds):

            def told(epoch: int, accuracy: float, before: int = n * recipe.epochs, seed: int = seed) -> None:
                progress.update(before + epoch, note=f"seed {seed}, best val accuracy {accuracy:.4f}")

            trained[seed] = train(training, validation, len(roles.names), recipe, seed=seed, told=told)
    return trained


def _judged(
    judge: duckdb.DuckDBPyConnection,
    roles: _Roles,
    role: str,
    layer: Trained,
    rows: _Predictions | None,
    encoder: str,
    seed: int,
) -> pa.Table:
    """Predict one role, into `rows` if given -> its figures."""
    examples = roles.val_all if role == "val" else roles.test
    limit_memory(judge, max(JUDGE_BYTES, JUDGE_BYTES_A_SCORE * len(examples.keys) * len(roles.names)))
    judge.execute("CREATE OR REPLACE TEMP TABLE scores (query_key BIGINT, code INTEGER, score FLOAT, turn INTEGER)")
    codes = dict(judge.execute("SELECT label, code FROM labels").fetchall())
    known = np.array([codes[name] for name in roles.names], np.int32)
    for keys, vectors, _ in examples.chunks():
        for start in range(0, len(keys), max(1, ROWS_PER_FILE // len(known))):
            block = slice(start, start + max(1, ROWS_PER_FILE // len(known)))
            scores = layer.probabilities(vectors[block])
            flat = {
                "query_key": np.repeat(keys[block], len(known)),
                "code": np.tile(known, len(scores)),
                "score": scores.ravel(),
            }
            judge.register("block", pa.table(flat))
            judge.execute(
                "INSERT INTO scores SELECT query_key, code, score, 0 FROM block SEMI JOIN judged USING (query_key)"
            )
            if rows is not None:
                rows.add(keys[block], scores)
    figures = figures_of_scores(judge, k=0)
    constant = {
        "encoder": encoder,
        "index": "",
        "classifier": "linear_probe",
        "split": role,
        "k": None,
        "seed": seed,
        "chosen": True,
    }
    return classification_rows(figures, **constant, **size(judge))


class _Predictions:
    """Probabilities (m, labels) of images into files of about ROWS_PER_FILE rows."""

    def __init__(self, out: Publication, names: list[str]) -> None:
        self.out = out
        self.names = pa.array(names, pa.string())
        self.written = 0
        self._parts = 0
        self._held: list[pa.Table] = []

    def add(self, keys: np.ndarray, scores: np.ndarray) -> None:
        labels = self.names.take(pa.array(np.tile(np.arange(len(self.names)), len(keys))))
        columns = [pa.array(np.repeat(keys, len(self.names))), labels, pa.array(scores.ravel())]
        self._held.append(pa.table(columns, schema=PREDICTIONS))
        if sum(table.num_rows for table in self._held) >= ROWS_PER_FILE:
            self.flush()

    def flush(self) -> None:
        if self._held:
            table = pa.concat_tables(self._held)
            self.out.write_table(table, f"part-{self._parts:05d}.parquet", "predictions")
            self.written, self._parts, self._held = self.written + table.num_rows, self._parts + 1, []


def _told(run: dict[str, Any]) -> str:
    """'161 labels; seed 0: val accuracy 0.5510 at epoch 12 of 32'."""
    seeds = [
        f"seed {s}: val accuracy {t['val_accuracy']:.4f} at epoch {t['best_epoch']} of {t['epochs']}"
        for s, t in run["trained"].items()
    ]
    return "; ".join([f"{run['labels']:,} labels", *seeds])
