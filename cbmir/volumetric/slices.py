"""The slices of volumes and their vectors, volume by volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.errors import UserError
from cbmir.origin import is_older, of_the_images
from cbmir.select import attach_done, attach_manifest, connect
from cbmir.sql_files import read
from cbmir.store import Study, path_name, run_record
from cbmir.vectors import Vectors
from cbmir.volumetric.place import STAGE, slices_of

BATCH_BYTES = 256 * 2**20  # of slices' vectors that are held at once
ROWS_PER_FILE = 1_000_000


@dataclass(frozen=True)
class Volumes:
    """Some volumes with the vectors of their slices, in the order of the slices."""

    keys: np.ndarray  # (v,) int64
    counts: np.ndarray  # (v,) slices that have a vector, 1 or more
    vectors: np.ndarray  # (counts.sum(), dim) float32, as stored
    slice_keys: np.ndarray  # (counts.sum(),) int64
    places: np.ndarray  # (counts.sum(),) of each among all slices of its volume

    @property
    def starts(self) -> np.ndarray:
        """(v,) row of each volume's first slice."""
        return np.cumsum(self.counts) - self.counts

    def of(self, chosen: np.ndarray) -> Volumes:
        """Those volumes for which `chosen` (v,) is true; the same arrays where all are."""
        if chosen.all():
            return self
        rows = np.repeat(chosen, self.counts)
        return Volumes(
            self.keys[chosen], self.counts[chosen], self.vectors[rows], self.slice_keys[rows], self.places[rows]
        )

    def each(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(key, vectors (s, dim), places (s,)) of one volume after the other."""
        for key, start, count in zip(self.keys, self.starts, self.counts, strict=True):
            here = slice(start, start + count)
            yield int(key), self.vectors[here], self.places[here]


def write_slices(volumes: Study, encoder: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Publish slices/encoder=E, which slices make each volume and which of them have a vector -> its run.json."""
    of_images = slices_of(volumes)
    target = ("slices", f"encoder={path_name(encoder)}")
    vectors = Vectors(of_images, encoder).run
    inputs = {"embeddings": vectors["fingerprint"], "manifest": volumes.require("manifest")["fingerprint"]}
    before = volumes.run_of(*target)
    if before and before["inputs"] == inputs and not overwrite:
        return before
    connection = connect()
    attach_manifest(connection, of_images)
    attach_done(connection, "done", of_images, encoder)
    connection.register("volumes", volumes.dataset("manifest").to_table(columns=["image_key", "dataset", "volume_id"]))
    result = connection.sql(read("volumes", "slices"))
    rows = embedded = 0
    with volumes.publishing(*target) as out:
        for part, batch in enumerate(result.to_arrow_reader(ROWS_PER_FILE)):
            table = pa.Table.from_batches([batch])
            out.write_table(table, f"part-{part:05d}.parquet", "slices")
            rows, embedded = rows + table.num_rows, embedded + pc.sum(table["embedded"]).as_py()
        out.run = run_record(STAGE, parameters={"source": encoder}, inputs=inputs, rows=rows) | of_the_images(vectors) | {
            "embedded": embedded, "failed": rows - embedded, "dim": vectors["dim"], "dtype": vectors["dtype"],
        }  # fmt: skip
    return out.run


class Slices:
    """The slices of a study of volumes, as one encoder has embedded them."""

    def __init__(self, volumes: Study, encoder: str) -> None:
        self.study = volumes
        self.encoder = encoder
        self.run: dict[str, Any] = volumes.require("slices", f"encoder={path_name(encoder)}")
        if is_older(volumes, self.run) or self.run["inputs"]["manifest"] != volumes.require("manifest")["fingerprint"]:
            raise UserError(
                f"slices of {encoder} in {volumes.address} are older than its vectors or the volumes; make them again with: "
                f"cbmir volumes --study {slices_of(volumes).address} --encoder {encoder}"
            )
        self.vectors = Vectors(slices_of(volumes), encoder)
        table = volumes.dataset("slices", f"encoder={path_name(encoder)}").to_table(
            columns=["image_key", "slice_key", "place", "embedded"]
        )
        volume, key, place, embedded = (table[name].to_numpy() for name in table.column_names)
        self.all_volumes, self._every = np.unique(volume, return_counts=True)
        self.volume, self.key, self.place = (
            volume[embedded],
            key[embedded],
            place[embedded],
        )  # ordered by volume and place

    @property
    def dim(self) -> int:
        return self.vectors.dim

    def totals(self, wanted: np.ndarray) -> np.ndarray:
        """How many slices each of the `wanted` volumes has, embedded or not (n,)."""
        return self._every[np.searchsorted(self.all_volumes, wanted)]

    def uri(self, volume: int) -> str:
        """Where a volume's picture is, as the manifest has it."""
        found = pc.index(self._manifest["image_key"], pa.scalar(volume, pa.int64())).as_py()
        return self._manifest["uri"][found].as_py()

    @cached_property
    def _manifest(self) -> pa.Table:
        return self.study.dataset("manifest").to_table(columns=["image_key", "uri"])

    def failed_lines(self) -> Iterator[str]:
        """What a person is told of volumes that lack slices."""
        totals, counts = self._every, self.counts(self.all_volumes)
        some = int(((counts > 0) & (counts < totals)).sum())
        if some:
            yield (
                f"{self.encoder}: {some:,} volumes have slices without a vector: they are kept, their other slices stand for them, and only "
                "concatenations leave them out (failures says which)"
            )
        if none := int((counts == 0).sum()):
            yield f"{self.encoder}: {none:,} volumes have no slice with a vector: they are failures, and score 0 as queries"

    def keys(self, wanted: np.ndarray) -> np.ndarray:
        """Those of the ascending `wanted` volumes that have a slice with a vector, ascending."""
        return np.intersect1d(self.volume, wanted)

    def counts(self, wanted: np.ndarray) -> np.ndarray:
        """How many slices with a vector each of the `wanted` volumes has (n,)."""
        return np.searchsorted(self.volume, wanted, side="right") - np.searchsorted(self.volume, wanted)

    def of(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slices with a vector of the ascending `wanted` volumes -> (their keys (m,), ascending, the volume of each (m,))."""
        mine = np.isin(self.volume, wanted)
        order = np.argsort(self.key[mine])
        return self.key[mine][order], self.volume[mine][order]

    def batches(self, wanted: np.ndarray, *, most: int = BATCH_BYTES) -> Iterator[np.ndarray]:
        """The `wanted` volumes in parts of about `most` bytes of vectors, in the order in which files hold them: each file is read about once."""
        if len(wanted) == 0:
            return
        first = self._first_places(wanted)
        ordered = wanted[np.lexsort((wanted, first))]
        sizes = np.cumsum(self.counts(ordered)) * self.dim * 4
        yield from np.split(ordered, np.flatnonzero(np.diff(sizes // most)) + 1)

    def load(self, wanted: np.ndarray) -> Volumes:
        """Volumes in the order of `wanted`, each of which has a slice with a vector."""
        counts = self.counts(wanted)
        starts = np.searchsorted(self.volume, wanted)
        rows = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        keys = self.key[rows]
        ascending = np.argsort(keys)
        held, vectors = self.vectors.load(keys[ascending], part=self.vectors.part_of(keys))
        if len(held) != len(keys) or not np.array_equal(held, keys[ascending]):
            raise UserError(f"vectors of {self.encoder} have changed while they were read; run the same command again")
        back = np.empty(len(keys), np.int64)
        back[ascending] = np.arange(len(keys))
        return Volumes(wanted, counts, vectors[back], keys, self.place[rows])

    def _first_places(self, wanted: np.ndarray) -> np.ndarray:
        """Where the files hold each volume's first vector (n,)."""
        keys, volumes = self.of(wanted)
        places = self.vectors.groups(keys)
        first = np.full(len(wanted), np.iinfo(np.int64).max)
        np.minimum.at(first, np.searchsorted(np.sort(wanted), volumes), places)
        return first[np.searchsorted(np.sort(wanted), wanted)]
