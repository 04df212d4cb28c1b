"""Parsed flags -> the options of a stage, where several commands take the same."""

from __future__ import annotations

import argparse

from cbmir.errors import UserError
from cbmir.flags.kinds import weights_flag


def options_of(kind: type, a: argparse.Namespace, **given):
    """`kind`, a dataclass, of the flags that are called as its fields are, but for those `given`."""
    rest = kind.__dataclass_fields__.keys() - given.keys()
    return kind(**given, **{field: getattr(a, field) for field in rest})


def embed_options(a: argparse.Namespace):
    from cbmir.embedding.options import EmbedOptions

    weights = weights_flag(a.weights, a.encoder)
    return options_of(EmbedOptions, a, compiled=a.compile, dtype=a.dtype_stored, reach=reach(a), weights=weights)


def index_options(a: argparse.Namespace):
    from cbmir.index import IndexOptions

    return options_of(IndexOptions, a, gallery=a.gallery or IndexOptions.gallery)


def index_size_options(a: argparse.Namespace):
    """Flags of `study index-size`: --recall is what the tuned expansion is found for, and not a part of the index."""
    from cbmir.index import IndexOptions
    from cbmir.sampled.options import SCORES, ScalingOptions

    of_index = ("dtype", "pca", "connectivity", "expansion_add", "expansion_search", "recall_at", "rerank")
    return options_of(
        ScalingOptions,
        a,
        indexes=a.index,
        gallery=a.gallery or ScalingOptions.gallery,
        exclude_same=tuple(a.exclude_same),
        k=a.depth,
        ks=tuple(a.k),
        scores=tuple(a.score or SCORES),
        index=IndexOptions(**{name: getattr(a, name) for name in of_index}),
    )


def encoders_options(a: argparse.Namespace):
    from cbmir.leaderboard import EncodersOptions

    if a.exclude_same and a.exclude_nothing:
        raise UserError("--exclude-same and --exclude-nothing; expected one of both")
    passed_over = () if a.exclude_nothing else tuple(a.exclude_same) if a.exclude_same else None
    return options_of(EncodersOptions, a, encoders=tuple(a.encoder or ()), exclude_same=passed_over)


def effort_options(a: argparse.Namespace):
    from cbmir.sweeping.options import EffortOptions

    return options_of(
        EffortOptions,
        a,
        gallery=a.gallery or EffortOptions.gallery,
        exclude_same=tuple(a.exclude_same),
        pcas=a.pca,
        connectivities=tuple(a.connectivity),
        expansions=tuple(a.expansions),
        reranks=tuple(a.reranks),
        ks=tuple(a.k),
        scores=tuple(a.score or EffortOptions.scores),
    )


def image_size_options(a: argparse.Namespace):
    from cbmir.sizing.options import ImageSizeOptions

    return options_of(
        ImageSizeOptions,
        a,
        sizes=tuple(a.sizes),
        embed=embed_options(a),
        gallery=a.gallery or ImageSizeOptions.gallery,
        exclude_same=tuple(a.exclude_same),
        ks=tuple(a.k),
    )


def evaluate_options(a: argparse.Namespace) -> dict:
    """What `evaluate` and `run` take alike."""
    return {"ks": tuple(a.k) if a.k else None, "resamples": a.resamples, "allow_overlap": a.allow_overlap}


def reach(a: argparse.Namespace):
    from cbmir.encoders.fetch import Reach

    return Reach(cache=a.weights_cache, offline=a.offline)


def volume_search_options(a: argparse.Namespace):
    from cbmir.volumetric.options import VolumeSearchOptions

    return options_of(
        VolumeSearchOptions,
        a,
        modes=a.by,
        k=a.depth,
        gallery=a.gallery or VolumeSearchOptions.gallery,
        exclude_same=tuple(a.exclude_same),
    )
