"""The Ray Data pipeline of an embedding run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from cbmir.cluster import file_source, resources
from cbmir.embedding.actor import EncodeBlocks, Loads
from cbmir.embedding.addresses import Addresses
from cbmir.embedding.decode import DecodeOptions, decode_blocks
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.packing import Group, Packing
from cbmir.embedding.plan import Plan
from cbmir.embedding.sink import EmbeddingSink
from cbmir.embedding.tally import Counts, Crew, Tally
from cbmir.embedding.watch import Watch
from cbmir.images.geometry import Geometry
from cbmir.progress import Progress
from cbmir.store import Study

BLOCK_BYTES = 32 << 20  # pixels in one block between decode and encode
BLOCK_ROWS = {"cpu": 64, "cuda": 256}  # images in one, where no batch size is asked for
FILE_ROWS, FILE_BYTES = 4_096, 128 << 20  # of one write: images, and vectors of all encoders together
AHEAD = 2  # blocks that an actor has on its way beside the one that it computes


@dataclass(frozen=True)
class Shape:
    """What one round of a run looks like: which images go through which encoders in what portions."""

    plans: list[Plan]
    geometries: list[Geometry]
    groups: tuple[Group, ...]
    block_rows: int
    device: str
    task_cpus: float
    decoders: int

    @property
    def row_bytes(self) -> int:
        return sum(g.size * g.size * g.channels for g in self.geometries)

    @property
    def vector_bytes(self) -> int:
        """Of one image's vectors, on their way to be written."""
        return sum(4 * plan.dim for plan in self.plans)

    def file_rows(self, total: int) -> int:
        """Of `total` images, how many are written at once: some 32 checkpoints in a small run, files of some size in a large one."""
        return max(self.block_rows, min(FILE_ROWS, total // 32, FILE_BYTES // self.vector_bytes))

    def most_bytes(self, total: int) -> int:
        """Of pixels and vectors in Ray's object store: those being made, on their way, and behind the actors, whatever the collection's size.

        Vectors of a file's rows wait until they are together. Ray gives half of its limit to the stages in equal parts and lends them the rest:
        twice the file for each stage, or the stage before the writer could not hold one, and all would wait.
        """
        actors = sum(group.actors for group in self.groups)
        pixels = (2 * self.decoders + (2 * AHEAD + 2) * actors + 4) * max(self.block_rows * self.row_bytes, 1 << 20)
        return pixels + 2 * (len(self.groups) + 2) * self.file_rows(total) * self.vector_bytes


def shape_of(
    plans: list[Plan], groups: tuple[Group, ...], packing: Packing, options: EmbedOptions, device: str
) -> Shape:
    """One round: the encoders of `groups`, in blocks of whole batches that stay below BLOCK_BYTES."""
    chosen = [plans[i] for group in groups for i in group.encoders]
    geometries = list(dict.fromkeys(plan.spec.geometry for plan in chosen))
    row_bytes = sum(g.size * g.size * g.channels for g in geometries)
    rows = max(1, min(options.batch_size or BLOCK_ROWS[device], BLOCK_BYTES // row_bytes))
    decoders = options.decode_workers or packing.decoders(max(1, int(resources()["CPU"])), groups)
    first, renumbered = 0, []
    for group in groups:
        members = tuple(range(first, first + len(group.encoders)))
        renumbered.append(Group(members, group.actors, group.gpus, group.cpus, group.threads))
        first += len(members)
    return Shape(chosen, geometries, tuple(renumbered), rows, device, packing.task_cpus, decoders)


def stream(
    study: Study, shape: Shape, options: EmbedOptions, addresses: Addresses, *, attempt: str, title: str
) -> tuple[Counts, Crew]:
    """Embed the images of `addresses` -> what the workers told of it, and who they were."""
    tally = Tally.make()
    names = [plan.spec.name for plan in shape.plans]
    sink = EmbeddingSink(
        study.address if not study.is_local else study.root,
        names,
        attempt=attempt,
        dtype=options.dtype,
        rows_per_file=shape.file_rows(addresses.rows),
        tally=tally,
    )
    tasks = len(addresses.files)
    devices = sum(min(group.actors, tasks) for group in shape.groups)
    crew = Crew(devices, max(1, int(resources()["CPU"])), on_cores=shape.device == "cpu")
    with _limits(shape, addresses.rows):
        dataset = _decoded(study, shape, options, addresses, tally)
        for number in range(len(shape.groups)):
            dataset = _encoded(dataset, shape, number, options, tasks, tally)
        with Progress(title, addresses.rows) as progress, Watch(tally, progress, names, crew):
            dataset.write_datasink(sink, ray_remote_args={"num_cpus": shape.task_cpus})
    return ray.get(tally.read.remote()), crew


def _decoded(study: Study, shape: Shape, options: EmbedOptions, addresses: Addresses, tally):
    """Addresses -> pixels, each file of addresses in a task of its own."""
    where = study.root if study.is_local else study.address
    decode = DecodeOptions(
        shape.geometries,
        whole=options.whole_decode,
        color=options.color_resize,
        packed=where if options.packed else None,
    )
    # No batch size, and as many tasks as reading: otherwise Ray reads all addresses first, and they take the memory that is for pixels.
    tasks = ray.data.TaskPoolStrategy(size=shape.decoders if options.decode_workers else None)
    dataset = ray.data.read_datasource(
        file_source(addresses.files, study.fs),
        override_num_blocks=len(addresses.files),
        num_cpus=shape.task_cpus,
        compute=tasks,
    )
    return dataset.map_batches(
        decode_blocks,
        fn_kwargs={"rows": shape.block_rows, "options": decode, "tally": tally},
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=shape.task_cpus,
        compute=tasks,
    )


def _encoded(dataset, shape: Shape, number: int, options: EmbedOptions, tasks: int, tally):
    """Pixels -> vectors of one group of encoders."""
    group = shape.groups[number]
    later = [shape.plans[i].spec.geometry for g in shape.groups[number + 1 :] for i in g.encoders]
    loads = Loads(
        encoders={i: shape.plans[i].spec for i in group.encoders},
        precisions={i: shape.plans[i].precision for i in group.encoders},
        geometries=shape.geometries,
        needed_later=frozenset(shape.geometries.index(geometry) for geometry in later),
        device=shape.device,
        threads=group.threads,
        batch_size=options.batch_size,
        compiled=options.compiled,
        reach=options.reach,
    )
    on_gpu = shape.device == "cuda"
    return dataset.map_batches(
        EncodeBlocks,
        fn_constructor_kwargs={"loads": loads, "tally": tally},
        batch_size=shape.block_rows,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=min(group.actors, tasks),
            max_tasks_in_flight_per_actor=AHEAD + 1,
            enable_true_multi_threading=on_gpu,
        ),
        num_cpus=group.cpus,
        num_gpus=group.gpus or None,
        # two threads feed a GPU: one prepares pixels while it computes those of the other
        **({"max_concurrency": 2} if on_gpu else {}),
    )


@contextlib.contextmanager
def _limits(shape: Shape, total: int) -> Iterator[None]:
    """Ray Data within its portion: blocks of about one batch (its default of 128 MiB would hold back the first results for minutes),
    and no more of them at a time than keep everybody busy, so that decoding waits instead of spilling."""
    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size, context.execution_options.resource_limits
    context.target_max_block_size = max(shape.block_rows * shape.row_bytes, 1 << 20)
    context.execution_options.resource_limits = before[1].copy(object_store_memory=shape.most_bytes(total))
    try:
        yield
    finally:
        context.target_max_block_size, context.execution_options.resource_limits = before
