"""How to make a study of volumes again: what comes before its searches lies in the study of their slices."""

from __future__ import annotations

from typing import Any

from cbmir.commands import volume_search_words
from cbmir.report.sources import Sources
from cbmir.store import Study, path_name
from cbmir.volumetric.place import DIRECTORY, STAGE, slices_of


def slices_if_volumes(sources: Sources) -> Study | None:
    """The study of slices that the page's volumes were made of; None where it is about images."""
    return slices_of(sources.study) if sources.manifest_run["stage"] == STAGE else None


def embeddings_of_slices(sources: Sources, slices: Study) -> dict[str, dict[str, Any]]:
    """run.json of every encoder whose vectors of slices are behind a search."""
    names = {run["parameters"]["source"] for run in sources.embeddings_runs.values()}
    runs = {name: slices.run_of("embeddings", f"encoder={path_name(name)}") for name in sorted(names)}
    return {name: run for name, run in runs.items() if run}


def made_of_slices(sources: Sources, study: str) -> list[list[str]]:
    """cbmir volumes for each encoder, with the reductions that were searched."""
    reductions: dict[str, list[str]] = {}
    for run in sources.embeddings_runs.values():
        reductions.setdefault(run["parameters"]["source"], []).append(run["parameters"].get("reduction") or "")
    return [
        [
            "cbmir",
            "volumes",
            "--study",
            study,
            "--encoder",
            encoder,
            *(["--reduce", ",".join(named)] if (named := sorted(filter(None, kinds))) else []),
        ]
        for encoder, kinds in sorted(reductions.items())
    ]


def searched_by_slices(sources: Sources, study: str) -> list[list[str]]:
    """cbmir volumes search for each search that compared slices."""
    return [
        volume_search_words(encoder, run["parameters"], study)
        for (encoder, _), run in sorted(sources.neighbors_runs.items())
        if run.get("by_slices")
    ]


def inside(words: list[str], study: str) -> list[str]:
    """A command of a study -> the same of its volumes; those of `cbmir volumes` name the study of slices themselves."""
    if words[1] == "volumes":
        return words
    return [f"{study}/{DIRECTORY}" if word == study else word for word in words]
