"""What the run.json of reduced embeddings says: which vectors they were made of, and the command that makes them again."""

from __future__ import annotations

from typing import Any

from cbmir.commands import line, reduce_words
from cbmir.store import Study

MARK = "~pca"  # behind the name of the encoder whose vectors were reduced
PUBLISHED = ("mahbod2024",)


def reduced_name(encoder: str, pca: int, as_published: str | None) -> str:
    """'resnet18~pca256', 'resnet18~pca256-mahbod2024'."""
    return f"{encoder}{MARK}{pca}" + (f"-{as_published}" if as_published else "")


def is_reduced(run: dict[str, Any]) -> bool:
    """Whether a run.json of embeddings is one of `cbmir reduce`."""
    return run["stage"] == "reduce"


def reduce_command(study: Study, parameters: dict[str, Any]) -> str:
    """The command line that makes reduced embeddings again, from the parameters in their run.json."""
    return line(reduce_words(parameters, study.address))


def reduce_command_by_name(study: Study, encoder: str) -> str:
    """The same where there is no run.json, as far as the name says it."""
    source, _, rest = encoder.rpartition(MARK)
    pca, _, published = rest.partition("-")
    return reduce_command(study, {"source": source, "pca": pca, "as_published": published or None})
