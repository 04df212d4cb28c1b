"""Encoder.encode against the same model called in the plainest loop, for every row of the table, with untrained weights.

The plain loop runs in float32, batches of 32 (fewer where images/pass are fewer) and torch's default memory format; ours in what
`--precision auto` is. Both take the same pixels, which are decoded beforehand, in turn, on all cores or on the GPU. Rows that differ
only in their weights are measured once. On a GPU the bare forward pass is measured too, and what share of it `cbmir embed` reaches.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import torch

from cbmir.cluster import ray_session
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.spec_file import rows
from cbmir.encoders.table import resolve
from cbmir.store import Study, path_name
from tests.bench.collection import draw, plain_files, study_of
from tests.bench.one_encoder import Figures, Task

LEAST_COSINE = 0.999
SECONDS = {"cpu": 10.0, "cuda": 4.0}  # of an encoder's measured passes
COPIES = 2.5  # of the float32 weights that are in memory at the same time: theirs, ours, and ours in bfloat16
PIPELINE = ("resnet50", "vit-b16-in21k", "rad-dino", "uni")  # where no encoder is named
PIPELINE_SECONDS, PIPELINE_IMAGES = 20, (4_096, 60_000)


def run(
    scratch: Path, *, encoders: list[str] | None = None, device: str | None = None, bare: bool | None = None
) -> None:
    """bare: whether the bare forward pass and the pipeline's share of it are measured; None: on a GPU."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    bare = device == "cuda" if bare is None else bare
    root = draw(scratch)
    found: dict[str, Figures] = {}
    wrong: list[str] = []
    print(table_head(device, bare), flush=True)
    for alike in groups(spec for spec in drawn(encoders or rows()) if spec.needs_weights):
        spec, label = alike[0], ", ".join(map(plain_name, alike))
        if too_large(spec):
            print(f"| {label} | skipped: less memory is free than {COPIES} x its weights |", flush=True)
            continue
        try:
            figures = in_a_process(Task(spec.asked, device, str(root), SECONDS[device], bare))
        except RuntimeError as error:
            wrong.append(str(error))
            continue
        print(table_row(label, figures), flush=True)
        found |= {spec.name: figures for spec in alike}
        if not figures.cosine >= LEAST_COSINE:
            wrong.append(f"{label}: least cosine {figures.cosine:.6f}; expected {LEAST_COSINE}")
    if bare:
        chosen = [spec for spec in drawn(encoders or PIPELINE) if spec.name in found]
        pipeline_share(found, chosen, plain_files(root), scratch, device=device)
    if wrong:
        raise SystemExit("\n".join(wrong))


def drawn(encoders: Iterable[str]) -> list[EncoderSpec]:
    """Specs of encoders whose weights are drawn."""
    return [resolve(name, random_seed=0) for name in encoders]


def plain_name(spec: EncoderSpec) -> str:
    return spec.name.removesuffix("~random0")


def groups(specs: Iterable[EncoderSpec]) -> list[list[EncoderSpec]]:
    """Specs by what is computed: those of a list differ in their weights and preprocessing alone."""
    found: dict[tuple, list[EncoderSpec]] = {}
    for spec in specs:
        computed = (spec.source, spec.model, str(sorted(spec.options.items())), spec.output, spec.dim, spec.unit)
        found.setdefault((*computed, spec.geometry.size, spec.geometry.channels), []).append(spec)
    return list(found.values())


def too_large(spec: EncoderSpec) -> bool:
    """Whether this machine has not the memory now."""
    available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return 4 * (spec.parameters or 0) * COPIES > int(available.group(1)) * 1024


def in_a_process(task: Task) -> Figures:
    """Measure in a child; RuntimeError with its last words where it fails."""
    command = [sys.executable, "-m", "tests.bench.one_encoder", json.dumps(asdict(task))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = ended.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(f"{task.name}: its process ended with {ended.returncode}: {last}")
    return Figures(**json.loads(ended.stdout.strip().rpartition("\n")[2]))


def table_head(device: str, bare: bool) -> str:
    what = ["encoder", "px", "parameters", "images x passes", f"plain loop ({device})", "cbmir", "ratio", "precision"]
    what += ["least cosine"]
    if bare:
        what += ["bare forward, bfloat16", "bare forward, same precision", "cbmir's share of it"]
    return f"| {' | '.join(what)} |\n|{'---|' * len(what)}"


def table_row(name: str, figures: Figures) -> str:
    """Images a second; the share is that of the forward pass in the encoder's own precision."""
    cells = [name, f"{figures.size}", f"{figures.parameters / 1e6:,.0f} M", f"{figures.images} x {figures.passes}"]
    cells += [rate(figures.plain), rate(figures.ours), f"{figures.ratio:.2f}", figures.precision]
    cells += [f"{figures.cosine:.6f}"]
    if figures.bare:
        same = figures.bare[figures.precision]
        cells += [rate(figures.bare["bfloat16"]), rate(same), f"{figures.ours / same:.2f}"]
    return f"| {' | '.join(cells)} |"


def rate(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def pipeline_share(
    found: dict[str, Figures], specs: list[EncoderSpec], files: list[Path], scratch: Path, *, device: str
) -> None:
    """`cbmir embed` over a collection of files, beside the bare forward pass of the same encoder and precision."""
    print(
        f"\n| encoder | images | cbmir embed ({device}) | its share of the bare forward pass |\n|---|---|---|---|",
        flush=True,
    )
    with ray_session("local"):
        for spec in specs:
            bare = found[spec.name].bare[found[spec.name].precision]
            count = int(min(max(bare * PIPELINE_SECONDS, PIPELINE_IMAGES[0]), PIPELINE_IMAGES[1]))
            study = study_of(files, count, scratch / f"share-{path_name(spec.name)}")
            reached = pipeline(study, spec, device=device)
            print(f"| {plain_name(spec)} | {count:,} | {rate(reached)} | {reached / bare:.2f} |", flush=True)


def pipeline(study: Study, spec: EncoderSpec, *, device: str) -> float:
    """Images a second of `cbmir embed` from its first file to its last: Ray is up, its actors have loaded the weights."""
    embed(study, [spec.asked], EmbedOptions(device=device), say=lambda line: None)
    written = sorted(_written(study, spec.name))
    return sum(images for _, images in written[1:]) / (written[-1][0] - written[0][0])


def _written(study: Study, name: str) -> Iterator[tuple[float, int]]:
    """When each file of vectors was written, and how many it has."""
    for file in Path(study.root, "embeddings", f"encoder={path_name(name)}").glob("*.parquet"):
        yield file.stat().st_mtime, pq.ParquetFile(file).metadata.num_rows
