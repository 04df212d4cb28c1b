"""What the neighbors of an image say of it: which label, and how many of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Vote:
    """One label among the neighbors of an image; label None: those that have no label at all."""

    label: str | None
    neighbors: int
    share: float  # of the neighbors found, 0..1


def vote(labels: list[list[str]]) -> list[Vote]:
    """The labels of each of the k neighbors found -> for each label its share: neighbors that have it / k.

    Every neighbor counts alike, whatever its distance, and each of its labels once: with several labels an image the shares may add
    up to more than 1. The largest share first, equal ones by label; neighbors without a label are the last entry. Labels that a
    source left open (manifest.unknown_labels) are no labels: a share is at least what is known.
    """
    counts = Counter(label for of_one in labels for label in set(of_one))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    votes = [Vote(label, count, count / len(labels)) for label, count in ordered]
    bare = sum(not of_one for of_one in labels)
    return [*votes, Vote(None, bare, bare / len(labels))] if bare else votes


def in_words(votes: list[Vote]) -> str:
    """'CT/lung/nodule 70%, CT/lung/mass 20%, (no label) 10%'."""
    return ", ".join(f"{v.label if v.label is not None else '(no label)'} {v.share:.0%}" for v in votes)
