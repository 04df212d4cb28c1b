"""Slices and volumes of one's own, or of the study -> the nearest volumes of a study and the slices that match, as many as one likes behind one loading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import duckdb
import numpy as np

from cbmir.errors import UserError, nearest
from cbmir.querying.answers import Answer
from cbmir.querying.encoding import Encoded, ImageVectors
from cbmir.querying.gallery import Gallery, SliceRows
from cbmir.querying.volume_answers import PAIR, VOLUME
from cbmir.querying.volume_inputs import VolumeQuery
from cbmir.querying.votes import vote
from cbmir.search import TRAIN
from cbmir.searching.searchers import no_codes, torch_device
from cbmir.select import attach_manifest, connect
from cbmir.store import Study, path_name
from cbmir.vectors import find_encoder
from cbmir.volume_search import MATCHES
from cbmir.volumes import refuse_volumes
from cbmir.volumetric.held import HeldInteraction
from cbmir.volumetric.place import require_volumes
from cbmir.volumetric.slices import Slices, Volumes

METRIC = "cos"
MOST_MATCHES = 100
_TOGETHER = 16  # volumes that are asked with at once, where the gallery is read for each time
_MOST_NAMED = 20_000  # ids among which the nearest to a wrong one is looked for


@dataclass(frozen=True)
class _Asked:
    """A query with its slices' vectors; of the study's own volumes the key, of others one below 0."""

    query: VolumeQuery
    key: int
    vectors: list[np.ndarray] = field(default_factory=list)  # (dim,) float32 each
    slices: list[tuple[int | None, str | None]] = field(default_factory=list)  # number and uri of each of them
    left_out: list[str] = field(default_factory=list)
    error: str | None = None


class VolumeLookup:
    """The encoder, the volumes of a study and the vectors of their slices, loaded once, for any number of queries.

    encoder  as the study has it, or what only one of its names begins with
    gallery  SQL predicate over the manifest of volumes; None: split = 'train'
    device   'auto', 'cpu' or 'cuda'

    Volumes are ranked by late interaction, the mean over the query's slices of the distance to the volume's nearest slice: exactly, over all volumes of the
    gallery. Made of what is quick to look at, so that misuse is a UserError at once; `load` does the rest.
    """

    def __init__(self, study: Study, encoder: str, *, gallery: str | None = None, device: str = "auto") -> None:
        study.require("manifest")
        refuse_volumes(study)
        self.study = study
        self.encoder = find_encoder(study, encoder)
        self.volumes = require_volumes(study)
        self.slices = Slices(self.volumes, self.encoder)
        self.gallery = Gallery(self.volumes, gallery or TRAIN, further=VOLUME)
        self.keys = self.slices.keys(self.gallery.keys)
        self.rows = SliceRows(self.volumes, self.encoder)
        self.device = torch_device(device)
        self._late = HeldInteraction(self.slices, self.keys, no_codes(), k=1, metric=METRIC, device=self.device)
        self._made_of = self._inputs()

    @cached_property
    def images(self) -> ImageVectors:
        """What makes vectors of images; UserError where new images cannot have such."""
        return ImageVectors(self.slices.vectors, self.device)

    def load(self) -> None:
        """Read the gallery, what is said of it and of its slices, and, where they fit into memory, its vectors; nothing where that is done."""
        self.gallery.load()
        self.rows.load()
        self._late.load()

    def is_current(self) -> bool:
        """Whether the manifests, embeddings and slices are still those that were loaded."""
        return self._made_of == self._inputs()

    def answers(self, queries: Iterable[VolumeQuery], *, k: int = 10, matches: int = MATCHES) -> Iterator[Answer]:
        """One Answer a query, in order; its neighbors are volumes, each with `slices`, the pairs of slices that are nearest (PAIR).

        A query without a slice that can be read has an error and no neighbors. UserError for misuse at once, before anything is loaded.
        """
        if not 1 <= k <= len(self.keys):
            raise UserError(
                f"-k {k}; expected 1 to {len(self.keys):,}, the embedded volumes of the gallery {self.gallery.predicate}"
            )
        if not 1 <= matches <= MOST_MATCHES:
            raise UserError(f"--matches {matches}; expected 1 to {MOST_MATCHES}")
        queries = list(queries)
        if not queries:
            raise UserError("no volume was given; expected at least one")
        stored = {query.stored: self._key(query.stored) for query in queries if query.stored is not None}
        if any(query.images for query in queries):
            _ = self.images
        return self._answers(queries, stored, k, matches)

    def _answers(self, queries: list[VolumeQuery], stored: dict[str, int], k: int, matches: int) -> Iterator[Answer]:
        self.load()
        group: list[_Asked] = []
        for asked in self._asked(queries, stored):
            if asked.key in {other.key for other in group}:  # the same volume again, by other slices
                yield from self._answered(group, k, matches)
                group = []
            group.append(asked)
            if self._late.is_held or len(group) == _TOGETHER:
                yield from self._answered(group, k, matches)
                group = []
        yield from self._answered(group, k, matches)

    def _asked(self, queries: list[VolumeQuery], stored: dict[str, int]) -> Iterator[_Asked]:
        """Each query with its vectors; slices of several are encoded together."""
        images = [image for query in queries for image in query.images]
        encoded = (one for batch in self.images.of(images) for one in batch) if images else iter(())
        for i, query in enumerate(queries):
            if query.error:
                yield _Asked(query, -1 - i, error=query.error)
            elif query.stored is not None:
                yield self._of_the_study(query, stored[query.stored])
            else:
                yield _own(query, -1 - i, list(islice(encoded, len(query.images))))

    def _of_the_study(self, query: VolumeQuery, key: int) -> _Asked:
        """A volume of the study, or some of its slices, with the vectors that are there."""
        rows = self.rows.of_volume(key)
        numbers = [row["number"] for row in rows]
        wanted = query.wanted
        if wanted and not (min(numbers) <= wanted.first and wanted.last <= max(numbers)):
            return _Asked(query, key, error=f"slices {wanted} of a volume with slices {min(numbers)} to {max(numbers)}")
        rows = [row for row in rows if wanted is None or row["number"] in wanted.numbers]
        left_out = [f"slice {row['number']}: no vector by {self.encoder}" for row in rows if not row["embedded"]]
        kept = {row["slice_key"]: (row["number"], row["uri"]) for row in rows if row["embedded"]}
        if not kept:
            return _Asked(query, key, error=left_out[0] if left_out else f"no slice of the volume is among {wanted}")
        volume = self.slices.load(np.array([key]))
        at = [place for place, slice_key in enumerate(volume.slice_keys.tolist()) if slice_key in kept]
        slices = [kept[slice_key] for slice_key in volume.slice_keys[at].tolist()]
        return _Asked(query, key, list(volume.vectors[at]), slices, left_out)

    def _answered(self, group: list[_Asked], k: int, matches: int) -> Iterator[Answer]:
        good = sorted((asked for asked in group if not asked.error), key=lambda asked: asked.key)
        found = self._found(good, k, matches) if good else {}
        for asked in group:
            name, uri = asked.query.name, _middle(asked)
            if asked.error:
                yield Answer(name, uri, error=asked.error)
            else:
                near = found[asked.key]
                votes = vote([volume["labels"] for volume in near])
                yield Answer(name, uri, neighbors=near, votes=votes, left_out=asked.left_out)

    def _found(self, group: list[_Asked], k: int, matches: int) -> dict[int, list[dict[str, Any]]]:
        """Queries in ascending order of their keys -> key: its volumes, nearest first, with the slices that match."""
        volumes = _together(group)
        near, distances, counts = self._late.nearest_to(volumes, k=k)
        filled = np.arange(near.shape[1])[None, :] < counts[:, None]
        queries = np.repeat(volumes.keys, counts)
        slices = [one for asked in group for one in asked.slices]
        pairs = self._pairs(slices, self._late.matches_of(volumes, queries, near[filled], most=matches))
        said = iter(self.gallery.described(near[filled]))
        return {
            int(key): [
                {"rank": rank + 1, "distance": float(distances[row, rank])}
                | next(said)
                | {"slices": pairs[int(key), int(near[row, rank])]}
                for rank in range(counts[row])
            ]
            for row, key in enumerate(volumes.keys)
        }

    def _pairs(
        self, slices: list[tuple[int | None, str | None]], found: list[tuple[int, int, int, int, float]]
    ) -> dict[tuple[int, int], list[dict[str, Any]]]:
        """Pairs by (query, volume), with number and uri of both slices; of the query's by their place in `slices`."""
        pairs: dict[tuple[int, int], list[dict[str, Any]]] = {}
        theirs = self.rows.described(np.array([match[3] for match in found], np.int64))
        for (query, volume, mine, _, distance), there in zip(found, theirs, strict=True):
            pair = dict(zip(PAIR, (*slices[mine], *there, float(np.float32(distance))), strict=True))
            pairs.setdefault((query, volume), []).append(pair)
        return pairs

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """To the manifest of volumes."""
        connection = connect()
        attach_manifest(connection, self.volumes)
        return connection

    def _key(self, name: str) -> int:
        """Of the volume with that image_id or volume_id; UserError where there is none, or where ids of several datasets are alike."""
        connection = self._connection
        like = "SELECT image_key, image_id FROM manifest WHERE volume_id = $name OR image_id = $name ORDER BY image_id != $name, image_id"
        found = connection.execute(like, {"name": name}).fetchall()
        if len(found) == 1 or (found and found[0][1] == name):
            return found[0][0]
        if found:
            raise UserError(
                f"volume '{name}' stands for {len(found)} volumes: {', '.join(i for _, i in found)}; give one of these ids"
            )
        ids = [row[0] for row in connection.execute(f"SELECT image_id FROM manifest LIMIT {_MOST_NAMED}").fetchall()]
        said = (
            nearest(name, ids) or f"its ids: cbmir sql --study {self.volumes.address} 'SELECT image_id FROM manifest'"
        )
        raise UserError(f"no volume '{name}' in {self.volumes.address}; {said}")

    def _inputs(self) -> list[str | None]:
        directory = f"encoder={path_name(self.encoder)}"
        of_slices, of_volumes = (("manifest",), ("embeddings", directory)), (("manifest",), ("slices", directory))
        runs = [self.study.run_of(*place) for place in of_slices] + [
            self.volumes.run_of(*place) for place in of_volumes
        ]
        return [f"{run['fingerprint']} {run.get('finished')}" if run else None for run in runs]


def _own(query: VolumeQuery, key: int, encoded: list[Encoded]) -> _Asked:
    """A query of images, with the vectors of those that can be read."""
    asked = _Asked(query, key)
    for number, (image, vector) in zip(query.numbers, encoded, strict=True):
        if isinstance(vector, str):
            place = f"slice {number}" if number is not None else image.name
            asked.left_out.append(f"{place}: {vector}" if len(encoded) > 1 else vector)
        else:
            asked.vectors.append(vector)
            asked.slices.append((number, image.uri))
    return asked if asked.vectors else _Asked(query, key, error=asked.left_out[0])


def _together(group: list[_Asked]) -> Volumes:
    """Queries as volumes; their slices' keys are places in the whole."""
    counts = np.array([len(asked.vectors) for asked in group])
    vectors = np.ascontiguousarray(np.concatenate([asked.vectors for asked in group]), np.float32)
    rows = np.arange(counts.sum())
    return Volumes(np.array([asked.key for asked in group]), counts, vectors, rows, rows)


def _middle(asked: _Asked) -> str | None:
    """The uri of a picture for all of the query."""
    uris = [uri for _, uri in asked.slices] or [image.uri for image in asked.query.images]
    return uris[len(uris) // 2] if uris else None
