"""Splits that are drawn because the source has none: by patient, from a seed, the same for a patient wherever it is asked."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
UNKNOWN = "unknown"  # of a row that the source gives another split or none


def draw(groups: pa.Array | pa.ChunkedArray, seed: int, *, shares: dict[str, float]) -> pa.Array:
    """groups: text, e.g. patients -> the split of each row; rows of one group have one split.

    shares: split -> its share of the groups, adding up to 1. A group's place in 0..1 is a hash of seed and group, so a
    collection that grows keeps the splits it had.
    """
    encoded = pc.dictionary_encode(groups.combine_chunks() if isinstance(groups, pa.ChunkedArray) else groups)
    drawn = pa.array([_place(group, seed, shares) for group in encoded.dictionary.to_pylist()], pa.string())
    return drawn.take(encoded.indices)


def _place(group: str, seed: int, shares: dict[str, float]) -> str:
    digest = hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    for split, share in shares.items():
        position -= share
        if position < 0:
            return split
    return list(shares)[-1]
