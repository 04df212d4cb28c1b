"""One function over many files, in order, with progress; by threads on object stores, where most of the time is waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow.fs as pafs

from cbmir.progress import Progress
from cbmir.store import open_filesystem

CHUNK = 200  # files of one task
_THREADS = 16
Result = TypeVar("Result")


def each(
    function: Callable[[str], Result], addresses: list[str], *, title: str, unit: str = "files"
) -> Iterator[Result]:
    """function(address) of every address, in order; says how far it is on standard error."""

    def of_chunk(chunk: list[str]) -> list[Result]:
        return [function(address) for address in chunk]

    with ExitStack() as stack:
        if any("://" in address for address in addresses):
            results = threaded(of_chunk, chunks(addresses), _THREADS, stack)
        else:
            results = map(of_chunk, chunks(addresses))
        yield from counted(results, len(addresses), title=title, unit=unit)


def chunks(addresses: list[str]) -> list[list[str]]:
    """Addresses in lists of CHUNK; of fewer where there are only some hundred, so that all threads have something to do."""
    size = max(1, min(CHUNK, len(addresses) // _THREADS))
    return [addresses[i : i + size] for i in range(0, len(addresses), size)]


def threaded(function: Callable, chunks: list[list[str]], count: int, stack: ExitStack) -> Iterator[list]:
    """function(chunk) of every chunk, in order, by `count` threads; what has not begun when `stack` ends is dropped."""
    pool = ThreadPoolExecutor(count)
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool.map(function, chunks)


def counted(results: Iterable[list[Result]], total: int, *, title: str, unit: str = "files") -> Iterator[Result]:
    """The chunks' results one by one, with progress."""
    done = 0
    with Progress(title, total, unit=unit) as progress:
        for chunk in results:
            yield from chunk
            done += len(chunk)
            progress.update(done)


@lru_cache(maxsize=8)
def _store(root: str) -> pafs.FileSystem:
    return open_filesystem(root)[0]  # anew for every file, it would ask for the bucket's region every time


def opened(address: str) -> tuple[pafs.FileSystem, str]:
    """An address on an object store -> (filesystem, path on it); files of one store share a filesystem."""
    place = urlsplit(address)
    root = urlunsplit(place._replace(path="/", fragment=""))
    bucket = place.netloc.rpartition("@")[2]
    return _store(root), f"{bucket}{unquote(place.path)}"


def size_of(address: str) -> int:
    """Bytes of a file, 0 where it is not there."""
    if "://" not in address:
        return os.path.getsize(address)
    fs, path = opened(address)
    return fs.get_file_info(path).size or 0
