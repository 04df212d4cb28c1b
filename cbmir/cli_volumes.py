"""The commands of volumes: flags -> one call, and what a person is told of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cbmir.errors import UserError
from cbmir.flags.typed import options_of
from cbmir.store import Study


def _volumes(a: argparse.Namespace) -> None:
    from cbmir.volumes import make_volumes
    from cbmir.volumetric.options import ReductionOptions

    options = ReductionOptions(reductions=a.reduce, overwrite=a.overwrite, ray_address=a.ray_address)
    volumes, _ = make_volumes(Study(a.study), a.encoder, options)
    print(
        f"search them: cbmir search --study {volumes.address} --encoder NAME --index exact, or cbmir volumes search --study {a.study} --encoder NAME"
    )


def _search(a: argparse.Namespace) -> None:
    from cbmir.flags.typed import volume_search_options
    from cbmir.volume_search import match_all, search_volumes

    options = volume_search_options(a)
    for encoder in a.encoder:
        search_volumes(Study(a.study), encoder, options)
        match_all(Study(a.study), encoder, device=options.device)


def _run(a: argparse.Namespace) -> None:
    from cbmir.evaluating.options import EvaluateOptions
    from cbmir.flags.source import source_options
    from cbmir.flags.typed import embed_options, evaluate_options, volume_search_options
    from cbmir.volume_run import VolumeRunOptions, run_volumes
    from cbmir.volumetric.options import ReductionOptions

    if a.source and not a.roots:
        raise UserError(f"source {a.source} without ROOT; expected cbmir volumes run SOURCE ROOT... --study DIR")
    options = VolumeRunOptions(
        source=a.source,
        roots=a.roots,
        source_options=source_options(a),
        embed=embed_options(a),
        reductions=ReductionOptions(reductions=a.reduce, overwrite=a.overwrite, ray_address=a.ray_address),
        search=volume_search_options(a),
        evaluate=EvaluateOptions(**evaluate_options(a)),
    )
    run_volumes(Study(a.study), a.encoder, options)


def query_volumes(a: argparse.Namespace) -> None:
    from cbmir.volume_query import VolumeQueryOptions
    from cbmir.volume_query import query_volumes as query

    matches = VolumeQueryOptions.matches if a.matches is None else a.matches
    options = options_of(VolumeQueryOptions, a, matches=matches)
    query(Study(a.study), a.encoder, a.images, options, ids=a.volume, slices=a.slices)


VOLUMES: dict[str, Callable[[argparse.Namespace], None]] = {
    "volumes": _volumes,
    "volumes search": _search,
    "volumes run": _run,
}
