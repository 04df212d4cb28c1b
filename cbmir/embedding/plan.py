"""Which encoders a run has, and whether the study's vectors of each were made the same way."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cbmir.embedding.account import account
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.packing import Need
from cbmir.embedding.source import Source, in_words
from cbmir.encoders.build import build
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.store import Study, path_name


@dataclass(frozen=True)
class Plan:
    """One encoder of a run: its spec, and what identifies its vectors."""

    spec: EncoderSpec
    precision: str
    weights_sha256: str
    dim: int
    convolutional: bool
    weight_bytes: int
    weights: dict[str, Any] | None  # address, revision and SHA-256 of the file they came from
    source: Source  # of the pixels

    @property
    def need(self) -> Need:
        return Need(self.spec.name, self.weight_bytes, self.spec.geometry.size**2)

    @property
    def directory(self) -> str:
        return f"encoder={path_name(self.spec.name)}"

    @property
    def fingerprint(self) -> str:
        return self.spec.fingerprint(self.weights_sha256, self.precision, decode=self.source.decode)

    def started(self, *, attempt: str, dtype: str) -> dict:
        """started.json: what decides these vectors, written before the first of them."""
        return {
            "attempt": attempt,
            "fingerprint": self.fingerprint,
            "weights_sha256": self.weights_sha256,
            "weights": self.weights,
            "dtype": dtype,
            "precision": self.precision,
            "decode": self.source.decode,
            "packed": self.source.packed,
            "spec": self.spec.as_dict(),
        }


def resolve_all(encoders: list[str], options: EmbedOptions) -> list[EncoderSpec]:
    """Specs of the encoders named, each once; a lone --weights FILE goes to the only encoder that has weights."""
    specs = [resolve(name, image_size=options.image_size) for name in encoders]
    takers = [name for name, spec in zip(encoders, specs, strict=True) if spec.needs_weights and not spec.is_random]
    files = {name: _whole_address(file) for name, file in options.weights.items()}
    if "" in files:
        if len(takers) != 1:
            raise UserError(
                f"--weights FILE fits one encoder; {len(takers)} of those named take weights; give --weights NAME=FILE for each"
            )
        files[takers[0]] = files.pop("")
    unknown = [name for name in files if name not in encoders]
    if unknown:
        raise UserError(f"--weights {unknown[0]}=...: no such --encoder; found: {', '.join(encoders)}")
    specs = [
        resolve(name, image_size=options.image_size, weights=files.get(name), random_seed=options.random_weights)
        for name in encoders
    ]
    names = [spec.name for spec in specs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"encoder {twice.pop()} is named twice; expected each once")
    return specs


def _whole_address(file: str) -> str:
    """A path that means the same in every process; addresses as they are."""
    return file if "://" in file else os.path.abspath(os.path.expanduser(file))


def make_plans(specs: Sequence[EncoderSpec], options: EmbedOptions, source: Source) -> list[Plan]:
    """A plan of each; encoders that are one network are loaded once."""
    plans: list[Plan] = []
    for spec in specs:
        same = next((plan for plan in plans if plan.spec.built == spec.built), None)
        plans.append(replace(same, spec=spec) if same else make_plan(spec, options, source))
    return plans


def make_plan(spec: EncoderSpec, options: EmbedOptions, source: Source) -> Plan:
    """Load the encoder once on this machine: its weights are there, fit, and have a checksum, before Ray is busy."""
    encoder = build(spec, reach=options.reach)
    return Plan(
        spec,
        "float32",
        weights_sha256=encoder.weights_sha256,
        dim=encoder.dim,
        convolutional=encoder.is_convolutional,
        weight_bytes=encoder.weight_bytes,
        weights=encoder.weights.as_dict() if encoder.weights else None,
        source=source,
    )


def begun_with(study: Study, plan: Plan) -> str | None:
    """The precision in which the study's vectors of this encoder were begun, None where there are none."""
    started = study.read_json("embeddings", plan.directory, "started.json")
    return started["precision"] if started else None


def is_done(study: Study, plan: Plan, manifest: dict) -> bool:
    """Whether every row of this manifest has been accounted for."""
    run = study.run_of("embeddings", plan.directory)
    if run is None or run["inputs"]["manifest"] != manifest["fingerprint"]:
        return False
    return account(study, plan.spec.name).missing == 0


def prepare(study: Study, plan: Plan, options: EmbedOptions) -> None:
    """Refuse vectors made otherwise, or clear them away when told to."""
    if options.overwrite:
        study.delete("embeddings", plan.directory, "run.json")  # first: a kill in between leaves them unfinished
        study.delete("failures", plan.directory)
        study.delete("embeddings", plan.directory)
    started = study.read_json("embeddings", plan.directory, "started.json")
    if started is not None and "imported" in started:
        raise UserError(
            f"the vectors of {plan.spec.name} were imported from {', '.join(started['imported'])}; use another name (--encoder NAME=...), "
            "or --overwrite to embed in their place"
        )
    if started is not None:
        found = (started["fingerprint"], started["dtype"])
        if found != (plan.fingerprint, options.dtype):
            raise UserError(
                f"the study has embeddings of {plan.spec.name} made otherwise ({_difference(started, plan, options)}); "
                f"use another name (--encoder NAME=...), or --overwrite to start anew"
            )
    if options.retry_failures and study.exists("failures", plan.directory):
        study.delete("embeddings", plan.directory, "run.json")
        study.delete("failures", plan.directory)


def _difference(started: dict, plan: Plan, options: EmbedOptions) -> str:
    """Which of the things that decide a vector differ: 'weights 1234... there, 5678... now'."""
    if started["dtype"] != options.dtype:
        return f"stored as {started['dtype']} there, {options.dtype} now"
    if started["weights_sha256"] != plan.weights_sha256:
        return f"weights {started['weights_sha256'][:12]} there, {plan.weights_sha256[:12]} now"
    there, now = started["decode"], plan.source.decode
    if there != now:
        flag = "--packed" if "packed" in f"{there} {now}" else "--whole-decode"
        return f"of {in_words(there)} there, of {in_words(now)} now ({flag})"
    there, now = started["spec"], plan.spec.as_dict()
    changed = [
        key
        for key in ("geometry", "mean", "std", "options", "output", "model")
        if _as_json(there[key]) != _as_json(now[key])
    ]
    return f"other {' and '.join(changed)}" if changed else "another precision"


def _as_json(value):
    """Tuples as lists, as JSON gives them back."""
    return json.loads(json.dumps(value))
