"""Datasets that were made of many images: those that a removal makes outdated are deleted, with the command that makes each again."""

from __future__ import annotations

from typing import Any

from cbmir.commands import MADE, line, words_of
from cbmir.reducing.record import is_reduced, reduce_command
from cbmir.removing.layout import FIGURES, INDEXES, names_of, places
from cbmir.store import Study


def made_by(study: Study) -> list[dict[str, Any]]:
    """{target, command} of finished reduced embeddings, indexes and datasets of figures, in the order in which they are made again."""
    found = []
    for parts in places(study, {"embeddings": 1}):
        run = study.run_of(*parts)
        if run is not None and is_reduced(run):
            found.append({"target": list(parts), "command": reduce_command(study, run["parameters"])})
    for parts in places(study, INDEXES | FIGURES):
        run = study.run_of(*parts)
        if run is not None and parts[0] in MADE:
            words = words_of(parts[0], names_of(parts), run, study.address)
            found.append({"target": list(parts), "command": line(words)})
    return found


def delete_outdated(study: Study) -> None:
    """Delete what was made of another manifest than the one that is there, of figures that are gone, or never finished."""
    manifest = study.require("manifest")["fingerprint"]
    for parts in places(study, FIGURES):
        run = study.run_of(*parts)
        if run is None or not _is_current(study, parts, run["inputs"], manifest):
            study.delete(*parts)


def _is_current(study: Study, parts: tuple[str, ...], inputs: dict[str, str], manifest: str) -> bool:
    if parts[0] in ("problems", "neighbors", "classification", "predictions", "as_published"):
        return inputs["manifest"] == manifest
    if parts[0] == "query_metrics":
        return inputs["neighbors"] == _fingerprint(study, "neighbors", *parts[1:])
    if parts[0] in ("metrics", "comparisons", "confusions", "hubness"):
        now = {
            " ".join(names_of(target)): _fingerprint(study, *target)
            for target in places(study, {"neighbors": FIGURES["neighbors"]})
        }
        return inputs == now
    return inputs == {"manifest": manifest, "metrics": _fingerprint(study, "metrics")}


def _fingerprint(study: Study, *parts: str) -> str | None:
    return (study.run_of(*parts) or {}).get("fingerprint")
