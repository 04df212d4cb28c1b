"""Bytes read ahead of those being decoded, which hides the wait for an object store or a slow disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cbmir.images.errors import ImageError
from cbmir.images.read import is_whole_file, read_bytes, split_uri

Item = TypeVar("Item")
LOCAL, REMOTE = 2, 16  # files on their way at a time
MOST_BYTES = 64 << 20  # read and not yet taken, beyond the next one


def read_ahead(uris: list[str]) -> Iterator[bytes | ImageError | None]:
    """For each uri, in order: the file's bytes; what is wrong with it; or None, where the image is a part of a file that its decoder reads itself."""
    remote = any("://" in uri for uri in uris)
    depth = REMOTE if remote else LOCAL
    with ThreadPoolExecutor(depth, thread_name_prefix="read") as pool:
        waiting: deque[Future | None] = deque()
        following = iter(uris)
        try:
            while True:
                while len(waiting) < depth and (not waiting or _bytes_of(waiting) < MOST_BYTES):
                    uri = next(following, None)
                    if uri is None:
                        break
                    waiting.append(pool.submit(_read, uri) if is_whole_file(uri) else None)
                if not waiting:
                    return
                future = waiting.popleft()
                yield future.result() if future is not None else None
        finally:
            for future in waiting:
                if future is not None:
                    future.cancel()


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; the next one is made by a thread while this one is looked at."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        future = pool.submit(next, iterator, end)
        while (item := future.result()) is not end:
            future = pool.submit(next, iterator, end)
            yield item


def _read(uri: str) -> bytes | ImageError:
    try:
        return read_bytes(split_uri(uri)[0])
    except ImageError as error:
        return error
    except MemoryError:
        return ImageError("the file does not fit into memory", stage="read")


def _bytes_of(waiting: deque[Future | None]) -> int:
    """Bytes that have arrived."""
    return sum(
        len(future.result())
        for future in waiting
        if future is not None and future.done() and isinstance(future.result(), bytes)
    )
