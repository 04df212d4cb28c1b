"""The one question that all sizes of an encoder are asked: figures of two questions would stand beside each other in one table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cbmir.encoders.names import without_detail
from cbmir.errors import UserError
from cbmir.search import DEPTH, EXACT, SearchOptions
from cbmir.sizing.options import ImageSizeOptions
from cbmir.store import Study, path_name


def question(study: Study, names: Collection[str], options: ImageSizeOptions) -> tuple[SearchOptions, list[str]]:
    """How each size is searched, and which sizes beside `names` have to be searched again: those of the same encoders that were asked otherwise.

    As deep as the sizes that are there, where that is deep enough. UserError where one was asked otherwise, unless it is to be overwritten.
    """
    there = _searched(study, {without_detail(name) for name in names})
    asked = options.search
    depths = {run["parameters"]["k"] for run in there.values()}
    if asked.k is None and not asked.overwrite and len(depths) == 1 and max(options.ks) <= min(depths):
        asked = replace(asked, k=depths.pop())
    changed = {name: said for name, run in there.items() if (said := _changed(run, asked))}
    if changed and not asked.overwrite:
        name, said = next(iter(changed.items()))
        raise UserError(
            f"neighbors of {name} by exact were searched otherwise ({said}); the sizes of an encoder are asked one question: give the same, or "
            "--overwrite to make all of them anew"
        )
    return asked, [name for name in changed if name not in names]


def _searched(study: Study, bases: Collection[str]) -> Mapping[str, dict[str, Any]]:
    """run.json of the exact search of every size of these encoders."""
    sizes = [name for name in study.names("neighbors") if without_detail(name) in set(bases) - {name}]
    runs = {name: study.run_of("neighbors", path_name(name), EXACT) for name in sizes}
    return {name: run for name, run in runs.items() if run is not None}


def _changed(run: dict[str, Any], asked: SearchOptions) -> str | None:
    """'--gallery "a" there, "b" now' for the first difference."""
    wanted = {
        "--gallery": asked.gallery,
        "--queries": asked.queries,
        "--exclude-same": list(asked.exclude_same),
        "--metric": asked.metric,
        "-k": asked.k or min(DEPTH, run["gallery"]),
    }
    for flag, value in wanted.items():
        found = run["parameters"][flag.lstrip("-").replace("-", "_")]
        if found != value:
            return f"{flag} {_said(found)} there, {_said(value)} now"
    return None


def _said(value: Any) -> str:
    return (", ".join(value) or "nothing") if isinstance(value, list) else str(value)
