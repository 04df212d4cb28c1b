"""Where a batch is computed: pixels on the host -> vectors on the host, and the seconds that forward passes took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import torch

Forward = Callable[[torch.Tensor], torch.Tensor]  # (n, size, size, channels) uint8 -> (n, dim) float32, on the device


def processor(device: torch.device) -> Cpu | Gpu:
    return Gpu(device) if device.type == "cuda" else Cpu()


class Cpu:
    """The processor that Python runs on."""

    def __init__(self) -> None:
        self.busy = 0.0  # seconds of forward passes

    def run(self, pixels: np.ndarray, forward: Forward) -> np.ndarray:
        """pixels: (n, size, size, channels) uint8 -> (n, dim) float32."""
        began = time.perf_counter()
        writable = pixels if pixels.flags.writeable else pixels.copy()  # Ray's shared memory is read-only
        vectors = forward(torch.from_numpy(writable)).numpy()
        self.busy += time.perf_counter() - began
        return vectors


class Gpu:
    """One GPU, which several threads feed: while it computes the batch of one, the pixels of the next are copied.

    Pixels go through pinned memory on a stream of their own; forward passes follow one another on the default stream, so that the
    events around each time it alone, and a thread waits for its own vectors only.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.busy = 0.0  # seconds of forward passes, by the GPU's own clock
        self._copies = torch.cuda.Stream(device)
        self._turn = threading.Lock()  # one thread at a time launches a forward pass

    def run(self, pixels: np.ndarray, forward: Forward) -> np.ndarray:
        """pixels: (n, size, size, channels) uint8 -> (n, dim) float32."""
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        pinned.numpy()[...] = pixels
        with torch.cuda.stream(self._copies):
            batch = pinned.to(self.device, non_blocking=True)
            arrived = self._copies.record_event()
        began, ended = (torch.cuda.Event(enable_timing=True, blocking=True) for _ in range(2))
        with self._turn:
            compute = torch.cuda.current_stream(self.device)
            compute.wait_event(arrived)
            batch.record_stream(compute)
            began.record(compute)
            vectors = forward(batch)
            ended.record(compute)
            out = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            out.copy_(vectors, non_blocking=True)
            here = compute.record_event(torch.cuda.Event(blocking=True))
        here.synchronize()
        with self._turn:
            self.busy += began.elapsed_time(ended) / 1000
        return out.numpy().copy()
