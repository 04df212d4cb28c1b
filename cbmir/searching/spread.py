"""A search by one process, or by several Ray tasks that share the gallery or the queries.

Exact search is shared by the gallery: each task finds the nearest in its part of the files, and the parts' results are merged. An index is opened whole
by each task, and it is the blocks of queries that are shared. Either way the result is that of one process: exact distances are computed pair by
pair and ordered by (distance, key), so that it does not matter where the gallery is cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from cbmir.searching.exact import NO_KEY
from cbmir.searching.searchers import Found
from cbmir.searching.threads import use_threads

Block = tuple[np.ndarray, np.ndarray]  # query keys (n,), queries (n, dim)
Answer = tuple[np.ndarray, Found]  # query keys, their neighbors
AHEAD = 2  # blocks a task that are on their way at once


class Searcher(Protocol):
    rows: int  # queries of a block

    def block(self, keys: np.ndarray, queries: np.ndarray) -> Found:
        """Neighbors of queries (n, dim)."""


Make = Callable[[int], Searcher]  # number of the task -> its searcher, made where it works


def in_turn(searcher: Searcher, blocks: Iterator[Block]) -> Iterator[Answer]:
    """Block after block in this process."""
    for keys, queries in blocks:
        yield keys, searcher.block(keys, queries)


def spread(
    make: Make, blocks: Iterator[Block], *, tasks: int, cut_gallery: bool, k: int, on_gpu: bool, ray_address: str | None
) -> Iterator[Answer]:
    """By `tasks` Ray actors, each with its share of the cores, or with a GPU; one that dies is made again and asked again."""
    import ray

    from cbmir.cluster import ray_session

    with ray_session(ray_address):
        cores = ray.cluster_resources().get("CPU", 1)
        each = {"num_cpus": min(1.0, cores / tasks), "num_gpus": 1} if on_gpu else {"num_cpus": cores / tasks}
        if each["num_cpus"] > 1:
            each["num_cpus"] = int(each["num_cpus"])  # Ray takes fractions below one only
        threads = max(1, int(cores // tasks))
        worker = ray.remote(max_restarts=3, max_task_retries=3, **each)(_Worker)
        shared = ray.put(make)
        workers = [worker.remote(shared, number, threads) for number in range(tasks)]
        merge = ray.remote(num_cpus=0)(merged)
        under_way: deque = deque()
        for number, (keys, queries) in enumerate(blocks):
            block = ray.put((keys, queries))
            if cut_gallery:
                parts = [worker.block.remote(block) for worker in workers]
                answer = merge.remote(k, *parts) if tasks > 1 else parts[0]
            else:
                answer = workers[number % tasks].block.remote(block)
            under_way.append((keys, answer))
            if len(under_way) >= (AHEAD if cut_gallery else AHEAD * tasks):
                keys, answer = under_way.popleft()
                yield keys, ray.get(answer)
        while under_way:
            keys, answer = under_way.popleft()
            yield keys, ray.get(answer)


class _Worker:
    def __init__(self, make: Make, number: int, threads: int) -> None:
        use_threads(threads)
        self.searcher = make(number)

    def block(self, block: Block) -> Found:
        return self.searcher.block(*block)


def merged(k: int, *parts: Found) -> Found:
    """Results (n, <= k) of the same queries in several parts of a gallery -> the k nearest of all, by (distance, key)."""
    keys = np.concatenate([part[0] for part in parts], axis=1)
    distances = np.concatenate([part[1] for part in parts], axis=1)
    order = np.lexsort((keys, distances))[:, :k]
    keys = np.take_along_axis(keys, order, axis=1)
    return keys, np.take_along_axis(distances, order, axis=1), (keys != NO_KEY).sum(axis=1)
