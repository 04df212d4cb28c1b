"""The study as a Python object, for notebooks and scripts.

from cbmir import Study

study = Study("study")
study.query("scan.png", encoder="biomedclip", k=10)  # -> pandas DataFrame
study.metrics(metric="precision_at_k", relevance="label", k=1, slice_by="all", average="micro")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cbmir import store
from cbmir.errors import UserError
from cbmir.frames import figures, image_ids, neighbors_frame, published_figures, search_of, turned
from cbmir.vectors import find_encoder

if TYPE_CHECKING:
    import pandas as pd

    from cbmir.lookup import Lookup
    from cbmir.querying.answers import Answer
    from cbmir.volume_lookup import VolumeLookup

Names = str | Sequence[str] | None


class Study(store.Study):
    """One study directory, local, s3://... or gs://..., and questions to it."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._lookups: dict[tuple, Lookup | VolumeLookup] = {}

    def __repr__(self) -> str:
        return f"Study({self.address!r})"

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders whose embeddings are finished."""
        return [
            name for name in self.names("embeddings") if self.run_of("embeddings", f"encoder={store.path_name(name)}")
        ]

    def indexes(self, encoder: str) -> list[str]:
        """Names of an encoder's finished indexes; 'exact' is always there beside them."""
        parts = ("index", store.path_name(encoder))
        return [name for name in self.names(*parts) if self.run_of(*parts, store.path_name(name))]

    def query(
        self,
        images: Any = None,
        *,
        encoder: str,
        index: str | None = None,
        k: int = 10,
        gallery: str | None = None,
        device: str = "auto",
        volumes: bool = False,
        volume: str | Sequence[str] | None = None,
        slices: str | None = None,
        matches: int = 3,
    ) -> pd.DataFrame:
        """The k nearest gallery images of each image: a row a neighbor, nearest first.

        images   a path or address of an image, of a slice (`brain.nii.gz#axis=2&slice=30`) or of a directory; an array (H, W) or
                 (H, W, 3) of uint8; an image of Pillow; or a list of these
        encoder  one that the study was embedded with
        index    'exact' or an index's name; None: the encoder's only index, exact where it has none or several
        gallery  SQL predicate over the manifest; None: the index's own, split = 'train' for exact

        Columns: query (the path, or images[i]), rank from 1, distance, image_id, labels (list), modality, region, split, uri.
        `attrs["votes"]`: query -> [[label, share of its neighbors that have it], ...], the largest first; last, under None, the share
        that has no label. `attrs["failures"]`: query -> why it could not be read. UserError where no image can be read, and for misuse;
        where some cannot be, a warning.

        Encoder and index are loaded at the first call and kept as long as this object is, for the next ones.

        volumes  True: the volumes that are nearest by all of their slices. `images` may then be whole volumes, ranges of slices
                 (`brain.nii.gz#axis=2&slice=20-40`), directories of DICOM files, and arrays (n, H, W); `gallery` is of volumes
        volume   ids of volumes of the study, to ask with their stored vectors; `slices`: only these of them ('20-40')
        matches  pairs of slices of each volume found. Further columns: volume_id, n_slices, slices: a list of dicts (query_slice, query_uri, slice, uri,
                 distance), the nearest pair first. `attrs["left_out"]`: query -> slices that it lacks, and why
        """
        from cbmir.querying.frames import answers_frame

        if volumes or volume is not None:
            answers = self._volume_answers(images, volume, slices, (encoder, index, gallery, device), k, matches)
        else:
            answers = self._image_answers(images, slices, (encoder, index, gallery, device), k)
        frame, lacking = answers_frame(answers, of_volumes=volumes or volume is not None)
        if lacking:
            _warn(lacking, 3)
        return frame

    def _image_answers(self, images: Any, slices: str | None, asked: tuple, k: int) -> list[Answer]:
        from cbmir.lookup import Lookup
        from cbmir.querying.inputs import from_python

        encoder, index, gallery, device = asked
        if slices is not None:
            raise UserError(f"slices={slices!r} is of volumes of the study; expected volume=ID with it")
        lookup = self._lookup(("images", *asked), lambda: Lookup(self, encoder, index, gallery=gallery, device=device))
        return list(lookup.answers(from_python(images, say=_warn), k=k))

    def _volume_answers(
        self, images: Any, volume: Names, slices: str | None, asked: tuple, k: int, matches: int
    ) -> list[Answer]:
        from cbmir.querying.volume_inputs import stored_volumes, volumes_from_python
        from cbmir.volume_lookup import VolumeLookup
        from cbmir.volume_query import refuse_nonsense

        encoder, index, gallery, device = asked
        ids = [volume] if isinstance(volume, str) else list(volume or [])
        refuse_nonsense(index, slices, ids)
        own = volumes_from_python(images, say=_warn) if images is not None else []
        lookup = self._lookup(
            ("volumes", encoder, gallery, device), lambda: VolumeLookup(self, encoder, gallery=gallery, device=device)
        )
        return list(lookup.answers(own + stored_volumes(ids, slices), k=k, matches=matches))

    def metrics(
        self,
        *,
        encoder: Names = None,
        index: Names = None,
        metric: Names = None,
        relevance: Names = None,
        k: int | Sequence[int] | None = None,
        slice_by: Names = None,
        slice: Names = None,
        average: Names = None,
    ) -> pd.DataFrame:
        """Figures of searches of the whole gallery, with the columns of `metrics` (cbmir/schemas/). Each filter is a value or several; None: all of them.

        Rows of other metrics, k, levels of relevance, slices and averages are other figures: name all of them before taking a mean. `k` is a nullable integer:
        missing for metrics that are asked at none. A value that is nowhere in its column is a UserError; values that never stand together give no rows.
        """
        return figures(
            self, "metrics", encoder=self._found(encoder), index=index, metric=metric, relevance=relevance, k=k,
            slice_by=slice_by, slice=slice, average=average,
        )  # fmt: skip

    def scaling(
        self,
        *,
        encoder: Names = None,
        index: Names = None,
        sampling: Names = None,
        seed: int | Sequence[int] | None = None,
        metric: Names = None,
        relevance: Names = None,
        k: int | Sequence[int] | None = None,
        slice_by: Names = None,
        slice: Names = None,
        average: Names = None,
    ) -> pd.DataFrame:
        """Figures of samples of the gallery (`cbmir study index-size`), a row for each of `metrics` with its sampling, seed, sample_size and gallery_size."""
        return figures(
            self, "scaling", encoder=self._found(encoder), index=index, sampling=sampling, seed=seed, metric=metric, relevance=relevance, k=k,
            slice_by=slice_by, slice=slice, average=average,
        )  # fmt: skip

    def fits(
        self, *, encoder: Names = None, index: Names = None, metric: Names = None, k: int | Sequence[int] | None = None
    ) -> pd.DataFrame:
        """Curves fitted to those figures, and what they let expect of larger galleries (`is_extrapolation`)."""
        return figures(self, "fits", encoder=self._found(encoder), index=index, metric=metric, k=k)

    def comparisons(
        self,
        a: str | None = None,
        b: str | None = None,
        *,
        metric: Names = None,
        relevance: Names = None,
        k: int | Sequence[int] | None = None,
        slice_by: Names = None,
        slice: Names = None,
        average: Names = None,
    ) -> pd.DataFrame:
        """Differences between searches of encoder `a`, and of `b`, with the columns of `comparisons`; filters as those of `metrics`.

        The dataset has each pair once. Where `a` is given, it stands on the left: difference = value of a - value of b.
        """
        found = figures(
            self, "comparisons", metric=metric, relevance=relevance, k=k, slice_by=slice_by, slice=slice, average=average
        )  # fmt: skip
        pair = [self._found(name) for name in (a, b)]
        for asked, other in (pair, pair[::-1]):
            if asked is not None:
                stands = (found["encoder_a"] == asked) | (found["encoder_b"] == asked)
                alike = asked != other or (found["encoder_a"] == found["encoder_b"])
                found = found[stands & alike].reset_index(drop=True)
        return found if pair[0] is None else turned(found, pair[0])

    def query_metrics(
        self,
        encoder: str,
        index: str = "exact",
        *,
        metric: Names = None,
        relevance: Names = None,
        k: int | Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """What each query of one search scored: image_id, and the columns of `query_metrics`. A failed query scores 0.

        Some sixty rows a query: name the metric where there are many queries. Joined on image_id or query_key = image_key, the manifest says whose they are.
        """
        parts = ("query_metrics", *search_of(self, "query_metrics", self._found(encoder), index))
        found = figures(self, *parts, metric=metric, relevance=relevance, k=k)
        found.insert(0, "image_id", image_ids(self, found["query_key"].to_numpy()))
        return found

    def neighbors(
        self,
        encoder: str,
        index: str = "exact",
        *,
        k: int | None = 10,
        queries: str | Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """What each query of one search found: a row a query and rank, by query and rank.

        k        the first k neighbors; None: all that were searched (100 unless said otherwise)
        queries  SQL predicate over the manifest, or image_ids; None: all queries of the search

        Columns: query and neighbor (image_ids), rank from 1, distance, query_labels and neighbor_labels (lists), query_key, neighbor_key.
        A query that failed has no row. Of 160,000 queries, k=10 takes 2 seconds and 0.9 GB of memory, all 100 take 23 seconds and 6 GB.
        """
        return neighbors_frame(self, self._found(encoder), index, k=k, queries=queries)

    def published(
        self,
        *,
        paper: Names = None,
        dataset: Names = None,
        image_size: int | Sequence[int] | None = None,
        encoder: Names = None,
        metric: Names = None,
    ) -> pd.DataFrame:
        """Figures that papers have published, with the columns of the view `published`; the same in every study. Filters as those of `metrics`.

        `value` is a share in 0..1 (`printed`: as printed); `encoder` is the printed name, `cbmir_encoder` what cbmir calls it. A figure with a `note` is a misprint, or
        is to be read with care.
        """
        return published_figures(paper=paper, dataset=dataset, image_size=image_size, encoder=encoder, metric=metric)

    def sql(self, statement: str) -> pd.DataFrame:
        """The result of one SQL statement over the views of `cbmir sql`: manifest, embeddings, neighbors, metrics ..."""
        from cbmir.session import frame

        return frame(self, statement)

    def _found(self, encoder: Any) -> Any:
        """Names of encoders as people may shorten them -> those of the study."""
        if encoder is None or isinstance(encoder, str):
            return encoder and find_encoder(self, encoder)
        return [find_encoder(self, name) for name in encoder]

    def _lookup(self, asked: tuple, load: Callable[[], Any]) -> Any:
        """What was loaded for the same question, unless the study has changed since."""
        held = self._lookups.get(asked)
        if held is None or not held.is_current():
            self._lookups[asked] = held = load()
        return held


def _warn(line: str, stacklevel: int = 4) -> None:
    warnings.warn(line, UserWarning, stacklevel=stacklevel)
