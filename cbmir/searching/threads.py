"""How many threads a search computes with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(threads: int) -> None:
    """So many threads for torch, until the process ends: of a worker that does nothing else."""
    torch.set_num_threads(threads)


@contextlib.contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """torch and the linear algebra of numpy with so many threads, for the length of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)
