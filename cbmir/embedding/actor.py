"""The model side of embedding: a block of pixels -> a block of vectors, all encoders in one pass."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cbmir.embedding.decode import as_pixels
from cbmir.encoders.build import build
from cbmir.encoders.fetch import Reach
from cbmir.encoders.spec import EncoderSpec
from cbmir.images.geometry import Geometry


class EncodeBlocks:
    """A Ray actor that holds every encoder of the run on one device."""

    def __init__(
        self,
        specs: list[EncoderSpec],
        geometries: list[Geometry],
        *,
        device: str,
        precisions: list[str],
        threads: int,
        batch_size: int | None,
        compiled: bool,
        reach: Reach,
        counter,
    ) -> None:
        if any(spec.needs_weights for spec in specs):
            import torch

            torch.set_num_threads(threads)
        self.geometries = geometries
        self.counter = counter
        self.encoders = [
            build(s, device=device, precision=p, batch_size=batch_size, compiled=compiled, reach=reach)
            for s, p in zip(specs, precisions, strict=True)
        ]

    def __call__(self, block: pa.Table) -> pa.Table:
        """pixels_* -> embedding_0 ... embedding_{e-1}: fixed-size lists of float32, null where there is none."""
        good = block["error"].is_null().to_numpy(zero_copy_only=False)
        need = block["need"].to_numpy()
        out = block.select(["image_key", "uri", "need", "stage", "error"])
        failed = ~good
        for i, encoder in enumerate(self.encoders):
            wanted = np.flatnonzero(good & (need >> i & 1 == 1))
            geometry = encoder.spec.geometry
            pixels = as_pixels(block[f"pixels_{self.geometries.index(geometry)}"], geometry)
            vectors = self._encode(encoder, pixels, wanted)
            out = out.append_column(f"embedding_{i}", _as_lists(vectors, wanted, block.num_rows, encoder.dim))
            failed[wanted] |= ~np.isfinite(vectors).all(axis=1)
        self.counter.add.remote(block.num_rows, int(failed.sum()))
        return out

    def _encode(self, encoder, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Rows `wanted` of pixels (n, size, size, channels) -> (len(wanted), dim) float32."""
        if len(wanted) == 0:
            return np.zeros((0, encoder.dim), np.float32)
        chosen = pixels if len(wanted) == len(pixels) else pixels[wanted]
        return encoder.encode(chosen)


def _as_lists(vectors: np.ndarray, rows: np.ndarray, count: int, dim: int) -> pa.FixedSizeListArray:
    """vectors (m, dim) of rows (m,) -> `count` lists, null elsewhere and where a vector is not finite."""
    finite = np.isfinite(vectors).all(axis=1)
    values = np.zeros((count, dim), np.float32)
    values[rows[finite]] = vectors[finite]
    missing = np.ones(count, bool)
    missing[rows[finite]] = False
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim, mask=pa.array(missing))
