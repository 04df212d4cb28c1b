"""EncoderSpec -> a running Encoder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError

PRECISIONS = ("float32", "bfloat16")


class Encoder(Protocol):
    """A model on a device."""

    spec: EncoderSpec
    dim: int
    weights_sha256: str

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """pixels: (n, size, size, channels) uint8 -> (n, dim) float32, the model's own output, not normalised."""


def build(spec: EncoderSpec, *, device: str = "cpu", precision: str = "float32") -> Encoder:
    """Load an encoder; UserError in one line where its weights cannot be had or do not fit."""
    if spec.source == "pixels":
        return ThumbnailEncoder(spec)
    from cbmir.encoders import modules

    with _quiet():
        module = modules.load(spec)
    return TorchEncoder(spec, module, device=device, precision=precision)


class ThumbnailEncoder:
    """Pixels as they are, in 0..1: (n, size, size, 1) -> (n, size * size)."""

    weights_sha256 = "none"

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self.dim = int(np.prod(spec.geometry.shape))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


class TorchEncoder:
    """A torch module that takes normalised (n, 3, size, size) and gives (n, dim)."""

    def __init__(self, spec: EncoderSpec, module, *, device: str, precision: str) -> None:
        import torch

        from cbmir.encoders.weights import state_sha256

        if precision not in PRECISIONS:
            raise UserError(f"precision {precision!r}; expected one of: {', '.join(PRECISIONS)}")
        self.spec = spec
        self.weights_sha256 = state_sha256(module)
        self.device = torch.device(device)
        self.precision = precision
        self.module = module.eval().to(self.device, memory_format=torch.channels_last)
        shape = (1, len(spec.mean), 1, 1)
        self.mean = torch.tensor(spec.mean, device=self.device).view(shape)
        self.std = torch.tensor(spec.std, device=self.device).view(shape)
        self.dim = self._try_one()

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
        ):
            writable = pixels if pixels.flags.writeable else pixels.copy()  # Ray's shared memory is read-only
            batch = torch.from_numpy(writable).to(self.device, non_blocking=True)  # (n, size, size, 3) uint8
            batch = batch.permute(0, 3, 1, 2).float().div_(255)  # (n, 3, size, size)
            vectors = self.module((batch - self.mean) / self.std)  # (n, dim)
        return vectors.float().cpu().numpy()

    def _try_one(self) -> int:
        """dim, from one black image: an architecture that cannot take this size says so here, not in the run."""
        size = self.spec.geometry.size
        try:
            vectors = self.encode(np.zeros((1, *self.spec.geometry.shape), np.uint8))
        except (RuntimeError, AssertionError, ValueError) as error:
            first = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.spec.name} cannot take images of {size} pixels: {first}; choose another --image-size"
            ) from error
        if vectors.ndim != 2:
            raise UserError(f"{self.spec.name} gives an array of shape {vectors.shape}; expected (1, dim)")
        return vectors.shape[1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries log a page while they build a model; errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
