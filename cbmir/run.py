"""The whole way in one call: manifest, embed, index, search, evaluate, report. What is done is skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cbmir.datasets import Options
from cbmir.datasets.manifest import manifest_lines, write_manifest
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.plan import resolve_all
from cbmir.embedding.source import packed_for
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.exclusions import exclusion_codes
from cbmir.index import IndexOptions, build_index, index_line, refuse_bad_name
from cbmir.report import leaderboard, leaderboard_text, write_figures, write_report
from cbmir.search import EXACT, SearchOptions, search
from cbmir.select import keys_where
from cbmir.store import Study

Say = Callable[[str], None]


@dataclass(frozen=True)
class WayOptions:
    """What every way from a source to a report is asked with; overwrite is each stage's own."""

    source: str | None = None
    roots: list[str] = field(default_factory=list)
    source_options: Options = field(default_factory=Options)
    embed: EmbedOptions = field(default_factory=EmbedOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)


@dataclass(frozen=True)
class RunOptions(WayOptions):
    """That of images."""

    index: IndexOptions = field(default_factory=IndexOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    indexes: tuple[str, ...] = (EXACT, "hnsw")


def run(study: Study, encoders: list[str], options: RunOptions, *, say: Say = print) -> str:
    """Run every stage for all encoders -> path of the report. Raises what the stages raise."""
    specs = resolve_all(
        encoders, options.embed
    )  # misuse is said before anything is read, and long before it is embedded
    _refuse_nonsense(options)
    if options.embed.packed:
        packed_for(study, specs)
    list_images(study, options, say)
    gallery = options.search.gallery or options.index.gallery
    asked = options.search
    refuse_roles(study, gallery, asked.queries, asked.exclude_same, allow_overlap=options.evaluate.allow_overlap)
    embed(study, encoders, options.embed, say=say)
    for spec in specs:
        for index in options.indexes:
            _search_one(study, spec.name, index, options, say)
    return concluded(study, options.evaluate, "searches", say)


def list_images(study: Study, options: WayOptions, say: Say) -> None:
    """The manifest of the source, where one is named; else that which is there."""
    if options.source:
        record, written = write_manifest(
            study, options.source, options.roots, options.source_options, overwrite=options.embed.overwrite
        )
        for line in manifest_lines(record, written, study.address):
            say(line)


def refuse_roles(
    study: Study, gallery: str, queries: str, exclude_same: tuple[str, ...], *, allow_overlap: bool
) -> None:
    """UserError for roles that a search or its figures would refuse, hours later."""
    for role, predicate in (("gallery", gallery), ("queries", queries)):
        keys_where(study, predicate, role=role)
    if not allow_overlap:
        refuse_overlap(study, gallery=gallery, queries=queries, exclude_same=exclude_same)
    exclusion_codes(study, exclude_same)


def concluded(study: Study, options: EvaluateOptions, searches: str, say: Say) -> str:
    """Figures, charts, leaderboard and report of all `searches`, as they are called -> path of the report."""
    record = evaluate(study, options, say=say)
    say(f"metrics: {record['rows']:,} figures of {len(record['inputs'])} {searches}")
    path = write_report(study)
    charts = write_figures(study)
    say("")
    say(leaderboard_text(leaderboard(study)))
    say(f"figures: {study.path('figures')} ({len(charts)} files)")
    say(f"report: {path}")
    return path


def _refuse_nonsense(options: RunOptions) -> None:
    options.embed.refuse_nonsense()
    options.index.refuse_nonsense()
    options.search.refuse_nonsense()
    options.evaluate.refuse_nonsense()
    for index in options.indexes:
        if index != EXACT:
            refuse_bad_name(index)


def _search_one(study: Study, encoder: str, index: str, options: RunOptions, say: Say) -> None:
    if index != EXACT:
        record, built = build_index(study, encoder, index, options.index)
        say(index_line(encoder, index, record, built))
    asked = options.search if index == EXACT else replace(options.search, expansion_search=None)
    record, searched = search(study, encoder, index, asked)
    say(
        f"search {index} of {encoder}: {record['queries']:,} queries in {record['gallery']:,} images{'' if searched else ', already searched'}"
    )
