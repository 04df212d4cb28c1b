"""Keys of images, and names of files that hold blocks of them."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc


def image_key(image_id: str) -> int:
    """Stable positive 63-bit key of an image: the first 8 bytes of BLAKE2b(image_id), sign bit cleared.

    Needs no coordination between writers and does not change when a collection grows; at 1.6 M images the chance of
    any collision is 1.4e-7, and writers of a manifest check for it.
    """
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF_FFFF_FFFF or 1


def block_name(keys: pa.ChunkedArray) -> str:
    """File name of a block of rows: hash of its keys in ascending order, so that a retried task overwrites itself."""
    ordered = pc.take(keys, pc.sort_indices(keys)).combine_chunks()
    return hashlib.sha256(ordered.to_numpy().tobytes()).hexdigest()[:24] + ".parquet"
