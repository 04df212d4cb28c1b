"""The Ray Data pipeline of an embedding run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from cbmir.cluster import file_source, resources
from cbmir.embedding.actor import EncodeBlocks
from cbmir.embedding.addresses import write_addresses
from cbmir.embedding.decode import decode_block
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.plan import Plan
from cbmir.embedding.sink import EmbeddingSink
from cbmir.errors import UserError
from cbmir.progress import Progress
from cbmir.store import Study

BLOCK_BYTES = 32 << 20  # pixels in one block between decode and encode
BLOCK_ROWS = {"cpu": 64, "cuda": 256}  # images in one, where no batch size is asked for


def stream(study: Study, plans: list[Plan], options: EmbedOptions, *, attempt: str, device: str) -> int:
    """Embed what is missing -> how many rows that was."""
    geometries = list(dict.fromkeys(plan.spec.geometry for plan in plans))
    row_bytes = sum(g.size * g.size * g.channels for g in geometries)
    block_rows = max(1, min(options.batch_size or BLOCK_ROWS[device], BLOCK_BYTES // row_bytes))
    addresses = write_addresses(study, [plan.spec.name for plan in plans], attempt, least_rows=block_rows)
    if addresses.rows == 0:
        return 0
    shape = pool_shape(resources(), device, weight_bytes=sum(plan.weight_bytes for plan in plans))
    counter = _Counter.make()
    sink = EmbeddingSink(
        study.address if not study.is_local else study.root,
        [plan.spec.name for plan in plans],
        attempt=attempt,
        dtype=options.dtype,
        rows_per_file=max(block_rows, min(4096, addresses.rows // 32)),
    )
    constructor = {
        "specs": [plan.spec for plan in plans],
        "geometries": geometries,
        "device": device,
        "precisions": [plan.precision for plan in plans],
        "threads": shape.threads,
        "batch_size": options.batch_size,
        "compiled": options.compiled,
        "reach": options.reach,
        "counter": counter,
    }
    with _block_size(block_rows * row_bytes):
        dataset = (
            ray.data.read_datasource(
                file_source(addresses.files, study.fs),
                override_num_blocks=len(addresses.files),
                num_cpus=shape.task_cpus,
            )
            .map_batches(
                decode_block,
                fn_kwargs={"geometries": geometries, "whole": options.whole_decode},
                batch_size=block_rows,
                batch_format="pyarrow",
                num_cpus=shape.task_cpus,
            )
            .map_batches(
                EncodeBlocks,
                fn_constructor_kwargs=constructor,
                batch_size=block_rows,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(shape.actors, len(addresses.files))),
                num_cpus=shape.actor_cpus,
                num_gpus=1 if device == "cuda" else None,
            )
        )
        with Progress("embed", addresses.rows) as progress, _watching(counter, progress):
            try:
                dataset.write_datasink(sink, ray_remote_args={"num_cpus": shape.task_cpus})
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise UserError(str(error.cause)) from error
                raise
    return addresses.rows


@contextlib.contextmanager
def _block_size(target: int) -> Iterator[None]:
    """Ray Data blocks of about `target` bytes: its default of 128 MiB would hold back the first results for minutes."""
    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = max(target, 1 << 20)
    try:
        yield
    finally:
        context.target_max_block_size = before


@dataclass(frozen=True)
class PoolShape:
    """How a cluster is shared between decoding and encoding."""

    actors: int
    threads: int  # torch threads of an actor
    actor_cpus: float
    task_cpus: float


def pool_shape(found: dict[str, float], device: str, *, weight_bytes: int) -> PoolShape:
    """Cores and GPUs -> actors and their shares.

    GPU: one actor a GPU. CPU: one single-threaded actor a core up to 8 cores, then 4 threads each, as far as half of the
    memory holds the weights; actors ask Ray for half of the cores they can use and decode tasks for half a core, so
    that neither can take all cores and starve the other (a job whose actors hold every core never reads a row).
    """
    cores = max(1, int(found["CPU"]))
    if device == "cuda":
        return PoolShape(actors=max(1, int(found["GPU"])), threads=1, actor_cpus=min(1.0, cores / 4), task_cpus=0.5)
    threads = 1 if cores <= 8 else 4
    actors = max(1, cores // threads)
    if weight_bytes and found["memory"]:
        actors = max(1, min(actors, int(found["memory"] / 2 / (3 * weight_bytes))))
        threads = max(threads, cores // actors)
    return PoolShape(actors=actors, threads=threads, actor_cpus=round(0.49 * cores / actors, 2), task_cpus=0.5)


class _Counter:
    """Rows that have passed the encoders, counted in an actor that the driver asks."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0

    def add(self, rows: int, failed: int) -> None:
        self.done += rows
        self.failed += failed

    def read(self) -> tuple[int, int]:
        return self.done, self.failed

    @classmethod
    def make(cls):
        return ray.remote(num_cpus=0, max_restarts=-1)(cls).remote()


class _watching:
    """A thread that shows the counter while the block runs."""

    def __init__(self, counter, progress: Progress) -> None:
        self.counter, self.progress = counter, progress
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stop.wait(0.5):
            try:
                done, failed = ray.get(self.counter.read.remote(), timeout=5)
            except ray.exceptions.RayError:
                continue  # progress is for people: the run itself says what is wrong
            self.progress.update(done, failed)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *exception) -> None:
        self.stop.set()
        self.thread.join()
