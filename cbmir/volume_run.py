"""Volumes, the whole way in one call: manifest, embed, volumes, every search, the slices that match, evaluate, report. What is done is skipped."""

from __future__ import annotations

from dataclasses import dataclass, field

from cbmir.embed import embed
from cbmir.embedding.plan import resolve_all
from cbmir.errors import UserError
from cbmir.run import Say, WayOptions, concluded, list_images, refuse_roles
from cbmir.search import EXACT, SearchOptions, search
from cbmir.store import Study
from cbmir.volume_search import match_all, search_volumes
from cbmir.volumes import list_volumes, make_volumes, refuse_volumes
from cbmir.volumetric.options import MEAN, ReductionOptions, VolumeSearchOptions
from cbmir.volumetric.reductions import parse_reductions


@dataclass(frozen=True)
class VolumeRunOptions(WayOptions):
    """That of volumes."""

    reductions: ReductionOptions = field(default_factory=ReductionOptions)
    search: VolumeSearchOptions = field(default_factory=VolumeSearchOptions)


def run_volumes(study: Study, encoders: list[str], options: VolumeRunOptions, *, say: Say = print) -> str:
    """Run every stage for all encoders -> path of the report of the volumes. Raises what the stages raise."""
    specs = resolve_all(encoders, options.embed)  # misuse is said before anything is read
    _refuse_nonsense(options)
    refuse_volumes(study)
    list_images(study, options, say)
    asked, volumes = options.search, list_volumes(study)
    refuse_roles(
        volumes, asked.gallery, asked.queries, asked.exclude_same, allow_overlap=options.evaluate.allow_overlap
    )
    embed(study, encoders, options.embed, say=say)
    volumes, made = make_volumes(study, [spec.name for spec in specs], options.reductions, say=say)
    for encoder, names in made.items():
        for name in names:
            _search_vectors(volumes, name, asked, say)
        search_volumes(study, encoder, asked, say=say)
        match_all(study, encoder, device=asked.device)
    return concluded(volumes, options.evaluate, "searches of volumes", say)


def _refuse_nonsense(options: VolumeRunOptions) -> None:
    options.embed.refuse_nonsense()
    options.search.refuse_nonsense()
    options.evaluate.refuse_nonsense()
    kinds = [reduction.kind for reduction in parse_reductions(options.reductions.reductions, 2)]
    if "late" in options.search.modes and options.search.candidates is not None and MEAN not in kinds:
        raise UserError(
            f"--by late ranks the candidates of the mean vectors again; expected {MEAN} among --reduce {','.join(options.reductions.reductions)}, or --candidates all"
        )


def _search_vectors(volumes: Study, name: str, asked: VolumeSearchOptions, say: Say) -> None:
    """Exact neighbors by vectors of volumes."""
    options = SearchOptions(
        k=asked.k, gallery=asked.gallery, queries=asked.queries, exclude_same=asked.exclude_same, metric=asked.metric, device=asked.device,
        overwrite=asked.overwrite,
    )  # fmt: skip
    run, searched = search(volumes, name, EXACT, options)
    say(
        f"search {EXACT} of {name}: {run['queries']:,} volumes in {run['gallery']:,}{'' if searched else ', already searched'}"
    )
