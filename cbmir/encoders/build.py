"""EncoderSpec -> a running Encoder."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from cbmir.encoders.fetch import Reach, Weights, obtain
from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError


class Encoder(Protocol):
    """A model on a device."""

    spec: EncoderSpec
    dim: int
    is_convolutional: bool
    weights_sha256: str
    weights: Weights | None
    parameters: int
    weight_bytes: int
    precision: str
    busy: float  # seconds that forward passes took so far

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """pixels: (n, size, size, channels) uint8 -> (n, dim) float32; of length 1 only where the spec says so."""


def build(
    spec: EncoderSpec,
    *,
    device: str = "cpu",
    precision: str = "float32",
    batch_size: int | None = None,
    compiled: bool = False,
    reach: Reach = Reach(),  # noqa: B008 (frozen)
) -> Encoder:
    """Load an encoder; UserError in one line where its weights cannot be had or do not fit.

    batch_size: most images in one forward pass, halved where they do not fit into memory; None: what the device is good at.
    precision: 'float32', 'bfloat16', 'float16', or 'auto' for what `best_precision` says.
    compiled: by torch.compile, which takes a minute at the first batch.
    """
    if spec.source == "pixels":
        return ThumbnailEncoder(spec)
    refuse_precision(precision, device)
    from cbmir.encoders import modules
    from cbmir.encoders.sizes import grain
    from cbmir.encoders.torch_encoder import TorchEncoder

    weights = None if spec.is_random else obtain(spec, reach)
    with _quiet():
        module = modules.load(spec, weights)
    if precision == "auto":
        precision = best_precision(device, convolutional=grain(module) is None)
    return TorchEncoder(
        spec, module, weights=weights, device=device, precision=precision, batch_size=batch_size, compiled=compiled
    )


def best_precision(device: str, *, convolutional: bool) -> str:
    """What `--precision auto` is: bfloat16 for transformers where the device computes in it, else float32.

    bfloat16 has 8 bits a number. Vectors of transformers keep a cosine above 0.9999 with those of float32; those of trained
    convolutional networks fall to 0.997 (tests/test_fast_paths.py), and their convolutions are quick in float32 too (TF32 on GPUs).
    """
    if convolutional:
        return "float32"
    if device == "cuda":
        return "bfloat16"
    import torch

    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def refuse_precision(precision: str, device: str) -> None:
    """UserError where a device computes too slowly in a precision to be meant."""
    if precision == "float16" and device == "cpu":
        raise UserError(
            "--precision float16 is for GPUs: processors compute it ten times slower than float32; expected float32 or bfloat16"
        )


class ThumbnailEncoder:
    """Pixels as they are, in 0..1: (n, size, size, 1) -> (n, size * size)."""

    is_convolutional = False
    weights_sha256 = "none"
    weights = None
    parameters = 0
    weight_bytes = 0
    precision = "float32"

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self.dim = int(np.prod(spec.geometry.shape))
        self.busy = 0.0

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        vectors = pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)
        self.busy += time.perf_counter() - began
        return vectors


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries log a page while they build a model; errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
