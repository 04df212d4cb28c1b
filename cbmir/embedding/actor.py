"""The model side of embedding: a block of pixels -> a block of vectors, all encoders of a group in one pass."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from cbmir.embedding.decode import as_pixels
from cbmir.encoders.build import Encoder, build
from cbmir.encoders.fetch import Reach
from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError
from cbmir.images.geometry import Geometry

PASSED_ON = ("image_key", "uri", "need", "stage", "error")


@dataclass(frozen=True)
class Loads:
    """What an actor holds: encoders by their position in the run, and how they are built."""

    encoders: dict[int, EncoderSpec]
    precisions: dict[int, str]
    geometries: list[Geometry]  # of the pixel columns, in their order
    needed_later: frozenset[int] = frozenset()  # pixel columns that the next group takes
    device: str = "cpu"
    threads: int = 1
    batch_size: int | None = None
    compiled: bool = False
    reach: Reach = field(default_factory=Reach)


class EncodeBlocks:
    """A Ray actor that holds the encoders of a group on one device."""

    def __init__(self, loads: Loads, tally) -> None:
        if any(spec.needs_weights for spec in loads.encoders.values()):
            import torch

            torch.set_num_threads(loads.threads)
        self.loads = loads
        self.tally = tally
        self.name = uuid.uuid4().hex
        self.lock = threading.Lock()
        self.refusal: UserError | None = None
        try:
            self.encoders = _built(loads)
        except UserError as error:  # raised at the first block: Ray answers an error in here with pages and many tries
            self.encoders, self.refusal = {}, error
        self.sharers = {i: list(self.encoders.values()).count(encoder) for i, encoder in self.encoders.items()}
        self.told = {i: encoder.busy for i, encoder in self.encoders.items()}  # trying it out is not counted

    def __call__(self, block: pa.Table) -> pa.Table:
        """pixels_* -> embedding_<i> of each encoder: fixed-size lists of float32, null where there is none."""
        if self.refusal:
            raise self.refusal
        began = time.time()
        good = block["error"].is_null().to_numpy(zero_copy_only=False)
        need = block["need"].to_numpy()
        out = block.select(self._kept(block.column_names))
        failed = np.zeros(block.num_rows, bool) if self.loads.needed_later else ~good  # each broken image counts once
        for i, encoder in self.encoders.items():
            wanted = np.flatnonzero(good & (need >> i & 1 == 1))
            geometry = self.loads.encoders[i].geometry
            pixels = as_pixels(block[f"pixels_{self.loads.geometries.index(geometry)}"], geometry)
            vectors = self._encode(encoder, pixels, wanted)
            out = out.append_column(f"embedding_{i}", _as_lists(vectors, wanted, block.num_rows, encoder.dim))
            failed[wanted] |= ~np.isfinite(vectors).all(axis=1)
        self._tell(block.num_rows, int(failed.sum()), began)
        return out

    def _kept(self, columns: list[str]) -> list[str]:
        later = {f"pixels_{i}" for i in self.loads.needed_later}
        return [name for name in columns if name in PASSED_ON or name.startswith("embedding_") or name in later]

    def _encode(self, encoder, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Rows `wanted` of pixels (n, size, size, channels) -> (len(wanted), dim) float32."""
        if len(wanted) == 0:
            return np.zeros((0, encoder.dim), np.float32)
        chosen = pixels if len(wanted) == len(pixels) else pixels[wanted]
        return encoder.encode(chosen)

    def _tell(self, rows: int, failed: int, began: float) -> None:
        """Rows, and the seconds of forward passes since the last time, to whoever counts."""
        with self.lock:
            busy = {i: encoder.busy for i, encoder in self.encoders.items()}
            forward = {i: (busy[i] - self.told[i]) / self.sharers[i] for i in busy}
            self.told = busy
        self.tally.encoded.remote(self.name, rows, failed, forward, began, time.time())


def _built(loads: Loads) -> dict[int, Encoder]:
    """Each encoder by its position; those that differ only in how much of an image they are shown are one network."""
    found: dict[int, Encoder] = {}
    for i, spec in loads.encoders.items():
        precision = loads.precisions[i]
        alike = (j for j in found if loads.encoders[j].built == spec.built and loads.precisions[j] == precision)
        same = next(alike, None)
        found[i] = found[same] if same is not None else _build(spec, precision, loads)
    return found


def _build(spec: EncoderSpec, precision: str, loads: Loads) -> Encoder:
    return build(
        spec,
        device=loads.device,
        precision=precision,
        batch_size=loads.batch_size,
        compiled=loads.compiled,
        reach=loads.reach,
    )


def _as_lists(vectors: np.ndarray, rows: np.ndarray, count: int, dim: int) -> pa.FixedSizeListArray:
    """vectors (m, dim) of rows (m,) -> `count` lists, null elsewhere and where a vector is not finite."""
    finite = np.isfinite(vectors).all(axis=1)
    values = np.zeros((count, dim), np.float32)
    values[rows[finite]] = vectors[finite]
    missing = np.ones(count, bool)
    missing[rows[finite]] = False
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim, mask=pa.array(missing))
