"""Volumes, the whole way in one call: manifest, embed, volumes, every search, the slices that match, evaluate, report. What is done is skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cbmir.datasets import Options
from cbmir.datasets.manifest import manifest_lines, write_manifest
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.plan import resolve_all
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.report import leaderboard, leaderboard_text, write_figures, write_report
from cbmir.search import EXACT, SearchOptions, search
from cbmir.store import Study
from cbmir.volume_search import match_all, search_volumes
from cbmir.volumes import make_volumes, refuse_volumes
from cbmir.volumetric.options import MEAN, ReductionOptions, VolumeSearchOptions
from cbmir.volumetric.reductions import parse_reductions


@dataclass(frozen=True)
class VolumeRunOptions:
    """The options of every stage; overwrite is each stage's own."""

    source: str | None = None
    roots: list[str] = field(default_factory=list)
    source_options: Options = field(default_factory=Options)
    embed: EmbedOptions = field(default_factory=EmbedOptions)
    reductions: ReductionOptions = field(default_factory=ReductionOptions)
    search: VolumeSearchOptions = field(default_factory=VolumeSearchOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)


def run_volumes(
    study: Study, encoders: list[str], options: VolumeRunOptions, *, say: Callable[[str], None] = print
) -> str:
    """Run every stage for all encoders -> path of the report of the volumes. Raises what the stages raise."""
    resolve_all(encoders, options.embed)  # misuse is said before anything is read
    _refuse_nonsense(options)
    refuse_volumes(study)
    if options.source:
        record, written = write_manifest(
            study, options.source, options.roots, options.source_options, overwrite=options.embed.overwrite
        )
        for line in manifest_lines(record, written, study.address):
            say(line)
    embed(study, encoders, options.embed, say=say)
    volumes, made = make_volumes(study, encoders, options.reductions, say=say)
    asked = options.search
    if not options.evaluate.allow_overlap:
        refuse_overlap(volumes, gallery=asked.gallery, queries=asked.queries, exclude_same=asked.exclude_same)
    for encoder, names in made.items():
        for name in names:
            _search_vectors(volumes, name, asked, say)
        search_volumes(study, encoder, asked, say=say)
        match_all(study, encoder, device=asked.device)
    record = evaluate(volumes, options.evaluate, say=say)
    say(f"metrics: {record['rows']:,} figures of {len(record['inputs'])} searches of volumes")
    path = write_report(volumes)
    charts = write_figures(volumes)
    say("")
    say(leaderboard_text(leaderboard(volumes)))
    say(f"figures: {volumes.path('figures')} ({len(charts)} files)")
    say(f"report: {path}")
    return path


def _refuse_nonsense(options: VolumeRunOptions) -> None:
    options.embed.refuse_nonsense()
    options.search.refuse_nonsense()
    options.evaluate.refuse_nonsense()
    kinds = [reduction.kind for reduction in parse_reductions(options.reductions.reductions, 2)]
    if "late" in options.search.modes and options.search.candidates is not None and MEAN not in kinds:
        raise UserError(
            f"--by late ranks the candidates of the mean vectors again; expected {MEAN} among --reduce {','.join(options.reductions.reductions)}, or --candidates all"
        )


def _search_vectors(volumes: Study, name: str, asked: VolumeSearchOptions, say: Callable[[str], None]) -> None:
    """Exact neighbors by vectors of volumes."""
    options = SearchOptions(
        k=asked.k, gallery=asked.gallery, queries=asked.queries, exclude_same=asked.exclude_same, metric=asked.metric, device=asked.device,
        overwrite=asked.overwrite,
    )  # fmt: skip
    run, searched = search(volumes, name, EXACT, options)
    say(
        f"search {EXACT} of {name}: {run['queries']:,} volumes in {run['gallery']:,}{'' if searched else ', already searched'}"
    )
