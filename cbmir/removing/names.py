"""Whether a text names one of many images."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

_WORD = re.compile(r"\w+")
_LONGER_BEFORE = re.compile(r"[\w./#-]\Z")  # 'b/1.png' is not named by 'a/b/1.png'
_LONGER_BEHIND = re.compile(r"\w|[./#-]+\w")  # nor 'a/1' by 'a/1.png' or 'a/1#3', but by 'a/1.'


class Names:
    """Ids and addresses, looked for in texts as whole names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.all = frozenset(name for name in names if name)
        counts = Counter(word for name in self.all for word in set(_WORD.findall(name)))
        self._by_word: dict[str, list[tuple[str, int]]] = defaultdict(
            list
        )  # its rarest word -> name, place of the word
        self._wordless: list[str] = []
        for name in sorted(self.all):
            words = list(_WORD.finditer(name))
            if words:
                rarest = min(words, key=lambda word: counts[word.group()])
                self._by_word[rarest.group()].append((name, rarest.start()))
            else:
                self._wordless.append(name)

    def first_in(self, text: str) -> str | None:
        """The first of the names that stands in `text`, None where none does; a part of a longer name is none."""
        for word in _WORD.finditer(text):
            for name, place in self._by_word.get(word.group(), ()):
                begin = word.start() - place
                if begin >= 0 and text.startswith(name, begin) and _is_whole(text, begin, begin + len(name)):
                    return name
        return next((name for name in self._wordless if name in text), None)


def _is_whole(text: str, begin: int, end: int) -> bool:
    return not (_LONGER_BEFORE.search(text, max(0, begin - 1), begin) or _LONGER_BEHIND.match(text, end))


def leaves(value: Any) -> Iterator[Any]:
    """Every text and number of a JSON value, names of fields included."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value
