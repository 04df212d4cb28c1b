"""Parsed flags -> the options of a stage, where several commands take the same."""

from __future__ import annotations

import argparse

from cbmir.errors import UserError
from cbmir.flags.kinds import weights_flag


def embed_options(a: argparse.Namespace):
    from cbmir.embedding.options import EmbedOptions

    return EmbedOptions(
        image_size=a.image_size,
        batch_size=a.batch_size,
        device=a.device,
        precision=a.precision,
        compiled=a.compile,
        reach=reach(a),
        dtype=a.dtype_stored,
        packed=a.packed,
        whole_decode=a.whole_decode,
        color_resize=a.color_resize,
        decode_workers=a.decode_workers,
        profile=a.profile,
        weights=weights_flag(a.weights, a.encoder),
        random_weights=a.random_weights,
        max_failures=a.max_failures,
        overwrite=a.overwrite,
        retry_failures=a.retry_failures,
        ray_address=a.ray_address,
    )


def index_options(a: argparse.Namespace):
    from cbmir.index import IndexOptions

    fields = set(IndexOptions.__dataclass_fields__) - {"gallery"}
    return IndexOptions(gallery=a.gallery or IndexOptions.gallery, **{field: getattr(a, field) for field in fields})


def index_size_options(a: argparse.Namespace):
    """Flags of `study index-size`: --recall is what the tuned expansion is found for, and not a part of the index."""
    from cbmir.index import IndexOptions
    from cbmir.sampled.options import SCORES, ScalingOptions

    of_index = ("dtype", "pca", "connectivity", "expansion_add", "expansion_search", "recall_at", "rerank")
    return ScalingOptions(
        sizes=a.sizes,
        seeds=a.seeds,
        sampling=a.sampling,
        indexes=a.index,
        gallery=a.gallery or ScalingOptions.gallery,
        queries=a.queries,
        exclude_same=tuple(a.exclude_same),
        metric=a.metric,
        k=a.depth,
        ks=tuple(a.k),
        scores=tuple(a.score or SCORES),
        index=IndexOptions(**{name: getattr(a, name) for name in of_index}),
        recall=a.recall,
        resamples=a.resamples,
        at=a.at,
        allow_overlap=a.allow_overlap,
        cpus_per_task=a.cpus_per_task,
        ray_address=a.ray_address,
        device=a.device,
        overwrite=a.overwrite,
    )


def encoders_options(a: argparse.Namespace):
    from cbmir.leaderboard import EncodersOptions

    if a.exclude_same and a.exclude_nothing:
        raise UserError("--exclude-same and --exclude-nothing; expected one of both")
    passed_over = () if a.exclude_nothing else tuple(a.exclude_same) if a.exclude_same else None
    given = {"encoders": tuple(a.encoder or ()), "exclude_same": passed_over}
    fields = set(EncodersOptions.__dataclass_fields__) - set(given)
    return EncodersOptions(**given, **{field: getattr(a, field) for field in fields})


def effort_options(a: argparse.Namespace):
    from cbmir.sweeping.options import EffortOptions

    same = ("metric", "queries", "expansion_add", "recall", "rounds", "timed_queries", "threads", "resamples", "seed",
            "allow_overlap", "keep_graphs", "device", "overwrite")  # fmt: skip
    return EffortOptions(
        gallery=a.gallery or EffortOptions.gallery,
        exclude_same=tuple(a.exclude_same),
        dtypes=a.dtypes,
        pcas=a.pca,
        connectivities=tuple(a.connectivity),
        expansions=tuple(a.expansions),
        reranks=tuple(a.reranks),
        ks=tuple(a.k),
        scores=tuple(a.score or EffortOptions.scores),
        **{field: getattr(a, field) for field in same},
    )


def image_size_options(a: argparse.Namespace):
    from cbmir.sizing.options import ImageSizeOptions

    same = ("queries", "metric", "resamples", "permutations", "seed", "allow_overlap")
    return ImageSizeOptions(
        sizes=tuple(a.sizes),
        embed=embed_options(a),
        gallery=a.gallery or ImageSizeOptions.gallery,
        exclude_same=tuple(a.exclude_same),
        ks=tuple(a.k),
        **{field: getattr(a, field) for field in same},
    )


def evaluate_options(a: argparse.Namespace) -> dict:
    """What `evaluate` and `run` take alike."""
    return {"ks": tuple(a.k) if a.k else None, "resamples": a.resamples, "allow_overlap": a.allow_overlap}


def reach(a: argparse.Namespace):
    from cbmir.encoders.fetch import Reach

    return Reach(cache=a.weights_cache, offline=a.offline)


def volume_search_options(a: argparse.Namespace):
    from cbmir.volumetric.options import VolumeSearchOptions

    return VolumeSearchOptions(
        modes=a.by,
        k=a.depth,
        gallery=a.gallery or VolumeSearchOptions.gallery,
        queries=a.queries,
        exclude_same=tuple(a.exclude_same),
        metric=a.metric,
        neighbors=a.neighbors,
        candidates=a.candidates,
        device=a.device,
        overwrite=a.overwrite,
    )
