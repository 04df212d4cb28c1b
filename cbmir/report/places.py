"""Texts without the places that they name: a report goes to people, not to machines, and a folder may be named after a patient."""

from __future__ import annotations

import re

from cbmir.patience import named

PUBLIC = ("hf://", "https://", "http://")  # addresses of weights, which anybody may ask
_START = r"(?:[A-Za-z][A-Za-z0-9+.-]*://|(?<![A-Za-z])[A-Za-z]:[\\/]|\\\\|(?<![\w.)/…])(?:~|\.\.?)?[\\/])"  # of a path or an address
_PLACE = re.compile(_START)
_ASSIGNED = re.compile(rf"([\w.~@+-]+=)(?={_START})")  # NAME=PATH
_LITERAL = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_ADDRESS = re.compile(rf"(?:{'|'.join(PUBLIC)})\S+")
_FOLDERS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|(?<![\w.)/])/)(?:[^\s/'\"]+/)+")
_QUOTED = re.compile(r"(?<!\w)(['\"])(.*?)\1(?=[\s,;:.)\]]|$)")  # an apostrophe within a name ends nothing
_TO_THE_LAST = re.compile(rf"{_START}(?:.*[\\/])?")
_WHOLE = re.compile(rf"{_START}(?:.*[\\/])?.*?(?=[:;,] |$)")


def bare(text: str) -> str:
    """A word of a command, a predicate or a parameter without the folders of absolute paths; labels and public addresses stay, less their keys.

    "uri LIKE '/data/p 1/%'" -> "uri LIKE '…/%'"; "list_contains(labels, 'XR/chest/Nodule')" stays.
    """
    if text.startswith(PUBLIC):
        return named(text)
    name = found[1] if (found := _ASSIGNED.match(text)) else ""
    if _PLACE.match(text[len(name) :]) and not text[len(name) :].startswith(PUBLIC):
        return f"{name}…/{_name(text)}"
    pieces, end = [], 0
    for literal in _LITERAL.finditer(text):
        pieces += [_unquoted(text[end : literal.start()]), _literal(literal.group())]
        end = literal.end()
    return "".join([*pieces, _unquoted(text[end:])])


def veiled(text: str) -> str:
    """What an error or a remark says, without folders, absolute or not, whatever their names hold; rather too short than too long.

    "cannot open '/data/Jane Doe/a.png'" -> "cannot open '…/a.png'"
    """
    text = _QUOTED.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", text)
    return _TO_THE_LAST.sub("…/", text)


def hidden(text: str) -> str:
    """The same without the names of files, too: of a study whose ids are hashed, they would tell whose image it is."""
    text = _QUOTED.sub(lambda found: found[0] if _is_word(found[2]) else f"{found[1]}…{found[1]}", text)
    return _WHOLE.sub("…", text)


def _literal(text: str) -> str:
    """A text of SQL with its quotes."""
    return f"{text[0]}…/{_name(text[1:-1])}{text[0]}" if _PLACE.match(text[1:-1]) else text


def _unquoted(text: str) -> str:
    kept: list[str] = _ADDRESS.findall(text)
    pieces = [_FOLDERS.sub("…/", piece) for piece in _ADDRESS.split(text)]
    return "".join(piece + address for piece, address in zip(pieces, [*map(named, kept), ""], strict=True))


def _last(text: str) -> str:
    return f"…/{_name(text)}" if re.search(r"[\\/]", text) else text


def _name(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]


def _is_word(text: str) -> bool:
    return re.search(r"[\\/.^]", text) is None
