"""The tasks of a study side by side: as many as the cluster's cores, or GPUs, let in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cbmir.progress import Progress
from cbmir.sampled.cells import Cell, Sampled
from cbmir.sampled.exact import is_searched, search_samples
from cbmir.sampled.frame import frame
from cbmir.sampled.options import ScalingOptions
from cbmir.sampled.orders import sample_order
from cbmir.sampled.work import study_exact, study_index
from cbmir.search import EXACT
from cbmir.searching.nested import HELD
from cbmir.searching.searchers import torch_device
from cbmir.store import Study

_RETRIES = 3  # of a task whose process or machine is lost
_MEMORY = HELD + 2**30  # bytes that the nested search of one order takes


@dataclass(frozen=True)
class Task:
    """What is done together: one sample, searched in one way."""

    cells: list[Cell]
    drafts: list[dict[str, Any]]


@dataclass
class Part:
    """One encoder's part of a study."""

    encoder: str
    inputs: dict[str, str]
    gallery: np.ndarray  # (n,) ascending keys that have a vector
    queries: np.ndarray  # (q,) ascending keys that have a vector
    asked: tuple[int, ...]  # sizes
    tasks: list[Task] = field(default_factory=list)
    cells: int = 0  # done ones included


def run_tasks(study: Study, parts: Sequence[Part], options: ScalingOptions, progress: Progress) -> None:
    """Do all tasks; each has published its cells when it is done. The first that fails ends the run, and the others are cancelled."""
    import ray

    from cbmir.cluster import ray_session

    with ray_session(options.ray_address):
        under_way = _submitted(study, parts, options)
        try:
            while under_way:
                (done,), _ = ray.wait(list(under_way), num_returns=1)
                ray.get(done)
                progress.advance(under_way.pop(done))
        except BaseException:
            for task in under_way:
                ray.cancel(task, force=True)
            raise


def _submitted(study: Study, parts: Sequence[Part], options: ScalingOptions) -> dict[Any, int]:
    """Futures, with the cells that each makes."""
    import ray

    cores = ray.cluster_resources().get("CPU", 1)
    each = {"num_cpus": min(options.cpus_per_task, cores), "max_retries": _RETRIES}
    searching = each | {"memory": _most_memory()}
    if torch_device(options.device) == "cuda":
        searching |= {"num_gpus": 1}
    asked = ray.put(options)
    under_way: dict[Any, int] = {}
    for part in (part for part in parts if part.tasks):
        gallery, asking = ray.put(part.gallery), ray.put(part.queries)
        framed = ray.remote(frame).options(**each).remote(study.address, part.encoder, gallery, asked)
        for seed, mine in _by_seed(part.tasks):
            order = (
                ray.remote(sample_order)
                .options(**each)
                .remote(study.address, part.encoder, gallery, part.asked, seed, asked)
            )
            searched = None
            if not all(is_searched(study, task.cells[0], part.inputs, options) for task in mine):
                searched = (
                    ray.remote(search_samples)
                    .options(**searching)
                    .remote(study.address, order, asking, part.inputs, asked)
                )
            for task in mine:
                arguments = (study.address, task.cells, task.drafts, order, asking, framed, asked, searched)
                under_way[ray.remote(_studied).options(**each).remote(*arguments)] = len(task.cells)
    return under_way


def _by_seed(tasks: Sequence[Task]) -> Iterator[tuple[int, list[Task]]]:
    """Tasks of one seed together, the largest samples first: what takes longest is not left for the end."""
    for seed in sorted({task.cells[0].seed for task in tasks}):
        mine = [task for task in tasks if task.cells[0].seed == seed]
        yield seed, sorted(mine, key=lambda task: -task.cells[0].size)


def _most_memory() -> int:
    """Bytes that a search is counted for: what it takes, or half of the smallest machine's."""
    import ray

    there = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]]
    return int(min([_MEMORY, *(memory / 2 for memory in there if memory)]))


def _studied(
    address: str,
    cells: list[Cell],
    drafts: list[dict[str, Any]],
    sampled: Sampled,
    queries: np.ndarray,
    framed: Any,
    options: ScalingOptions,
    searched: None,
) -> None:
    """One task; `searched` is waited for, because exact neighbors are what an index is held against."""
    if cells[0].index == EXACT:
        study_exact(address, cells[0], drafts[0], sampled, queries, framed, options)
    else:
        study_index(address, cells, drafts, sampled, queries, framed, options)
