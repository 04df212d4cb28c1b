"""Stage: manifest -> embeddings and failures, on Ray Data, one pass for all encoders.

    addresses -> decode (CPU tasks, uint8 out) -> encode (actor pool, float32 out) -> one file an encoder and block

What is written is the checkpoint: a run starts from the manifest minus what is there.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import replace

from cbmir.cluster import ray_session, resources
from cbmir.embedding.account import Account, account, embedded_digest, remove_doubles
from cbmir.embedding.addresses import staging, sweep
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.plan import Plan, begun_with, is_done, make_plan, prepare, resolve_all
from cbmir.encoders.build import best_precision
from cbmir.encoders.fetch import fetch
from cbmir.errors import TooManyFailures, UserError
from cbmir.store import Study, run_record


def embed(study: Study, encoders: list[str], options: EmbedOptions, *, say=print) -> list[Account]:
    """Embed every image of the manifest that an encoder lacks; returns one Account an encoder.

    `say` takes the lines for people. Raises UserError for misuse before anything is written, and TooManyFailures
    after everything that could be embedded was written, if more than `max_failures` of the images failed.
    """
    options.refuse_nonsense()
    if not encoders:
        raise UserError("no encoder named; expected --encoder NAME; see cbmir encoders")
    manifest = study.require("manifest")
    specs = resolve_all(encoders, options)
    for spec in specs:  # before Ray starts
        fetch(spec, options.reach)
    with contextlib.ExitStack() as stack:
        plans = _with_precision(study, [make_plan(spec, options) for spec in specs], options, stack)
        for plan in plans:
            prepare(study, plan, options)
        todo = [plan for plan in plans if not is_done(study, plan, manifest)]
        if todo:
            _run(study, todo, manifest, options, device=_device(options, stack))
    accounts = [account(study, plan.spec.name) for plan in plans]
    for result in accounts:
        say(result.line())
    _refuse_many_failures(accounts, options.max_failures)
    return accounts


def _with_precision(study: Study, plans: list[Plan], options: EmbedOptions, stack: contextlib.ExitStack) -> list[Plan]:
    """Each plan's precision: as asked, else as the study's vectors were begun, else as the device does best.

    Only the last asks Ray, so a finished study answers without starting it.
    """
    chosen = []
    for plan in plans:
        precision = options.precision
        if not plan.spec.needs_weights:
            precision = "float32"
        elif precision == "auto":
            begun = None if options.overwrite else begun_with(study, plan)
            precision = begun or best_precision(_device(options, stack), convolutional=plan.convolutional)
        chosen.append(replace(plan, precision=precision))
    return chosen


def _device(options: EmbedOptions, stack: contextlib.ExitStack) -> str:
    """'cpu' or 'cuda', as asked or as the cluster has it; starts Ray for the length of `stack`."""
    stack.enter_context(ray_session(options.ray_address))
    gpus = resources()["GPU"]
    if options.device == "cuda" and gpus < 1:
        raise UserError("--device cuda: Ray sees no GPU; expected at least one; use --device cpu, or see cbmir doctor")
    return options.device if options.device != "auto" else "cuda" if gpus >= 1 else "cpu"


def _run(study: Study, plans: list[Plan], manifest: dict, options: EmbedOptions, *, device: str) -> None:
    """Embed what is missing, then account for every row and write run.json."""
    from cbmir.embedding.pipeline import stream  # imports Ray

    attempt = uuid.uuid4().hex
    began = time.monotonic()
    for plan in plans:
        study.delete("embeddings", plan.directory, "run.json")
        _sweep(study, plan)
        started = plan.started(attempt=attempt, dtype=options.dtype)
        study.write_json(started, "embeddings", plan.directory, "started.json")
    sweep(study)
    try:
        rows = stream(study, plans, options, attempt=attempt, device=device)
    finally:
        study.delete(*staging(attempt))
    for plan in plans:
        _finish(study, plan, manifest, options, rows=rows, seconds=time.monotonic() - began)


def _sweep(study: Study, plan: Plan) -> None:
    """Remove half-written files of killed runs."""
    for dataset in ("embeddings", "failures"):
        for path in study.files(dataset, plan.directory, suffix=""):
            if ".parquet.tmp-" in path or ".json.tmp-" in path:
                study.fs.delete_file(path)


def _finish(study: Study, plan: Plan, manifest: dict, options: EmbedOptions, *, rows: int, seconds: float) -> None:
    """Conservation, then run.json: every row of the manifest is an embedding or a failure, once."""
    doubles = remove_doubles(study, plan.spec.name)
    result = account(study, plan.spec.name)
    if result.missing:
        raise RuntimeError(f"{result.line()}: rows were lost on the way; run the same command again to embed them")
    record = run_record(
        "embed",
        parameters={"encoder": plan.fingerprint, "dtype": options.dtype},
        inputs={"manifest": manifest["fingerprint"], "embedded": embedded_digest(study, plan.spec.name)},
        rows=result.embedded,
        failed=result.failed,
        dim=plan.dim,
        dtype=options.dtype,
        precision=plan.precision,
        decode=plan.decode,
        random_weights=plan.spec.random_seed,
        weights_sha256=plan.weights_sha256,
        weights=plan.weights,
        spec=plan.spec.as_dict(),
        last_attempt={
            "rows": rows,
            "seconds": round(seconds, 2),
            "batch_size": options.batch_size,
            "doubles_removed": doubles,
        },
    )
    study.write_json(record, "embeddings", plan.directory, "run.json")


def _refuse_many_failures(accounts: list[Account], allowed: float) -> None:
    for result in accounts:
        share = result.failed / max(1, result.total)
        if share > allowed:
            raise TooManyFailures(
                f"{result.encoder}: {result.failed:,} of {result.total:,} images failed ({share:.1%}), more than --max-failures "
                f"{allowed:.1%}; what succeeded is kept; see: cbmir sql --study DIR "
                '"SELECT error, count(*) FROM failures GROUP BY 1"'
            )
