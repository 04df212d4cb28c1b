"""Vectors that were made of other vectors: whether those have changed since, and the command that makes them again."""

from __future__ import annotations

from typing import Any

from cbmir.commands import line, volumes_words
from cbmir.errors import UserError
from cbmir.reducing.record import is_reduced, reduce_command
from cbmir.store import Study, path_name
from cbmir.volumetric.place import STAGE, is_of_volumes, is_outdated, made_of, slices_of, volumes_of

_OF_THE_IMAGES = (
    "precision", "decode", "packed", "random_weights", "weights_sha256", "weights", "spec", "imported", "matched_by",
)  # fmt: skip


def of_the_images(run: dict[str, Any]) -> dict[str, Any]:
    """What a run.json says of how images became vectors: what a new image needs, and what a report says."""
    return {key: run[key] for key in _OF_THE_IMAGES if key in run}


def is_made_of_vectors(run: dict[str, Any]) -> bool:
    """Whether a run.json of embeddings is one of vectors that were made of others."""
    return run["stage"] == STAGE or is_reduced(run)


def is_older(study: Study, run: dict[str, Any]) -> bool:
    """Whether the vectors that a run.json names as its source have changed since; False for what was not made of vectors."""
    if run["stage"] == STAGE:
        return run["inputs"]["embeddings"] != made_of(study, run["parameters"]["source"])
    if not is_reduced(run):
        return False
    source = ("embeddings", f"encoder={path_name(run['parameters']['source'])}")
    if not study.exists(*source):  # deleted to save space: what is left is all that there is
        return False
    return (study.run_of(*source) or {}).get("fingerprint") != run["inputs"]["embeddings"]


def volume_commands(slices: Study) -> list[list[str]]:
    """The words of the commands that make the volumes of a study again, an encoder's reductions together; none where it has no volumes."""
    volumes, reductions = volumes_of(slices), {}
    for name in volumes.names("embeddings"):
        run = volumes.run_of("embeddings", f"encoder={path_name(name)}")
        if run and run["stage"] == STAGE:
            reductions.setdefault(run["parameters"]["source"], []).append(run["parameters"]["reduction"])
    return [
        volumes_words({"source": source, "reduction": ",".join(named)}, slices.address)
        for source, named in reductions.items()
    ]


def refuse_outdated_volumes(study: Study) -> None:
    """UserError for a study of volumes that is older than the manifest of their slices: their labels or splits may have changed."""
    if is_of_volumes(study) and is_outdated(study):
        slices = slices_of(study).address
        raise UserError(
            f"the volumes of {study.address} are older than the manifest of their slices; make them again with: cbmir volumes --study {slices} --encoder NAME"
        )


def vectors_run(study: Study, encoder: str) -> dict[str, Any]:
    """run.json of what an encoder's searches compare: its vectors, or the slices of volumes that have none themselves."""
    directory = f"encoder={path_name(encoder)}"
    return study.run_of("slices", directory) or study.require("embeddings", directory)


def make_again(study: Study, run: dict[str, Any]) -> str:
    """The command line that makes such vectors again."""
    if run["stage"] == STAGE:
        return line(volumes_words(run["parameters"], slices_of(study).address))
    return reduce_command(study, run["parameters"])
