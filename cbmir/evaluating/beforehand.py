"""What an evaluation would refuse or take over from the one before it, asked before hours are spent on searches that it is to score."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from cbmir.evaluating.options import KS, EvaluateOptions
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.evaluating.searches import Searched, depths
from cbmir.store import Study


def evaluated_with(study: Study) -> dict[str, Any]:
    """Parameters of the figures that are there; none where there are none."""
    return (study.run_of("metrics") or {"parameters": {}})["parameters"]


def refuse_searches(study: Study, searches: Sequence[Searched], options: EvaluateOptions) -> None:
    """UserError for searches that are not as deep as is asked for, or that have patients on both sides."""
    for searched in searches:
        depths(searched, options.ks)
    if options.allow_overlap:
        return
    questions: dict[tuple[str, ...], Searched] = {}
    for searched in searches:
        asked = searched.run["parameters"]
        questions.setdefault((asked["gallery"], asked["queries"], *asked["exclude_same"]), searched)
    for (gallery, queries, *excluded), searched in questions.items():
        refuse_overlap(study, gallery=gallery, queries=queries, exclude_same=excluded, where=searched.name)


def extending(
    before: dict[str, Any],
    *,
    ks: Collection[int],
    metrics: Sequence[str],
    within: int,
    compared: Sequence[str] = (),
    resamples: int | None = None,
    permutations: int | None = None,
    seed: int | None = None,
    allow_overlap: bool = False,
) -> EvaluateOptions:
    """The evaluation that gives these figures, and those that were asked for before.

    before: parameters of the figures that are there. ks: depths that are needed. within: the depth of the shallowest search; a depth below it that
    nobody needs now is left out. metrics: that are needed, compared: that have to be in comparisons. None: as before, else the default.
    """
    wanted = {*before.get("k", KS), *ks}
    if wanted != set(KS):  # these are taken as far as each search goes
        wanted = {k for k in wanted if k in ks or k <= within}
    asked, in_pairs, slices = (before.get(name) for name in ("metric", "compared", "slice"))
    pairs = dict.fromkeys([*(in_pairs or (asked if compared else None) or ()), *compared])
    return EvaluateOptions(
        ks=None if wanted == set(KS) else tuple(sorted(wanted)),
        metrics=tuple(dict.fromkeys([*asked, *metrics])) if asked else None,
        slices=tuple(slices) if slices else None,
        resamples=resamples if resamples is not None else before.get("resamples") or EvaluateOptions.resamples,
        permutations=permutations
        if permutations is not None
        else before.get("permutations", EvaluateOptions.permutations),
        seed=seed if seed is not None else before.get("seed", EvaluateOptions.seed),
        allow_overlap=allow_overlap or bool(before.get("allow_overlap")),
        compared=tuple(pairs) or None,
    )
