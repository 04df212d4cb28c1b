"""Images of one's own -> their neighbors in a study, as many as one likes behind one loading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cbmir.encoders.build import Encoder
from cbmir.errors import UserError
from cbmir.images.ahead import one_ahead, read_ahead
from cbmir.images.errors import OF_ONE_IMAGE, ImageError, verdict
from cbmir.images.geometry import apply
from cbmir.index import open_index
from cbmir.indexing.opened import OpenIndex
from cbmir.patience import StorageError
from cbmir.querying.answers import Answer
from cbmir.querying.gallery import Gallery
from cbmir.querying.held import MOST_HELD, Held, HeldSearch
from cbmir.querying.inputs import Query
from cbmir.querying.reading import Reader, reader, rebuild, refuse_as_published, refuse_imported
from cbmir.querying.volumes import unsliced
from cbmir.querying.votes import vote
from cbmir.reducing.pca import Projection
from cbmir.reducing.record import is_reduced
from cbmir.reducing.stored import read_projection
from cbmir.search import EXACT, TRAIN
from cbmir.searching.searchers import ExactSearch, IndexSearch, no_codes, torch_device
from cbmir.select import keys_where
from cbmir.store import Study, path_name
from cbmir.vectors import Vectors, find_encoder

MOST_AT_ONCE = {"cpu": 4, "cuda": 64}  # images of a batch: a processor gains little from more, and answers would wait


def build_searcher(
    vectors: Vectors, keys: np.ndarray, held: Held | None, graph: OpenIndex | None, *, k: int, device: str
):
    """What has block(keys, queries) -> neighbors: exact where `graph` is None, else through the index."""
    if graph is not None:
        how = {"expansion": graph.run["expansion_search"], "rerank": graph.run["rerank"]}
        return IndexSearch(graph, keys, no_codes(), k=k, device=device, **how)

    def exact(source) -> ExactSearch:
        return ExactSearch(source, keys, no_codes(), k=k, device=device)

    return HeldSearch(held, exact, k=k) if held else exact(vectors)


class Lookup:
    """The encoder, the index and the manifest of a study, loaded once, for any number of images.

    encoder  as the study has it, or what only one of its names begins with
    index    'exact', or an index by its name; None: the only index that the encoder has, exact where it has none or several
    gallery  SQL predicate over the manifest; None: the index's own, split = 'train' for exact
    device   'auto', 'cpu' or 'cuda'

    Made of what is quick to look at, so that misuse is a UserError at once; `load` does the rest.
    """

    def __init__(
        self, study: Study, encoder: str, index: str | None = None, *, gallery: str | None = None, device: str = "auto"
    ) -> None:
        study.require("manifest")
        self.study = study
        self.encoder = find_encoder(study, encoder)
        self.index = index or usual_index(study, self.encoder)
        self.vectors = Vectors(study, self.encoder)
        refuse_imported(self.encoder, self.vectors.run)
        refuse_as_published(self.encoder, self.vectors.run)
        self.graph = None if self.index == EXACT else open_index(study, self.encoder, self.index)
        indexed = self.graph and self.graph.run["parameters"]["gallery"]
        self.gallery = Gallery(study, gallery or indexed or TRAIN)
        if indexed and gallery:
            self._refuse_outside(indexed)
        self.keys = self.vectors.keys(self.gallery.keys)
        self.device = torch_device(device)
        self.reader: Reader = reader(self.vectors.run)
        self.model: Encoder | None = None
        self.projection: Projection | None = None  # of a reduced encoder
        fits = self.graph is None and len(self.keys) * self.vectors.dim * 4 <= MOST_HELD
        self._held = Held(lambda: self.vectors.tiles(self.keys)) if fits else None
        self._searchers: dict[int, Any] = {}
        self._is_usual = index is None
        self._made_of = self._inputs()

    def load(self) -> None:
        """Build the encoder and read the gallery, what is said of it and, for exact search, its vectors; nothing where that is done."""
        if self.model is None:
            if is_reduced(self.vectors.run):
                self.projection = read_projection(self.study, self.encoder)
            self.model = rebuild(self.encoder, self.vectors.run, self.device)
            self.gallery.load()
            if self._held:
                self._held.load()

    def is_current(self) -> bool:
        """Whether manifest, embeddings and index are still those that were loaded."""
        other = self._is_usual and usual_index(self.study, self.encoder) != self.index
        return not other and self._made_of == self._inputs()

    def answers(self, queries: Iterable[Query], *, k: int = 10) -> Iterator[Answer]:
        """One Answer an image, in order, as soon as it is there; one that cannot be read has an error and no neighbors.

        The first image is answered alone, so that it need not wait; then more and more together, up to what the device is good at.
        """
        if not 1 <= k <= len(self.keys):
            raise UserError(
                f"-k {k}; expected 1 to {len(self.keys):,}, the embedded images of the gallery {self.gallery.predicate}"
            )
        return self._answers(list(queries), k)

    def _answers(self, queries: list[Query], k: int) -> Iterator[Answer]:
        self.load()
        most = MOST_AT_ONCE["cuda" if self.device == "cuda" else "cpu"]
        batch: list[tuple[Query, np.ndarray | str]] = []
        size = 1
        for pair in one_ahead(self._decoded(queries)):
            batch.append(pair)
            if len(batch) == size:
                yield from self._answered(batch, k)
                batch, size = [], min(2 * size, most)
        yield from self._answered(batch, k)

    def _decoded(self, queries: list[Query]) -> Iterator[tuple[Query, np.ndarray | str]]:
        """Each image with its pixels as the encoder takes them, or with why there are none."""
        files = read_ahead([query.uri for query in queries if query.uri])
        for query in queries:
            yield query, self._pixels(query, next(files) if query.uri else None)

    def _pixels(self, query: Query, data: bytes | ImageError | None) -> np.ndarray | str:
        geometry = self.model.spec.geometry
        try:
            if query.pixels is not None:
                return apply(geometry, self.reader.take(query.pixels))
            if query.uri is None:
                return query.error or "no image"
            if isinstance(data, ImageError):
                raise data
            return unsliced(query.uri, data) or apply(geometry, self.reader.read(query.uri, geometry, data))
        except StorageError:  # the store's fault, not the image's
            raise
        except OF_ONE_IMAGE as error:
            return ": ".join(verdict(error))

    def _answered(self, batch: list[tuple[Query, np.ndarray | str]], k: int) -> Iterator[Answer]:
        readable = [row for row, (_, pixels) in enumerate(batch) if not isinstance(pixels, str)]
        vectors = np.zeros((0, self.vectors.dim), np.float32)
        if readable:
            vectors = self._encoded(np.stack([batch[row][1] for row in readable]))
        finite = np.isfinite(vectors).all(axis=1)
        neighbors = iter(self._neighbors(vectors[finite], k))
        is_finite = dict(zip(readable, finite, strict=True))
        for row, (query, pixels) in enumerate(batch):
            if isinstance(pixels, str) or not is_finite[row]:
                error = pixels if isinstance(pixels, str) else "encode: the vector is not finite"
                yield Answer(query.name, query.uri, error=error)
            else:
                found = next(neighbors)
                yield Answer(query.name, query.uri, neighbors=found, votes=vote([n["labels"] for n in found]))

    def _encoded(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels as the encoder takes them -> (n, dim) float32, the study's kind of vectors."""
        vectors = self.model.encode(pixels)
        return self.projection.apply(vectors) if self.projection else vectors

    def _neighbors(self, vectors: np.ndarray, k: int) -> list[list[dict[str, Any]]]:
        """vectors (n, dim) float32 -> for each its neighbors, nearest first."""
        if len(vectors) == 0:
            return []
        if k not in self._searchers:
            self._searchers[k] = build_searcher(
                self.vectors, self.keys, self._held, self.graph, k=k, device=self.device
            )
        keys = -1 - np.arange(len(vectors))  # no image of the study has these
        near, distances, counts = self._searchers[k].block(keys, vectors)
        filled = np.arange(near.shape[1])[None, :] < counts[:, None]
        said = iter(self.gallery.described(near[filled]))
        return [
            [{"rank": rank + 1, "distance": float(distances[row, rank])} | next(said) for rank in range(count)]
            for row, count in enumerate(counts)
        ]

    def _refuse_outside(self, indexed: str) -> None:
        """UserError for a gallery that asks for images which the index does not hold."""
        held = keys_where(self.study, indexed, role="gallery")["image_key"].to_numpy()
        outside = len(np.setdiff1d(self.gallery.keys, held, assume_unique=True))
        if outside:
            raise UserError(
                f"--gallery {self.gallery.predicate!r} selects {outside:,} images that index {self.index} does not hold (it was built with "
                f"{indexed!r}); build one with that gallery, or use --index exact"
            )

    def _inputs(self) -> list[str | None]:
        places = [
            ("manifest",),
            ("embeddings", self.vectors.directory),
            ("index", path_name(self.encoder), path_name(self.index)),
        ]
        runs = [self.study.run_of(*place) for place in places]
        return [f"{run['fingerprint']} {run.get('finished')}" if run else None for run in runs]


def usual_index(study: Study, encoder: str) -> str:
    """The only finished index that an encoder has; 'exact' where it has none or several."""
    there = study.names("index", path_name(encoder))
    finished = [name for name in there if study.run_of("index", path_name(encoder), path_name(name))]
    return finished[0] if len(finished) == 1 else EXACT
