"""Which images of a manifest are there, asked of the directories rather than of every file."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc


def present(uris: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Addresses -> true where a local file is there; addresses on object stores count as there (`manifest check` looks).

    One listing a directory: a million images lie in some thousand directories.
    """
    files = pc.replace_substring_regex(uris, r"#[^/]*$", "")
    listings: dict[str, frozenset[str]] = {}
    found = []
    for whole, file in zip(uris.to_pylist(), files.to_pylist(), strict=True):
        found.append("://" in file or _is_there(file, listings) or (whole != file and _is_there(whole, listings)))
    return pa.array(found, pa.bool_())


def _is_there(path: str, listings: dict[str, frozenset[str]]) -> bool:
    directory, name = os.path.split(path)
    names = listings.get(directory)
    if names is None:
        names = listings[directory] = _names(directory)
    return name in names


def _names(directory: str) -> frozenset[str]:
    try:
        with os.scandir(directory) as entries:
            return frozenset(entry.name for entry in entries if not entry.is_dir())
    except OSError:  # no such directory, or none that may be read
        return frozenset()
