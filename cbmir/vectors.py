"""Reading one encoder's vectors back, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.errors import UserError, nearest
from cbmir.store import Study, path_name

TILE_ROWS = 16_384


def find_encoder(study: Study, name: str) -> str:
    """The study's own name of an encoder: `name` itself, or the only one that begins with it ('timm:vit' @64, ~random0)."""
    names = study.names("embeddings")
    if name in names:
        return name
    longer = [n for n in names if n.startswith(name) and n[len(name)] in ",@~"]
    if len(longer) == 1:
        return longer[0]
    if not names:
        study.require("embeddings")
        raise UserError(f"the study {study.address} has no embeddings; make them with: cbmir embed --encoder {name}")
    if longer:
        raise UserError(
            f"encoder '{name}' stands for several in this study: {', '.join(longer)}; give one of them whole"
        )
    near = nearest(name, names) or f"embedded: {', '.join(names)}"
    raise UserError(
        f"no embeddings of encoder '{name}' in the study; {near}; make them with: cbmir embed --encoder {name}"
    )


class Vectors:
    """The finished embeddings of one encoder."""

    def __init__(self, study: Study, encoder: str) -> None:
        self.study = study
        self.encoder = encoder
        self.directory = f"encoder={path_name(encoder)}"
        self.run: dict[str, Any] = study.require("embeddings", self.directory)
        self.dim: int = self.run["dim"]

    def keys(self, wanted: np.ndarray) -> np.ndarray:
        """Those of the ascending `wanted` keys that have a vector, ascending."""
        files = self.study.files("embeddings", self.directory)
        if not files:
            return np.zeros(0, np.int64)
        table = self.study.dataset("embeddings", self.directory).to_table(columns=["image_key"])
        return np.intersect1d(table["image_key"].to_numpy(), wanted, assume_unique=True)

    def tiles(self, wanted: np.ndarray, *, rows: int = TILE_ROWS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(keys (m,) int64, vectors (m, dim) float32) for the ascending `wanted` keys, at most `rows` at a time.

        In the order of the files; memory is bounded by `rows`.
        """
        if not self.study.files("embeddings", self.directory):
            return
        dataset = self.study.dataset("embeddings", self.directory)
        held: list[tuple[np.ndarray, np.ndarray]] = []
        count = 0
        for batch in dataset.to_batches(batch_size=rows, fragment_readahead=2, batch_readahead=2):
            keys, vectors = self._chosen(batch, wanted)
            while len(keys):
                room = rows - count
                held.append((keys[:room], vectors[:room]))
                count += len(keys[:room])
                keys, vectors = keys[room:], vectors[room:]
                if count == rows:
                    yield _joined(held)
                    held, count = [], 0
        if count:
            yield _joined(held)

    def load(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All of `wanted` at once, ascending by key: (keys (n,) int64, vectors (n, dim) float32)."""
        tiles = list(self.tiles(wanted))
        if not tiles:
            return np.zeros(0, np.int64), np.zeros((0, self.dim), np.float32)
        keys, vectors = _joined(tiles)
        order = np.argsort(keys)
        return keys[order], vectors[order]

    def _chosen(self, batch: pa.RecordBatch, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = batch.column("image_key").to_numpy()
        column = batch.column("embedding")
        flat = pc.cast(column.flatten(), pa.float32()) if column.type.value_type != pa.float32() else column.flatten()
        vectors = flat.to_numpy(zero_copy_only=True).reshape(len(keys), self.dim)
        place = np.searchsorted(wanted, keys)
        hit = (
            (place < len(wanted)) & (wanted[np.minimum(place, len(wanted) - 1)] == keys)
            if len(wanted)
            else np.zeros(len(keys), bool)
        )
        return (keys, vectors) if hit.all() else (keys[hit], vectors[hit])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([keys for keys, _ in parts]), np.concatenate([vectors for _, vectors in parts])
