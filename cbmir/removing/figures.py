"""Datasets that were made of many images: those that a removal makes outdated are deleted, with the command that makes each again."""

from __future__ import annotations

from typing import Any

from cbmir.commands import again, line
from cbmir.fresh import Now
from cbmir.origin import volume_commands
from cbmir.reducing.record import is_reduced, reduce_command
from cbmir.removing.layout import FIGURES, INDEXES, names_of, places
from cbmir.store import Study
from cbmir.volumetric.place import DIRECTORY

_PARTS_OF = {  # made by the command that makes another dataset, which knows its flags
    "scaling_cells": "scaling", "scaling_neighbors": "scaling", "effort_points": "search_effort", "effort_graphs": "search_effort",
    "figures": "report",
}  # fmt: skip


def made_by(study: Study) -> list[dict[str, Any]]:
    """{target, command} of finished reduced embeddings, indexes and datasets of figures, in the order in which they are made again.

    What several commands made has a row for each, and what one command makes of several datasets is told once at the least.
    """
    found = []
    for parts in places(study, {"embeddings": 1}):
        run = study.run_of(*parts)
        if run is not None and is_reduced(run):
            found.append({"target": list(parts), "command": reduce_command(study, run["parameters"])})
    for parts in places(study, INDEXES | FIGURES):
        run = study.run_of(*parts)
        if run is not None and (parts[0] not in _PARTS_OF or study.run_of(_PARTS_OF[parts[0]]) is None):
            lists = again(parts[0], names_of(parts), run, study.address)
            found += [{"target": list(parts), "command": line(words)} for words in lists]
    return found + [{"target": [DIRECTORY], "command": line(words)} for words in volume_commands(study)]


def outdated_figures(study: Study) -> list[tuple[str, ...]]:
    """Figures that were never finished, or were made of other datasets than there are now."""
    now = Now(study)
    return [parts for parts in places(study, FIGURES) if not now.is_fresh(*parts)]


def delete_outdated(study: Study, was: str) -> None:
    """Delete those; and where images have left the manifest, whose fingerprint `was` another one, all: they were made of these images, too."""
    left = study.require("manifest")["fingerprint"] != was
    for parts in list(places(study, FIGURES)) if left else outdated_figures(study):
        study.delete(*parts)
