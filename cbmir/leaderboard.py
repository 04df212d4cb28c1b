"""Study: the encoders of a study held against each other. What is not searched yet is searched, figures are made where they are missing."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cbmir.errors import UserError, nearest
from cbmir.evaluate import evaluate
from cbmir.evaluating.beforehand import evaluated_with, extending, refuse_searches
from cbmir.evaluating.options import LEVELS, EvaluateOptions
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.evaluating.searches import find_searches, searches_there
from cbmir.report.ranking import question, question_of, ranking, ranking_text
from cbmir.report.sources import Sources
from cbmir.search import DEPTH, EXACT, TRAIN, SearchOptions, search
from cbmir.select import keys_where
from cbmir.store import Study, path_name
from cbmir.vectors import Vectors, find_encoder

_DEFAULTS = {"gallery": TRAIN, "queries": SearchOptions.queries, "exclude_same": (), "metric": "cos"}
_METRIC = "precision_at_k"


@dataclass(frozen=True)
class EncodersOptions:
    """What is asked of the encoders. None: as the exact searches and figures that are there have it, else the default of the stage."""

    encoders: tuple[str, ...] = ()  # none: every one that is embedded
    k: int = 1
    relevance: str = "label"
    gallery: str | None = None
    queries: str | None = None
    exclude_same: tuple[str, ...] | None = None
    metric: str | None = None
    depth: int | None = None
    resamples: int | None = None
    permutations: int | None = None
    seed: int | None = None
    allow_overlap: bool = False
    device: str = "auto"
    tasks: int = 1
    ray_address: str | None = None
    overwrite: bool = False  # searches that asked otherwise are made again

    def refuse_nonsense(self) -> None:
        """UserError for a level that there is not, and numbers outside what they can be."""
        if self.relevance not in LEVELS:
            near = nearest(self.relevance, list(LEVELS))
            raise UserError(f"--relevance {self.relevance}; {near or 'expected one of: ' + ', '.join(LEVELS)}")
        if self.k < 1:
            raise UserError(f"--k {self.k}; expected 1 or more")
        if self.resamples == 0:
            raise UserError("--resamples 0: without them there is no test; expected 100 or more")
        given = {name: getattr(self, name) for name in ("resamples", "permutations", "seed")}
        EvaluateOptions(**{name: value for name, value in given.items() if value is not None}).refuse_nonsense()
        SearchOptions(k=self.depth, metric=self.metric, tasks=self.tasks).refuse_nonsense()


def study_encoders(
    study: Study, options: EncodersOptions, *, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Search, evaluate and rank the encoders -> rows of sql/report/ranking.sql, the best first; says them, and what was done.

    UserError where exact searches that are there ask otherwise, for encoders that are not embedded, and for levels at which nothing is judged.
    """
    options.refuse_nonsense()
    encoders = _chosen(study, options.encoders, say)
    asked = _question(study, encoders, options)
    others = searches_there(study, without={(encoder, EXACT) for encoder in encoders})
    wanted = _wanted(study, options, within=min([asked.k, *(searched.depth for searched in others)]))
    if not wanted.allow_overlap:
        refuse_overlap(study, gallery=asked.gallery, queries=asked.queries, exclude_same=asked.exclude_same)
    refuse_searches(study, others, wanted)
    for encoder in encoders:
        run, searched = search(study, encoder, EXACT, _overwriting(study, encoder, asked, options))
        state = f"{run['seconds']:.1f} s" if searched else "already searched"
        say(f"search exact of {encoder}: {run['queries']:,} queries in {run['gallery']:,} images, {state}")
    _evaluate(study, wanted, say)
    rows = ranked(study, encoders, relevance=options.relevance, k=options.k)
    say(f"\n{question(asked.__dict__)}\n\n{ranking_text(rows, relevance=options.relevance, k=options.k)}")
    _say_what_cannot_be(rows, wanted.permutations, say)
    return rows


def ranked(study: Study, encoders: list[str], *, relevance: str, k: int) -> list[dict[str, Any]]:
    """The ranking of encoders whose exact searches have figures; UserError where none was judged at that relevance and k."""
    sources = Sources(study)
    rows = ranking(sources, encoders, question=question_of(sources, encoders), relevance=relevance, k=k)
    if not rows:
        found = {row["relevance"] for row in sources.rows("anatomy_and_pathology")}
        there = [level for level in LEVELS if level in found]
        raise UserError(
            f"no query can be judged at relevance {relevance}, P@{k}; expected labels, regions or modalities in the manifest; "
            f"judged at: {', '.join(there) or 'none'}"
        )
    return rows


def write_csv(rows: list[dict[str, Any]], file: str) -> None:
    """The ranking as CSV, shares in 0..1; what is unknown is blank."""
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _chosen(study: Study, names: tuple[str, ...], say: Callable[[str], None]) -> list[str]:
    """The study's names of the encoders asked for; of all, those that are finished, and a line for each that is not."""
    study.require("manifest")
    if names:
        return list(dict.fromkeys(find_encoder(study, name) for name in names))
    found = study.names("embeddings")
    finished = [name for name in found if study.run_of("embeddings", f"encoder={path_name(name)}")]
    for name in found:
        if name not in finished:
            say(
                f"{name}: its embeddings are unfinished, and it is left out; finish them with: cbmir embed --encoder {name}"
            )
    if not finished:
        raise UserError(f"the study {study.address} has no finished embeddings; make them with: cbmir embed")
    return finished


