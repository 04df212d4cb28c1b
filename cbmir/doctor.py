"""What this machine has, what a study lacks, and what to do about each."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cbmir.encoders.build import best_precision
from cbmir.errors import UserError
from cbmir.schemas import ContractError
from cbmir.store import Study, path_name, versions

GIB = 2**30


def examine(study: Study | None) -> Iterator[str]:
    """Findings as lines: 'ok', 'note' or 'act' first, then what was found, then what to do."""
    yield from _packages()
    yield from _devices()
    yield from _memory()
    yield from _ray()
    yield from _caches()
    if study is not None:
        yield from _study(study)


def _packages() -> Iterator[str]:
    found = versions()
    yield "ok    " + ", ".join(f"{name} {version}" for name, version in found.items() if version)
    for name in [name for name, version in found.items() if version is None]:
        yield f"act   {name} is not installed; run: pip install cbmir"
    for module in ("torch", "torchvision", "timm", "open_clip"):
        try:
            importlib.import_module(module)
        except Exception as error:  # an import can fail in any way; all of them are findings
            first = " ".join(str(error).split())[:120]
            yield f"act   {module} cannot be imported ({first}); install torch and torchvision together, from one index"


def _devices() -> Iterator[str]:
    try:
        import torch
    except Exception:  # said above, with its reason
        return

    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield f"ok    GPU {i}: {properties.name}, {properties.total_memory / GIB:.0f} GiB"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"torch is built for CUDA {built}, but sees no device" if built else "torch is the CPU-only build"
        halves = best_precision("cpu", convolutional=False) == "bfloat16"
        kinds = "transformers in bfloat16, others in float32" if halves else "in float32"
        yield f"note  no GPU ({why}); encoders run on {os.cpu_count()} CPU cores, {kinds}"


def _memory() -> Iterator[str]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield f"{'ok  ' if total >= 8 else 'note'}  {os.cpu_count()} cores, {total:.1f} GiB memory" + (
        "" if total >= 8 else "; use a smaller --batch-size"
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / GIB
        if free < 2:
            yield f"act   /dev/shm has {free:.1f} GiB free; Ray's object store wants 2 or more; in a container: --shm-size=4g"
        else:
            yield f"ok    /dev/shm has {free:.1f} GiB free for Ray's object store"


def _ray() -> Iterator[str]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield "ok    Ray: starts on this machine when needed (RAY_ADDRESS is not set)"
        return
    from cbmir.cluster import ray_session, resources

    try:
        with ray_session(address):
            found = resources()
            yield f"ok    Ray at {address}: {found['CPU']:.0f} CPUs, {found['GPU']:.0f} GPUs"
    except UserError as error:
        yield f"act   {error}"


def _caches() -> Iterator[str]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = (
        sorted(p.name.removeprefix("models--").replace("--", "/") for p in cache.glob("models--*"))
        if cache.is_dir()
        else []
    )
    yield f"ok    Hugging Face cache: {len(models)} models" + (
        f" ({', '.join(models[:5])}{' ...' if len(models) > 5 else ''})" if models else ""
    )
    if constants.HF_HUB_OFFLINE:
        yield "note  HF_HUB_OFFLINE is set: weights come from the cache or --weights only"


def _study(study: Study) -> Iterator[str]:
    try:
        manifest = study.require("manifest")
    except ContractError as error:
        yield f"act   {error}"
        return
    yield _manifest(study, manifest)
    if study.is_local:
        free = shutil.disk_usage(study.root).free / GIB
        yield f"{'ok  ' if free > 5 else 'act '}  {free:.0f} GiB free at the study" + (
            "" if free > 5 else "; vectors take rows x dim x 4 bytes"
        )
        left = study.names(".staging")
        if left:
            yield f"note  {len(left)} unfinished writes of killed runs; the stage that made them removes them when it runs again"
    if study.exists("packed"):
        yield _packed(study)
    for encoder in study.names("embeddings"):
        yield from _encoder(study, encoder, manifest)
    for encoder in study.names("slices"):
        yield from _searched(study, encoder, "cbmir volumes search")
    yield from _results(study)


def _manifest(study: Study, run: dict) -> str:
    from cbmir.volumetric.place import STAGE, is_outdated, slices_of

    if run["stage"] != STAGE:
        return f"ok    manifest: {run['rows']:,} images from {run['parameters']['source']}"
    slices = slices_of(study).address
    if is_outdated(study):
        return f"act   the volumes are older than the manifest of their slices; make them again with: cbmir volumes --study {slices} --encoder NAME"
    return f"ok    manifest: {run['rows']:,} volumes of the slices in {slices}"


def _packed(study: Study) -> str:
    from cbmir.pack import account

    run = study.run_of("packed") or study.read_json("packed", "started.json") or {"parameters": {}}
    side = run["parameters"].get("short_side", 512)
    whole = " --whole-decode" if run["parameters"].get("whole") else ""
    again = f"cbmir pack --study {study.address} --short-side {side}{whole}"
    counted = account(study)
    if study.run_of("packed") is None or counted.missing:
        return f"act   pack: {counted.line()}; go on with: {again}"
    if counted.failed:
        return f"note  pack: {counted.line()}; try them again with: {again} --retry-failures"
    return f"ok    pack: {counted.line()}; short side {side}, {run['bytes'] / 1e6:,.1f} MB"


def _encoder(study: Study, encoder: str, manifest: dict) -> Iterator[str]:
    from cbmir.embedding.account import account, orphans_line
    from cbmir.origin import is_made_of_vectors, is_older
    from cbmir.select import embedded_by

    run = study.run_of("embeddings", f"encoder={path_name(encoder)}")
    counted = account(study, encoder)
    if run is None or counted.missing:
        yield f"act   {counted.line()}; go on with: {_again(study, encoder, run)}"
        return
    if is_older(study, run):
        yield f"act   {encoder} is older than the embeddings that it was made of; run: {_again(study, encoder, run)}"
        return
    if counted.failed and is_made_of_vectors(run):
        yield f"note  {counted.line()}: what they would be made of has no vectors"
    elif counted.failed:
        yield f"note  {counted.line()}; try them again with: {_embed_again(study, encoder)} --retry-failures"
    else:
        yield f"ok    {counted.line()}"
    if line := orphans_line(study, encoder, embedded_by(encoder)):
        yield f"note  {line}"
    yield from _searched(study, encoder, "cbmir search")


def _searched(study: Study, encoder: str, search: str) -> Iterator[str]:
    """Indexes and searches of an encoder's vectors, or of volumes by the slices that it embedded; `search` makes the latter again."""
    for dataset, command in (("index", "cbmir index"), ("neighbors", search)):
        for name in study.names(dataset, path_name(encoder)):
            made = study.run_of(dataset, path_name(encoder), path_name(name))
            if made is None:
                yield f"act   {dataset} {name} of {encoder} is unfinished; run again: {command}"
            elif _is_old(study, encoder, made):
                yield f"act   {dataset} {name} of {encoder} is older than what it was made from; run again: {command}"
            elif dataset == "index" and (wrong := _damage(study, encoder, name)):
                yield f"act   {wrong}"
            else:
                yield f"ok    {dataset} {name} of {encoder}: {made['rows']:,} rows"


