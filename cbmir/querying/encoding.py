"""Images of one's own -> vectors of a study's kind, in batches that grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cbmir.encoders.build import Encoder
from cbmir.images.ahead import one_ahead, read_ahead
from cbmir.images.errors import OF_ONE_IMAGE, ImageError, verdict
from cbmir.images.geometry import apply
from cbmir.patience import StorageError
from cbmir.querying.inputs import Query
from cbmir.querying.reading import Reader, reader, rebuild, refuse_as_published, refuse_imported
from cbmir.querying.volumes import unsliced
from cbmir.reducing.pca import Projection
from cbmir.reducing.record import is_reduced
from cbmir.reducing.stored import read_projection
from cbmir.vectors import Vectors

MOST_AT_ONCE = {"cpu": 4, "cuda": 64}  # images of a batch: a processor gains little from more, and answers would wait

Encoded = tuple[Query, np.ndarray | str]  # an image with its vector (dim,) float32, or with why it has none


class ImageVectors:
    """The encoder that made a study's vectors, and what was done to images before it and to vectors after it.

    device: 'cpu' or 'cuda'. UserError where new images cannot have such vectors.
    """

    def __init__(self, vectors: Vectors, device: str) -> None:
        refuse_imported(vectors.encoder, vectors.run)
        refuse_as_published(vectors.encoder, vectors.run)
        self.vectors = vectors
        self.device = device
        self.reader: Reader = reader(vectors.run)
        self.model: Encoder | None = None
        self.projection: Projection | None = None  # of a reduced encoder

    def load(self) -> None:
        """Build the encoder, where that is not done."""
        if self.model is None:
            if is_reduced(self.vectors.run):
                self.projection = read_projection(self.vectors.study, self.vectors.encoder)
            self.model = rebuild(self.vectors.encoder, self.vectors.run, self.device)

    def of(self, queries: Iterable[Query], *, first: int = 1) -> Iterator[list[Encoded]]:
        """All images in order, in batches: `first` images, then more and more together, up to what the device is good at."""
        self.load()
        most = MOST_AT_ONCE["cuda" if self.device == "cuda" else "cpu"]
        batch: list[tuple[Query, np.ndarray | str]] = []
        size = min(first, most)
        for pair in one_ahead(self._decoded(list(queries))):
            batch.append(pair)
            if len(batch) == size:
                yield self._encoded(batch)
                batch, size = [], min(2 * size, most)
        if batch:
            yield self._encoded(batch)

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

    def _encoded(self, batch: list[tuple[Query, np.ndarray | str]]) -> list[Encoded]:
        readable = [row for row, (_, pixels) in enumerate(batch) if not isinstance(pixels, str)]
        found: list[Encoded] = list(batch)
        if readable:
            vectors = self.model.encode(np.stack([batch[row][1] for row in readable]))
            vectors = self.projection.apply(vectors) if self.projection else vectors
            for row, vector in zip(readable, vectors, strict=True):
                finite = bool(np.isfinite(vector).all())
                found[row] = (batch[row][0], vector if finite else "encode: the vector is not finite")
        return found
