"""Reading one encoder's vectors back, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cbmir.errors import UserError, nearest
from cbmir.origin import is_older, make_again
from cbmir.reducing.record import MARK
from cbmir.store import Study, path_name

TILE_ROWS = 16_384
TILE_BYTES = 64 * 2**20  # of a tile in float32, where its rows are long
_VARIANTS = (MARK, "~px")
Part = list[tuple[str, list[int]]]  # paths of files, and the row groups that are meant of each


def find_encoder(study: Study, name: str) -> str:
    """The study's own name of an encoder: `name` itself, or the only one that begins with it ('timm:vit' @64, ~random0).

    Reduced ones ('timm:vit@64~pca256') and those of images at another size ('timm:vit~px28') are only meant where they are named whole.
    """
    names = study.names("embeddings")
    if name in names:
        return name
    longer = [
        n
        for n in names
        if n.startswith(name) and n[len(name)] in ",@~" and not any(mark in n[len(name) :] for mark in _VARIANTS)
    ]
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


def tile_rows(dim: int) -> int:
    """Rows of a tile of vectors of `dim` numbers, so that it takes TILE_BYTES at most."""
    return max(1, min(TILE_ROWS, TILE_BYTES // (4 * dim)))


class Vectors:
    """The finished embeddings of one encoder; reduced ones are refused where those that they were made of have changed since."""

    def __init__(self, study: Study, encoder: str) -> None:
        self.study = study
        self.encoder = encoder
        self.directory = f"encoder={path_name(encoder)}"
        self.run: dict[str, Any] = study.require("embeddings", self.directory)
        self.dim: int = self.run["dim"]
        if is_older(study, self.run):
            raise UserError(
                f"{encoder} is older than the embeddings that it was made of; make it again with: {make_again(study, self.run)}"
            )

    @property
    def address(self) -> str:
        return self.study.address

    def parts(self, n: int) -> list[Part]:
        """All row groups, in their order, in n parts of about as many rows; some are empty where there are fewer row groups."""
        parts: list[Part] = [[] for _ in range(n)]
        if not self.study.files("embeddings", self.directory):
            return parts
        fragments = list(self.study.dataset("embeddings", self.directory).get_fragments())
        total = max(1, sum(group.num_rows for fragment in fragments for group in fragment.row_groups))
        seen = 0
        for fragment in fragments:
            for group in fragment.row_groups:
                part = parts[min(n - 1, seen * n // total)]
                seen += group.num_rows
                if not part or part[-1][0] != fragment.path:
                    part.append((fragment.path, []))
                part[-1][1].append(group.id)
        return parts

    def keys(self, wanted: np.ndarray, *, part: Part | None = None) -> np.ndarray:
        """Those of the ascending `wanted` keys that have a vector (in `part`, if given), ascending."""
        dataset = self._dataset(part)
        if dataset is None:
            return np.zeros(0, np.int64)
        table = dataset.to_table(columns=["image_key"])
        return np.intersect1d(table["image_key"].to_numpy(), wanted, assume_unique=True)

    def tiles(
        self, wanted: np.ndarray, *, rows: int = TILE_ROWS, part: Part | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(keys (m,) int64, vectors (m, dim) float32) for the ascending `wanted` keys, at most `rows` at a time, fewer where they are long.

        In the order of the files; memory is bounded by `rows`. UserError for a vector with a number that is none.
        """
        dataset = self._dataset(part)
        if dataset is None:
            return
        rows = min(rows, tile_rows(self.dim))
        held: list[tuple[np.ndarray, np.ndarray]] = []
        count = 0
        for batch in dataset.to_batches(batch_size=rows, fragment_readahead=2, batch_readahead=2):
            keys, vectors = self._chosen(batch, wanted)
            self._refuse_not_finite(keys, vectors)
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

    def load(self, wanted: np.ndarray, *, part: Part | None = None) -> tuple[np.ndarray, np.ndarray]:
        """All of `wanted` (in `part`, if given) at once, ascending by key: (keys (n,) int64, vectors (n, dim) float32)."""
        tiles = list(self.tiles(wanted, part=part))
        if not tiles:
            return np.zeros(0, np.int64), np.zeros((0, self.dim), np.float32)
        keys, vectors = _joined(tiles)
        order = np.argsort(keys)
        return keys[order], vectors[order]

    def groups(self, keys: np.ndarray) -> np.ndarray:
        """(n,) the number of the row group in which each of `keys` lies, in the order of the files; all of them have a vector."""
        known, numbers, _ = self._places
        return numbers[np.searchsorted(known, keys)]

    def part_of(self, keys: np.ndarray) -> Part:
        """The row groups that hold `keys`, all of which have a vector."""
        part: Part = []
        for number in np.unique(self.groups(keys)):
            path, group = self._places[2][number]
            if not part or part[-1][0] != path:
                part.append((path, []))
            part[-1][1].append(group)
        return part

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int]]]:
        """(keys (n,) ascending, the row group of each (n,), path and number in its file of each row group)."""
        keys, numbers, groups = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
        for path, wanted in self.parts(1)[0]:
            file = pq.ParquetFile(path, filesystem=self.study.fs)
            for group in wanted:
                found = file.read_row_group(group, columns=["image_key"])["image_key"].to_numpy()
                keys.append(found)
                numbers.append(np.full(len(found), len(groups)))
                groups.append((path, group))
        known = np.concatenate(keys)
        order = np.argsort(known, kind="stable")
        return known[order], np.concatenate(numbers)[order], groups

    def _dataset(self, part: Part | None) -> pads.Dataset | None:
        """None where there is no vector."""
        if part is None:
            files = self.study.files("embeddings", self.directory)
            return self.study.dataset("embeddings", self.directory) if files else None
        if not part:
            return None
        kind = pads.ParquetFileFormat()
        fragments = [kind.make_fragment(path, self.study.fs, row_groups=groups) for path, groups in part]
        return pads.FileSystemDataset(fragments, fragments[0].physical_schema, kind, self.study.fs)

    def _refuse_not_finite(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        flat = vectors.ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(flat @ flat):  # so are all of them, then; what is too large to be squared is looked at
                return
        bad = keys[~np.isfinite(vectors).all(axis=1)]
        if len(bad):
            raise UserError(
                f"embeddings of {self.encoder} hold {len(bad):,} vectors with NaN or infinity, the first of image_key {int(bad[0])}; "
                f"expected numbers; embed again with --overwrite: cbmir embed --study {self.address} --encoder {self.encoder}"
            )

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
    if len(parts) == 1 and parts[0][1].flags.writeable:  # Arrow's own memory is not, and torch warns of that
        return parts[0]
    return np.concatenate([keys for keys, _ in parts]), np.concatenate([vectors for _, vectors in parts])
