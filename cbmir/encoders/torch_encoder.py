"""A torch module that runs: precision, memory layout, and batches that fit."""

from __future__ import annotations

import numpy as np
import torch

from cbmir.encoders.fetch import Weights
from cbmir.encoders.processor import processor
from cbmir.encoders.rounded import round_weights
from cbmir.encoders.sizes import grain, nearest_valid, refuse_remainder
from cbmir.encoders.spec import OUTPUTS, EncoderSpec
from cbmir.encoders.state import state_sha256
from cbmir.errors import UserError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# what architectures raise on an image that is too small, or an output that they do not have
_UNFIT = (RuntimeError, AssertionError, ValueError, IndexError, AttributeError, ZeroDivisionError, TypeError, KeyError)
# What torch and the libraries below it say where memory runs out, in the middle of a text or as all of it: oneDNN's "could not create
# a primitive" goes on "descriptor for ..." where it means another thing.
_FULL_WITHIN = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "could not create a memory object",
    "ALLOC_FAILED",
)
_FULL_WHOLE = ("could not create a primitive", "std::bad_alloc")
BATCH = {"cpu": 16, "cuda": 256}  # images of 224 pixels, where no number is asked for; fewer where they are larger


class TorchEncoder:
    """A torch module that takes normalised (n, channels, size, size) and gives (n, dim)."""

    def __init__(
        self,
        spec: EncoderSpec,
        module: torch.nn.Module,
        *,
        weights: Weights | None = None,
        device: str = "cpu",
        precision: str = "float32",
        batch_size: int | None = None,
        compiled: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"precision {precision!r}; expected one of: {', '.join(PRECISIONS)}")
        refuse_remainder(spec.name, spec.geometry.size, module)
        self.spec = spec
        self.weights = weights
        self.weights_sha256 = state_sha256(module)
        self.parameters = sum(parameter.numel() for parameter in module.parameters())
        self.weight_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
        self.device = torch.device(device)
        self.processor = processor(self.device)
        self.precision = precision
        self.batch_size = batch_size or usual_batch(self.device.type, spec.geometry.size)
        self.patches = grain(module)
        self.is_convolutional = self.patches is None
        layout = torch.channels_last if self.is_convolutional else torch.contiguous_format
        self.channels = next(m.in_channels for m in module.modules() if isinstance(m, torch.nn.Conv2d))
        self.draws = getattr(module, "noise", None)
        self.module = module.eval().to(self.device, memory_format=layout)
        if PRECISIONS[precision] is not None:
            round_weights(self.module, PRECISIONS[precision])
        self.memory_format = layout
        shape = (1, len(spec.mean), 1, 1)
        self.mean = torch.tensor(spec.mean, device=self.device).view(shape)
        self.std = torch.tensor(spec.std, device=self.device).view(shape)
        self.border = None
        if spec.geometry.mode == "long_side_corner" and isinstance(spec.geometry.fill, tuple):
            self.border = torch.tensor(spec.geometry.fill, device=self.device).view(shape).float().div(255)
        self.dim = self._try_one()
        self.compiled = compiled
        if compiled:
            self.module = torch.compile(self.module)

    @property
    def busy(self) -> float:
        """Seconds that forward passes took so far."""
        return self.processor.busy

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """pixels: (n, size, size, channels) uint8 -> (n, dim) float32; several threads may call it where the device is a GPU."""
        vectors = np.empty((len(pixels), self.dim), np.float32)
        start = 0
        while start < len(pixels):
            rows = pixels[start : start + self.batch_size]
            try:
                vectors[start : start + len(rows)] = self._batch(rows)
            except Exception as error:
                if not is_out_of_memory(error):
                    self._refuse_compiler(error)
                    raise
                self._back_off(len(rows), error)
                continue
            start += len(rows)
        return vectors

    def _batch(self, pixels: np.ndarray) -> np.ndarray:
        """One forward pass; a short batch is filled up, so that the device sees few shapes."""
        count = len(pixels)
        full = self._padded(count)
        if full > count:
            pixels = np.concatenate([pixels, np.zeros((full - count, *pixels.shape[1:]), np.uint8)])
        return self._forward(pixels)[:count]

    def _padded(self, count: int) -> int:
        """Compiled: always the batch size; on a GPU the next power of two; on a CPU, which pays for each image, as many as there are."""
        if self.compiled:
            return max(count, self.batch_size)
        return count if self.device.type == "cpu" else max(count, min(self.batch_size, 1 << (count - 1).bit_length()))

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        """(n, size, size, channels) uint8 -> (n, dim) float32."""
        noise = (self.draws(pixels),) if self.draws else ()
        return self.processor.run(pixels, lambda batch: self._vectors(batch, *noise))

    def _vectors(self, batch: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        """(n, size, size, channels) uint8 -> (n, dim) float32, both on the device."""
        kind = PRECISIONS[self.precision]
        with torch.inference_mode(), torch.autocast(self.device.type, kind, enabled=kind is not None):
            batch = batch.permute(0, 3, 1, 2).float().div_(255)  # (n, channels, size, size)
            batch = self._without_border(batch, (batch - self.mean) / self.std)
            if batch.shape[1] < self.channels:  # grey images, a network of three channels
                batch = batch.expand(-1, self.channels, -1, -1)
            batch = batch.contiguous(memory_format=self.memory_format)
            vectors = self.module(batch, *(numbers.to(self.device) for numbers in noise)).float()  # (n, dim)
            return torch.nn.functional.normalize(vectors, dim=-1) if self.spec.unit else vectors

    def _without_border(self, levels: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Segment Anything pads with zeros after normalising; bytes can hold that colour only to half a level."""
        if self.border is None:
            return batch
        return batch.masked_fill((levels == self.border).all(1, keepdim=True), 0.0)

    def _back_off(self, rows: int, error: Exception) -> None:
        """Halve the batch; where one image is too much, say so."""
        if rows == 1:
            raise UserError(
                f"{self.spec.name} runs out of memory on {self.device} with one image of {self.spec.geometry.size} pixels; "
                "choose a smaller --image-size, --precision bfloat16, or a machine with more memory"
            ) from error
        self.batch_size = rows // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _refuse_compiler(self, error: Exception) -> None:
        """UserError where compiling is what went wrong."""
        if not self.compiled:
            return
        from torch._dynamo.exc import TorchDynamoException

        if isinstance(error, TorchDynamoException):
            raise UserError(
                f"{self.spec.name} cannot be compiled: {str(error).partition(chr(10))[0][:200]}; "
                "--compile needs a C++ compiler (g++), and Triton on GPUs; leave it away, or install them"
            ) from error

    def _try_one(self) -> int:
        """dim, from one black image: an architecture that cannot take this size says so here, not in the run."""
        size = self.spec.geometry.size
        try:
            vectors = self._try(size)
        except (*_UNFIT, MemoryError) as error:
            if is_out_of_memory(error):
                self._back_off(1, error)
            if isinstance(error, AttributeError):
                raise UserError(
                    f"{self.spec.name} has no output '{self.spec.output}'; expected another of: {', '.join(OUTPUTS)}"
                ) from error
            valid = nearest_valid(size, self._works)
            first = f"the nearest larger size that it takes is {valid}" if valid else " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.spec.name} cannot take images of {size} pixels: {first}; choose another --image-size"
            ) from error
        if vectors.ndim != 2:
            raise UserError(f"{self.spec.name} gives an array of shape {tuple(vectors.shape)}; expected (1, dim)")
        if self.spec.dim and vectors.shape[1] != self.spec.dim:
            raise UserError(f"{self.spec.name} gives {vectors.shape[1]} numbers; expected dim = {self.spec.dim}")
        return vectors.shape[1]

    def _try(self, size: int) -> np.ndarray:
        return self._forward(np.zeros((1, size, size, self.spec.geometry.channels), np.uint8))

    def _works(self, size: int) -> bool:
        try:
            return bool(np.isfinite(self._try(size)).all())
        except _UNFIT:
            return False


def usual_batch(device: str, size: int) -> int:
    """As many pixels in a batch whatever the image's size is, and at most the batch of 224 pixels."""
    most = BATCH.get(device, BATCH["cpu"])
    return max(1, min(most, most * 224 * 224 // (size * size)))


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may help: torch tells of the GPU by class, of the CPU in words."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return str(error).strip() in _FULL_WHOLE or any(words in str(error) for words in _FULL_WITHIN)
