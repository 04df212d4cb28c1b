"""Which slices of a volume are meant: one, some of them, or every so many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.read import split_uri

_WRITTEN = re.compile(r"(\d+)(?:-(\d+)(?:/(\d+))?)?")
_STEPPED = re.compile(r"((?:^|&)(?:slice|frame)=[^&]*)")


@dataclass(frozen=True)
class SliceRange:
    """Slices `first` to `last`, both of them counted, each `every`th; numbers begin at 0."""

    first: int
    last: int
    every: int = 1

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first)
        return f"{self.first}-{self.last}" + (f"/{self.every}" if self.every > 1 else "")

    @property
    def numbers(self) -> range:
        return range(self.first, self.last + 1, self.every)

    def of(self, count: int, what: str = "slice", whole: str = "volume") -> range:
        """The numbers, of `count` slices; ImageError for such as are not there."""
        if self.last >= count:
            many = "s" if self.first != self.last else ""
            raise ImageError(f"{what}{many} {self} of a {whole} with {count} {what}s (0 to {count - 1})", stage="read")
        return self.numbers


def parse_range(text: str, flag: str) -> SliceRange:
    """'30', '20-40' or '20-40/2' -> the range; UserError for what is none. flag: as it was given, 'slice=' or '--slices '."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise UserError(
            f"{flag}{text}; expected a number, FIRST-LAST or FIRST-LAST/EVERY, such as 30, 20-40 or 20-40/2"
        )
    first, last, every = (int(number) if number is not None else None for number in found.groups())
    last, every = first if last is None else last, 1 if every is None else every
    if last < first:
        raise UserError(f"{flag}{text} ends before it begins; expected FIRST-LAST, such as {last}-{first}")
    if every < 1:
        raise UserError(f"{flag}{text} takes every slice number {every}; expected 1 or more, such as {first}-{last}/2")
    return SliceRange(first, last, every)


def parted(argument: str) -> tuple[str, dict[str, str]]:
    """As `split_uri`, of an address whose slices may be a range: its '/' is no directory's."""
    place, sign, fragment = argument.rpartition("#")
    if not sign:
        return argument, {}
    location, part = split_uri(f"{place}#{_STEPPED.sub(lambda found: found[0].replace('/', '%2F'), fragment)}")
    return (location, part) if part else (argument, {})


def joined(location: str, part: dict[str, str]) -> str:
    """The other way round; a name that would itself be read as one with a part gets one behind it."""
    if not part:
        return f"{location}#frame=0" if split_uri(location)[1] else location
    return f"{location}#{urlencode(part, quote_via=quote, safe=',')}"
