"""What the cluster's GPUs are."""

from __future__ import annotations

import ray

from cbmir.cluster import resources


def gpu_memory() -> int:
    """Bytes of the cluster's smallest GPU; asks a task on each, which takes seconds."""
    count = max(1, int(resources()["GPU"]))
    ask = ray.remote(num_gpus=1, num_cpus=0, max_retries=2)(_memory)
    return min(ray.get([ask.remote() for _ in range(count)]))


def _memory() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)
