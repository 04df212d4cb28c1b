"""Where the time of an embedding run goes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Times:
    """Seconds by what they were spent on, in one worker."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - began

    def each(self, what: str, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; the wait for each is counted."""
        iterator, end = iter(items), object()
        while True:
            with self.of(what):
                item = next(iterator, end)
            if item is end:
                return
            yield item