def _question(study: Study, encoders: list[str], options: EncodersOptions) -> SearchOptions:
    """What every encoder is asked: the flags; else what those that were searched exactly were asked, which must be one thing."""
    before = {encoder: run["parameters"] for encoder in encoders if (run := _exact(study, encoder))}
    flags = {name: getattr(options, name) for name in _DEFAULTS} | {"k": options.depth}
    asked = {name: _agreed(name, flag, before, options) for name, flag in flags.items()}
    if asked["k"] is None:
        gallery = keys_where(study, asked["gallery"], role="gallery")["image_key"].to_numpy()
        asked["k"] = max(1, min(DEPTH, *(len(Vectors(study, encoder).keys(gallery)) for encoder in encoders)))
    if options.k > asked["k"]:
        raise UserError(
            f"--k {options.k}: the searches go to -k {asked['k']}; expected at most that, or a larger -k with --overwrite"
        )
    for encoder, parameters in before.items():
        for name, value in asked.items():
            there = _plain(parameters[name])
            if there != value and not options.overwrite:
                raise UserError(
                    f"neighbors of {encoder} by exact were searched otherwise ({_flag(name)} {_said(there)} there, {_said(value)} now); a leaderboard "
                    "holds answers to one question: --overwrite searches again, --encoder chooses those that agree"
                )
    return SearchOptions(**asked, device=options.device, tasks=options.tasks, ray_address=options.ray_address)


def _agreed(name: str, flag: Any, before: dict[str, dict], options: EncodersOptions) -> Any:
    """One parameter of the question; UserError where the searches that are there have several, and no flag says which."""
    if flag is not None:
        return _plain(flag)
    found: dict[Any, list[str]] = {}
    for encoder, parameters in before.items():
        found.setdefault(_plain(parameters[name]), []).append(encoder)
    if len(found) == 1:
        return next(iter(found))
    if found and not options.overwrite:
        ways = "; ".join(f"{_said(value)} for {', '.join(who)}" for value, who in found.items())
        raise UserError(
            f"the exact searches ask different questions, {_flag(name)} {ways}; a leaderboard holds answers to one: say which with {_flag(name)} and "
            "--overwrite, or choose those that agree with --encoder"
        )
    return _DEFAULTS.get(name)


def _overwriting(study: Study, encoder: str, asked: SearchOptions, options: EncodersOptions) -> SearchOptions:
    """The same question, replacing a search only where it asked otherwise."""
    run = _exact(study, encoder)
    changed = run and any(_plain(run["parameters"][name]) != getattr(asked, name) for name in (*_DEFAULTS, "k"))
    return replace(asked, overwrite=bool(changed and options.overwrite))


def _exact(study: Study, encoder: str) -> dict[str, Any] | None:
    return study.run_of("neighbors", path_name(encoder), EXACT)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _said(value: Any) -> str:
    return ", ".join(value) or "nothing" if isinstance(value, tuple) else repr(value)


def _flag(name: str) -> str:
    return "-k" if name == "k" else f"--{name.replace('_', '-')}"


def _wanted(study: Study, options: EncodersOptions, *, within: int) -> EvaluateOptions:
    """The evaluation that the ranking needs, as an extension of the one before."""
    given = {name: getattr(options, name) for name in ("resamples", "permutations", "seed", "allow_overlap")}
    return extending(evaluated_with(study), ks=(options.k,), metrics=(_METRIC,), within=within, **given)


def _evaluate(study: Study, wanted: EvaluateOptions, say: Callable[[str], None]) -> None:
    """Figures and comparisons of the searches that there are now, unless they are there."""
    inputs = {searched.name: searched.run["fingerprint"] for searched in find_searches(study)}
    runs = [study.run_of(dataset) for dataset in ("metrics", "comparisons")]
    if all(run and run["inputs"] == inputs and run["parameters"] == wanted.record() for run in runs):
        say("metrics: up to date")
        return
    run = evaluate(study, wanted, say=say)
    say(f"metrics: {run['rows']:,} figures of {len(run['inputs'])} searches")


def _say_what_cannot_be(rows: list[dict[str, Any]], permutations: int, say: Callable[[str], None]) -> None:
    """So many tests that no p of so few permutations is small enough: a line."""
    tests = max(row["n_tests"] or 0 for row in rows)
    if tests and tests / (1 + permutations) >= 0.05:
        least = math.ceil(tests / 0.05)
        say(
            f"{permutations:,} permutations give no p below {1 / (1 + permutations):.1g}, so that after a correction over {tests:,} tests nothing can differ; "
            f"expected --permutations {least} or more"
        )
