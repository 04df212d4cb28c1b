"""Where the files of an index lie while it is made: in the study itself, or in a temporary directory for an object store."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from cbmir.errors import UserError
from cbmir.indexing.shard import sha256
from cbmir.store import Publication, Study

VERIFIED_WHOLE = (
    4 << 30
)  # bytes; of a larger graph the size alone is looked at, because it may be opened to answer one question


@contextlib.contextmanager
def local_directory(study: Study, *parts: str) -> Iterator[str]:
    """A dataset's files as local files, for reading; fetched for the length of the block where they are remote."""
    if study.is_local:
        yield study.path(*parts)
        return
    with tempfile.TemporaryDirectory(prefix="cbmir-") as directory:
        fetch(study, directory, *parts)
        yield directory


def fetch(study: Study, directory: str, *parts: str) -> None:
    """All files of a remote dataset into a local directory."""
    pafs.copy_files(study.path(*parts), directory, source_filesystem=study.fs)


@contextlib.contextmanager
def writing(out: Publication) -> Iterator[str]:
    """A local directory whose files are the publication's when the block ends."""
    if out.study.is_local:
        yield out.study.path(*out.parts)
        return
    with tempfile.TemporaryDirectory(prefix="cbmir-") as directory:
        yield directory
        for file in sorted(Path(directory).iterdir()):
            deliver(out.study, out.parts, str(file))


def deliver(study: Study, parts: tuple[str, ...], file: str) -> None:
    """One local file into a dataset on an object store."""
    pafs.copy_files(file, study.path(*parts, os.path.basename(file)), destination_filesystem=study.fs)


def keep(old: str, new: str) -> None:
    """A file that does not change: linked, or copied where links are not known."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def refuse_damaged(directory: str, files: dict[str, dict[str, Any]], *, named: str, whole: bool = False) -> None:
    """UserError for a file that is missing, or is not of the size or checksum that run.json names.

    Checksums of graphs are compared up to VERIFIED_WHOLE bytes (a damaged graph ends a process that walks through it); `whole`: of all files.
    """
    for name, told in files.items():
        path = os.path.join(directory, name)
        size = os.path.getsize(path) if os.path.exists(path) else None
        if size != told["bytes"]:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise UserError(f"{named}: {name} {found}, run.json says {told['bytes']:,}; rebuild it with --overwrite")
        if whole or (name.endswith(".usearch") and size <= VERIFIED_WHOLE):
            found = sha256(path)
            if found != told["sha256"]:
                raise UserError(
                    f"{named}: {name} has checksum {found[:12]}, run.json says {told['sha256'][:12]}: it is damaged or another's; "
                    "rebuild it with --overwrite"
                )
