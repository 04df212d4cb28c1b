"""Weights ahead of a run, and whether an encoder works: `cbmir encoders fetch`, `cbmir encoders check`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cbmir.encoders.build import Encoder, build
from cbmir.encoders.fetch import Reach, fetch
from cbmir.encoders.table import LARGEST, resolve
from cbmir.errors import UserError
from cbmir.images.geometry import apply

SECONDS = 3.0  # how long the forward pass is timed


@dataclass(frozen=True)
class CheckOptions:
    """How an encoder is run on the test image; the flags of `cbmir encoders check`."""

    image_size: int | None = None
    weights: str | None = None
    random_weights: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    compiled: bool = False
    reach: Reach = field(default_factory=Reach)

    def refuse_nonsense(self) -> None:
        """UserError for values outside what they can be; before weights are fetched."""
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"--batch-size {self.batch_size}; expected 1 or more")
        if self.image_size is not None and not 8 <= self.image_size <= LARGEST:
            raise UserError(f"--image-size {self.image_size}; expected 8 to {LARGEST} pixels")


def fetch_all(names: list[str], reach: Reach) -> Iterator[str]:
    """Bring the weights of encoders here, a line each; UserError at the first that cannot be had."""
    for spec in [resolve(name) for name in names]:
        found = fetch(spec, reach)
        if found is None:
            yield f"{spec.name}: needs no weights"
        else:
            revision = f", revision {found.revision}" if found.revision else ""
            yield f"{spec.name}: {found.path}{revision}, SHA-256 {found.sha256()}"


def check_all(names: list[str], options: CheckOptions) -> Iterator[str]:
    """Load encoders one after the other and run them: several lines each."""
    options.refuse_nonsense()
    specs = [
        resolve(name, image_size=options.image_size, weights=options.weights, random_seed=options.random_weights)
        for name in names
    ]
    for spec in specs:
        began = time.perf_counter()
        device = _device(options.device)
        encoder = build(
            spec,
            device=device,
            precision=options.precision if spec.needs_weights else "float32",
            batch_size=options.batch_size,
            compiled=options.compiled,
            reach=options.reach,
        )
        loaded = time.perf_counter() - began
        yield from _lines(encoder, device, loaded)


def _lines(encoder: Encoder, device: str, loaded: float) -> Iterator[str]:
    spec = encoder.spec
    vector = encoder.encode(apply(spec.geometry, picture())[None])[0]
    if not np.isfinite(vector).all():
        raise UserError(f"{spec.name}: the vector of the test image is not finite; try --precision float32")
    batch, rate = throughput(encoder)
    weights = (
        f"{encoder.weights.path}"
        if encoder.weights
        else f"random, seed {spec.random_seed}"
        if spec.is_random
        else "none needed"
    )
    yield f"{spec.name}"
    yield f"  weights     {weights}; loaded in {loaded:.1f} s, {encoder.parameters / 1e6:,.1f} M parameters"
    yield f"  vector      dim {encoder.dim}, norm {np.linalg.norm(vector):.4f}, first {', '.join(f'{x:.4f}' for x in vector[:4])}"
    yield f"  throughput  {rate:,.1f} images/s on {device} in {encoder.precision}, {spec.geometry.size} pixels, batches of {batch}"


def throughput(encoder: Encoder, *, seconds: float = SECONDS) -> tuple[int, float]:
    """(images a batch, images a second) of the forward pass alone: the median of as many batches as fit into `seconds`."""
    batch = min(getattr(encoder, "batch_size", 64), 64)
    pixels = np.repeat(apply(encoder.spec.geometry, picture())[None], batch, axis=0)
    encoder.encode(pixels)  # the first pass is slower: memory is taken, kernels are chosen
    batch = min(batch, getattr(encoder, "batch_size", batch))  # it may have backed off
    pixels = pixels[:batch]
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        encoder.encode(pixels)
        times.append(time.perf_counter() - start)
    return batch, batch / statistics.median(times)


def picture() -> np.ndarray:
    """(512, 640, 3) uint8: rings on a slope, the same on every machine."""
    y, x = np.mgrid[0:512, 0:640].astype(np.float64)
    rings = 100 + 80 * np.sin(np.hypot(y - 256, x - 320) / 9) + x / 16
    return np.repeat(np.clip(rings, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _device(asked: str) -> str:
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU; use --device cpu, or see cbmir doctor")
    return asked if asked != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
