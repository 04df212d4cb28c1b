"""One encoder in a process of its own, so that its memory is given back: `python -m tests.bench.one_encoder TASK`, JSON in and out."""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cbmir.encoders.build import build
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.table import resolve
from cbmir.encoders.torch_encoder import PRECISIONS, TorchEncoder
from cbmir.images.geometry import apply
from cbmir.images.read import read_image
from tests.bench.collection import plain_files
from tests.parity.shake import shake

PLAIN_BATCH = 32
MOST_IMAGES = {"cpu": 32, "cuda": 1024}  # in one pass
LEAST_PASSES, MOST_PASSES = 3, 7
DIFFERENT = 64  # images; more are these over and over
BARE_BATCHES = (32, 128, 512)  # images of 224 pixels
BARE_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """What is measured: an encoder by its name, its weights drawn."""

    name: str
    device: str
    images: str  # root of a drawn collection
    seconds: float  # for the passes of both sides
    bare: bool = False  # whether the forward pass alone is measured too


@dataclass(frozen=True)
class Figures:
    """Rates are images a second. `images` of one pass, the same for both sides; `plain` and `ours` are medians of `passes`."""

    size: int
    parameters: int
    precision: str
    threads: int
    images: int
    passes: int
    plain: float
    ours: float
    ratio: float
    cosine: float
    bare: dict[str, float]  # by precision


def measure(task: Task) -> Figures:
    """The plain loop and `Encoder.encode` in turn, on the same pixels with the same threads."""
    spec = resolve(task.name, random_seed=0)
    plain = build(spec, device=task.device, precision="float32")
    shake(
        plain.module, 0
    )  # as libraries draw them, all images have nearly the same vector, or one that rounding decides
    encoder = build(spec, device=task.device, precision="auto")
    encoder.module.load_state_dict(plain.module.state_dict())  # in its own precision
    model = as_it_comes(plain)
    pixels = pixels_of(spec, Path(task.images), MOST_IMAGES[encoder.device.type])

    def both(count: int) -> tuple[float, float]:
        nonlocal theirs, mine
        began = time.perf_counter()
        theirs = plain_loop(model, encoder, pixels[:count])
        between = time.perf_counter()
        mine = encoder.encode(pixels[:count])
        return between - began, time.perf_counter() - between

    theirs = mine = np.empty(0)
    count = fitting(both, task.seconds, len(pixels))
    times = [both(count) for _ in range(LEAST_PASSES)]
    while len(times) < MOST_PASSES and np.sum(times) + np.sum(times[-1]) < task.seconds:
        times.append(both(count))
    return Figures(
        size=spec.geometry.size,
        parameters=encoder.parameters,
        precision=encoder.precision,
        threads=torch.get_num_threads(),
        images=count,
        passes=len(times),
        plain=count / statistics.median(plain for plain, _ in times),
        ours=count / statistics.median(ours for _, ours in times),
        ratio=statistics.median(plain / ours for plain, ours in times),
        cosine=least_cosine(theirs, mine),
        bare={kind: bare_forward(encoder, pixels, kind) for kind in ("bfloat16", encoder.precision)}
        if task.bare
        else {},
    )


def fitting(both: Callable[[int], tuple[float, float]], seconds: float, most: int) -> int:
    """How many images in a pass leave time for LEAST_PASSES of them; the passes that find it out are the warm-up."""
    count = 2
    while sum(both(count)) * 2 * LEAST_PASSES <= seconds and 2 * count <= most:
        count *= 2
    return count


def as_it_comes(encoder: TorchEncoder) -> torch.nn.Module:
    """The encoder's model as a library builds it, which is in torch's default memory format."""
    if encoder.memory_format == torch.contiguous_format:
        return encoder.module
    return copy.deepcopy(encoder.module).to(memory_format=torch.contiguous_format)


def plain_loop(model: torch.nn.Module, encoder: TorchEncoder, pixels: np.ndarray) -> np.ndarray:
    """What a person writes first: float32, batches of PLAIN_BATCH. (n, size, size, channels) uint8 -> (n, dim)."""
    out = []
    with torch.inference_mode():
        for start in range(0, len(pixels), PLAIN_BATCH):
            out.append(model(*inputs(encoder, pixels[start : start + PLAIN_BATCH])).cpu().numpy())
    return np.concatenate(out)


def inputs(encoder: TorchEncoder, pixels: np.ndarray) -> tuple[torch.Tensor, ...]:
    """What the model is called with: normalised (n, channels, size, size) float32 on the device, and its noise where it draws some."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (encoder.spec.mean, encoder.spec.std))
    # contiguous: a permuted view alone would already be channels_last
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    images = ((images - mean) / std).expand(-1, encoder.channels, -1, -1)  # a grey image, a network of three channels
    noise = (encoder.draws(pixels),) if encoder.draws else ()
    return tuple(tensor.to(encoder.device) for tensor in (images, *noise))


def bare_forward(encoder: TorchEncoder, pixels: np.ndarray, precision: str) -> float:
    """Images a second of the forward pass alone, inputs on the device beforehand: the best of BARE_BATCHES."""
    size = encoder.spec.geometry.size
    best = 0.0
    for batch in sorted({max(1, min(len(pixels), most * 224 * 224 // (size * size))) for most in BARE_BATCHES}):
        try:
            best = max(best, batch / seconds_a_pass(encoder, inputs(encoder, pixels[:batch]), PRECISIONS[precision]))
        except torch.OutOfMemoryError:
            if not best:
                raise
            break
    return best


def seconds_a_pass(encoder: TorchEncoder, tensors: tuple[torch.Tensor, ...], kind: torch.dtype | None) -> float:
    """Of as many forward passes as BARE_SECONDS have."""
    images, *noise = tensors
    images = images.contiguous(memory_format=encoder.memory_format)

    def passes(count: int) -> float:
        synchronize(encoder.device)
        began = time.perf_counter()
        for _ in range(count):
            encoder.module(images, *noise)
        synchronize(encoder.device)
        return time.perf_counter() - began

    with torch.inference_mode(), torch.autocast(encoder.device.type, kind, enabled=kind is not None):
        passes(2)  # memory is taken, kernels are chosen
        count = max(1, min(1000, round(BARE_SECONDS / passes(1))))
        return passes(count) / count


def synchronize(device: torch.device) -> None:
    """Wait for what was launched; a CPU has it done already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pixels_of(spec: EncoderSpec, root: Path, count: int) -> np.ndarray:
    """(count, size, size, channels) uint8 from the files of a drawn collection."""
    files = plain_files(root)[: min(count, DIFFERENT)]
    different = np.stack([apply(spec.geometry, read_image(str(file))) for file in files])
    return different[np.arange(count) % len(different)]


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of (n, dim) and (n, dim), row by row."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Task(**json.loads(sys.argv[1]))))))
