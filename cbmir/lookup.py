"""Images of one's own -> their neighbors in a study, as many as one likes behind one loading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cbmir.errors import UserError
from cbmir.index import open_index
from cbmir.indexing.opened import OpenIndex
from cbmir.querying.answers import Answer
from cbmir.querying.encoding import Encoded, ImageVectors
from cbmir.querying.gallery import Gallery
from cbmir.querying.held import MOST_HELD, Held, HeldSearch
from cbmir.querying.inputs import Query
from cbmir.querying.votes import vote
from cbmir.search import EXACT, TRAIN
from cbmir.searching.searchers import ExactSearch, IndexSearch, no_codes, torch_device
from cbmir.select import keys_where
from cbmir.store import Study, path_name
from cbmir.vectors import Vectors, find_encoder


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
        self.device = torch_device(device)
        self.images = ImageVectors(self.vectors, self.device)
        self.graph = None if self.index == EXACT else open_index(study, self.encoder, self.index)
        indexed = self.graph and self.graph.run["parameters"]["gallery"]
        self.gallery = Gallery(study, gallery or indexed or TRAIN)
        if indexed and gallery:
            self._refuse_outside(indexed)
        self.keys = self.vectors.keys(self.gallery.keys)
        self._is_loaded = False
        fits = self.graph is None and len(self.keys) * self.vectors.dim * 4 <= MOST_HELD
        self._held = Held(lambda: self.vectors.tiles(self.keys)) if fits else None
        self._searchers: dict[int, Any] = {}
        self._is_usual = index is None
        self._made_of = self._inputs()

    def load(self) -> None:
        """Build the encoder and read the gallery, what is said of it and, for exact search, its vectors; nothing where that is done."""
        if not self._is_loaded:
            self.images.load()
            self.gallery.load()
            if self._held:
                self._held.load()
            self._is_loaded = True

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
        for batch in self.images.of(queries):
            yield from self._answered(batch, k)

    def _answered(self, batch: list[Encoded], k: int) -> Iterator[Answer]:
        vectors = [vector for _, vector in batch if not isinstance(vector, str)]
        neighbors = iter(self._neighbors(np.stack(vectors), k) if vectors else [])
        for query, vector in batch:
            if isinstance(vector, str):
                yield Answer(query.name, query.uri, error=vector)
            else:
                found = next(neighbors)
                yield Answer(query.name, query.uri, neighbors=found, votes=vote([n["labels"] for n in found]))

    def _neighbors(self, vectors: np.ndarray, k: int) -> list[list[dict[str, Any]]]:
        """vectors (n, dim) float32 -> for each its neighbors, nearest first."""
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
