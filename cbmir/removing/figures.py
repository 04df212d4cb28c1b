"""Datasets that were made of many images: those that a removal makes outdated are deleted, with the command that makes each again."""

from __future__ import annotations

import shlex
from typing import Any

from cbmir.reducing.record import is_reduced, reduce_command
from cbmir.removing.layout import FIGURES, INDEXES, names_of, places
from cbmir.store import Study

_FLAGS = {
    "problems": ("k", "gallery", "distance"),
    "index": (
        "gallery",
        "metric",
        "dtype",
        "pca",
        "connectivity",
        "expansion_add",
        "expansion_search",
        "recall",
        "recall_at",
        "rerank",
        "shards",
    ),
    "neighbors": ("k", "gallery", "queries", "metric", "expansion_search", "rerank"),
    "predictions": ("train", "val", "test", "epochs", "patience", "batch_size", "lr", "weight_decay"),
}
_KS = [1, 3, 5, 10]  # what cbmir evaluate takes unless told otherwise: a search may be less deep
_COMMANDS = {  # what one of these makes beside its own dataset (comparisons ...) needs no line
    "index": "index",
    "problems": "manifest check",
    "neighbors": "search",
    "metrics": "evaluate",
    "predictions": "probe",
    "report": "report",
}


def made_by(study: Study) -> list[dict[str, Any]]:
    """{target, command} of finished reduced embeddings, indexes and datasets of figures, in the order in which they are made again."""
    found = []
    for parts in places(study, {"embeddings": 1}):
        run = study.run_of(*parts)
        if run is not None and is_reduced(run):
            found.append({"target": list(parts), "command": reduce_command(study, run["parameters"])})
    for parts in places(study, INDEXES | FIGURES):
        run = study.run_of(*parts)
        if run is not None and parts[0] in _COMMANDS:
            found.append({"target": list(parts), "command": _command(study, parts, run)})
    return found


def _command(study: Study, parts: tuple[str, ...], run: dict[str, Any]) -> str:
    """The command line that makes a dataset again, from what its run.json says."""
    words = ["cbmir", *_COMMANDS[parts[0]].split(), "--study", study.address]
    parameters = run["parameters"]
    if parts[0] in ("index", "neighbors"):
        encoder, name = names_of(parts)
        index = parameters.get("index", name)
        words += ["--encoder", encoder, "--index", index, *(["--save-as", name] if name != index else [])]
    if parts[0] == "predictions":
        words += ["--encoder", parameters["encoder"], "--seeds", ",".join(map(str, parameters["seeds"]))]
    for name in _FLAGS.get(parts[0], ()):
        if parameters.get(name) is not None:
            words += ["-k" if name == "k" else f"--{name.replace('_', '-')}", str(parameters[name])]
    for column in parameters.get("exclude_same", ()):
        words += ["--exclude-same", column]
    if parts[0] == "metrics" and parameters["k"] != _KS:
        words += ["--k", ",".join(map(str, parameters["k"]))]
    return shlex.join(words)


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
