"""A new index: its shards built here, or by as many Ray tasks."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cbmir.indexing.codec import Codec
from cbmir.indexing.files import deliver, writing
from cbmir.indexing.shard import TILE, Shape, build, shard_name
from cbmir.progress import Progress
from cbmir.store import Publication, Study
from cbmir.vectors import Part, Vectors

_SAMPLE, _PLACES = 16_384, 64  # vectors a codec is fitted to, from so many places of the gallery


def fitted(vectors: Vectors, keys: np.ndarray, *, metric: str, dtype: str, pca: int | None) -> Codec:
    """A codec fitted to vectors from all over the gallery."""
    sample = []
    for part in vectors.parts(_PLACES):
        tile = next(vectors.tiles(keys, rows=_SAMPLE // _PLACES, part=part), None)
        if tile is not None:
            sample.append(tile[1])
    return Codec.fitted(np.concatenate(sample), metric=metric, dtype=dtype, pca=pca)


def build_shards(
    out: Publication, vectors: Vectors, keys: np.ndarray, shape: Shape, *, shards: int, ray_address: str | None
) -> list[dict[str, Any]]:
    """Write all shards -> what run.json says of each; fewer than asked for where the embeddings are in fewer row groups."""
    with Progress("index", len(keys), unit="vectors") as progress:
        if shards == 1:
            with writing(out) as directory:
                tiles = vectors.tiles(keys, rows=TILE)
                return [build(shape, tiles, os.path.join(directory, shard_name(0)), progress.advance)]
        parts = [part for part in vectors.parts(shards) if len(vectors.keys(keys, part=part))]
        return _by_ray(out, vectors, keys, shape, parts, ray_address, progress)


def _by_ray(
    out: Publication,
    vectors: Vectors,
    keys: np.ndarray,
    shape: Shape,
    parts: list[Part],
    ray_address: str | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """A task a part; each takes its share of the cores, and another try where its machine is lost."""
    import ray

    from cbmir.cluster import ray_session

    with ray_session(ray_address):
        cores = ray.cluster_resources().get("CPU", 1)
        threads = max(1, int(cores // len(parts)))
        tally = ray.remote(num_cpus=0)(_Tally).remote()
        task = ray.remote(num_cpus=min(threads, cores), max_retries=3)(_one_shard)
        wanted, shape = ray.put(keys), replace(shape, threads=threads)
        asked = [
            task.remote(vectors.address, vectors.encoder, wanted, part, shape, out.parts, shard_name(number), tally)
            for number, part in enumerate(parts)
        ]
        waiting = asked
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
            progress.update(ray.get(tally.total.remote()))
        return ray.get(asked)


class _Tally:
    """How many vectors all tasks have added."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def set(self, shard: str, rows: int) -> None:
        self.rows[shard] = rows

    def total(self) -> int:
        return sum(self.rows.values())


def _one_shard(
    address: str,
    encoder: str,
    keys: np.ndarray,
    part: Part,
    shape: Shape,
    parts: tuple[str, ...],
    name: str,
    tally,
) -> dict[str, Any]:
    study = Study(address)
    vectors = Vectors(study, encoder)
    done = 0

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        tally.set.remote(name, done)

    tiles = vectors.tiles(keys, rows=TILE, part=part)
    if study.is_local:
        return build(shape, tiles, study.path(*parts, name), report)
    with tempfile.TemporaryDirectory(prefix="cbmir-") as directory:
        told = build(shape, tiles, os.path.join(directory, name), report)
        for file in sorted(Path(directory).iterdir()):
            deliver(study, parts, str(file))
        return told
