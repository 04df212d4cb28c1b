"""Stage: manifest -> embeddings and failures, on Ray Data, one pass for all encoders.

    addresses -> decode (CPU tasks, uint8 out) -> encode (actor pool, float32 out) -> one file an encoder and block

What is written is the checkpoint: a run starts from the manifest minus what is there.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import replace
from typing import Any

from cbmir.cluster import ray_session, resources, timeline
from cbmir.embedding.account import Account, account, embedded_digest, orphans_line, remove_doubles
from cbmir.embedding.addresses import staging, sweep, sweep_debris, write_addresses
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.packing import Group, Packing, pack
from cbmir.embedding.plan import Plan, begun_with, is_done, make_plans, prepare, resolve_all
from cbmir.embedding.source import source_of
from cbmir.embedding.tally import in_words, summary
from cbmir.encoders.build import best_precision, refuse_precision
from cbmir.encoders.fetch import fetch
from cbmir.errors import UserError, refuse_many_failures
from cbmir.select import embedded_by
from cbmir.store import Study, run_record

FITS_ANY_GPU = 4 << 30  # bytes of weights that leave room for activations on GPUs of 8 GiB and more


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
    source = source_of(study, specs, options)
    for spec in specs:  # before Ray starts
        fetch(spec, options.reach)
    with contextlib.ExitStack() as stack:
        plans = _with_precision(study, make_plans(specs, options, source), options, stack)
        for plan in plans:
            prepare(study, plan, options)
        todo = [plan for plan in plans if not is_done(study, plan, manifest)]
        if todo:
            device = _device(options, stack)
            for plan in todo:
                refuse_precision(plan.precision, device)
            _run(study, todo, manifest, options, device=device, say=say)
    accounts = [account(study, plan.spec.name) for plan in plans]
    for result in accounts:
        say(result.line())
        if line := orphans_line(study, result.encoder, embedded_by(result.encoder)):
            say(line)
    for result in accounts:
        refuse_many_failures(result.encoder, result.failed, result.total, options.max_failures, see="failures")
    return accounts


def _with_precision(study: Study, plans: list[Plan], options: EmbedOptions, stack: contextlib.ExitStack) -> list[Plan]:
    """Each plan's precision: as asked, else as the study's vectors were begun, else as the device does best.

    Only the last asks Ray (and float16 does, which not every device takes), so a finished study answers without starting it.
    """
    chosen = []
    for plan in plans:
        precision = options.precision
        if not plan.spec.needs_weights:
            precision = "float32"
        elif precision == "auto":
            begun = None if options.overwrite else begun_with(study, plan)
            precision = begun or best_precision(_device(options, stack), convolutional=plan.convolutional)
        elif precision == "float16":
            refuse_precision(precision, _device(options, stack))
        chosen.append(replace(plan, precision=precision))
    return chosen


def _device(options: EmbedOptions, stack: contextlib.ExitStack) -> str:
    """'cpu' or 'cuda', as asked or as the cluster has it; starts Ray for the length of `stack`."""
    stack.enter_context(ray_session(options.ray_address))
    gpus = resources()["GPU"]
    if options.device == "cuda" and gpus < 1:
        raise UserError("--device cuda: Ray sees no GPU; expected at least one; use --device cpu, or see cbmir doctor")
    return options.device if options.device != "auto" else "cuda" if gpus >= 1 else "cpu"


def _run(study: Study, plans: list[Plan], manifest: dict, options: EmbedOptions, *, device: str, say) -> None:
    """Embed what is missing, then account for every row and write run.json."""
    attempt = uuid.uuid4().hex
    for plan in plans:
        study.delete("embeddings", plan.directory, "run.json")
        sweep_debris(study, embedded_by(plan.spec.name))
        started = plan.started(attempt=attempt, dtype=options.dtype)
        study.write_json(started, "embeddings", plan.directory, "started.json")
    sweep(study)
    packing = _pack(plans, device)
    for number, groups in enumerate(packing.rounds):
        title = "embed" if len(packing.rounds) == 1 else f"embed ({number + 1} of {len(packing.rounds)})"
        _round(study, plans, groups, packing, manifest, options, attempt=attempt, device=device, title=title, say=say)
    if options.profile:
        timeline(options.profile)
        say(f"timeline of the workers: {options.profile}")


def _pack(plans: list[Plan], device: str) -> Packing:
    """Which encoders share a device; GPUs are asked for their memory where the weights may be too many for one."""
    from cbmir.embedding.devices import gpu_memory

    weights = sum(plan.weight_bytes for plan in plans)
    memory = gpu_memory() if device == "cuda" and weights > FITS_ANY_GPU else None
    return pack([plan.need for plan in plans], resources(), device, device_memory=memory)


def _round(
    study: Study,
    plans: list[Plan],
    groups: tuple[Group, ...],
    packing: Packing,
    manifest: dict,
    options: EmbedOptions,
    *,
    attempt: str,
    device: str,
    title: str,
    say,
) -> None:
    """Embed what is missing for the encoders of `groups`, and account for every row."""
    from cbmir.embedding.pipeline import shape_of, stream  # imports Ray

    began = time.time()
    shape = shape_of(plans, groups, packing, options, device)
    names = [plan.spec.name for plan in shape.plans]
    try:
        addresses = write_addresses(study, names, attempt, least_rows=shape.block_rows, packed=options.packed)
        attempted: dict[str, Any] = {"images": 0}
        if addresses.rows:
            told, crew = stream(study, shape, options, addresses, attempt=attempt, title=title)
            attempted = summary(told, names, crew, began=began, ended=time.time())
            for line in in_words(attempted):
                say(f"{title}: {line}")
    finally:
        study.delete(*staging(attempt))
    for plan in shape.plans:
        _finish(study, plan, manifest, options, attempted)


def _finish(study: Study, plan: Plan, manifest: dict, options: EmbedOptions, attempted: dict[str, Any]) -> None:
    """Conservation, then run.json: every row of the manifest is an embedding or a failure, once."""
    doubles = remove_doubles(study, embedded_by(plan.spec.name))
    result = account(study, plan.spec.name)
    if result.missing and plan.source.packed:
        raise UserError(f"{result.line()}: packed images could not be read; run the same command again")
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
        decode=plan.source.decode,
        packed=plan.source.packed,
        random_weights=plan.spec.random_seed,
        weights_sha256=plan.weights_sha256,
        weights=plan.weights,
        spec=plan.spec.as_dict(),
        last_attempt=attempted | {"batch_size": options.batch_size, "doubles_removed": doubles},
    )
    study.write_json(record, "embeddings", plan.directory, "run.json")