def _damage(study: Study, encoder: str, name: str) -> str | None:
    from cbmir.index import damage

    return damage(study, encoder, name)


def _again(study: Study, encoder: str, run: dict | None) -> str:
    """The command that goes on with an encoder."""
    from cbmir.origin import is_made_of_vectors, make_again
    from cbmir.reducing.record import MARK, reduce_command_by_name

    if run and is_made_of_vectors(run):
        return make_again(study, run)
    return reduce_command_by_name(study, encoder) if MARK in encoder else _embed_again(study, encoder)


def _embed_again(study: Study, encoder: str) -> str:
    """The command that goes on with an encoder, from what its started.json says."""
    started = study.read_json("embeddings", f"encoder={path_name(encoder)}", "started.json") or {}
    spec = started.get("spec", {})
    name = spec.get("asked") or encoder
    weights = f" --weights {spec['weights']}" if spec.get("weights") else ""
    packed = " --packed" if started.get("packed") else ""
    return f"cbmir embed --study {study.address} --encoder {name}{weights}{packed}"


def _is_old(study: Study, encoder: str, made: dict) -> bool:
    from cbmir.fresh import outdated

    return outdated(study, encoder, made)


def _results(study: Study) -> Iterator[str]:
    metrics = study.run_of("metrics")
    if metrics is None:
        yield "act   no metrics yet; make them with: cbmir evaluate, after cbmir search"
        return
    now = {
        f"{encoder} {index}": (study.run_of("neighbors", path_name(encoder), path_name(index)) or {}).get("fingerprint")
        for encoder in study.names("neighbors")
        for index in study.names("neighbors", path_name(encoder))
    }
    if metrics["inputs"] != now:
        yield "act   metrics are older than the searches; run: cbmir evaluate"
    else:
        yield f"ok    metrics: {metrics['rows']:,} figures"
    if not study.exists("report", "report.html"):
        yield "note  no report yet; write it with: cbmir report"
