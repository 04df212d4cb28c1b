"""LaTeX tables taken apart: is the file well formed, and what stands in its cells?"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class Parsed:
    """A table: cells by row, spans filled up with None; marks of notes are left in the text."""

    heads: list[list[str | None]]
    rows: list[list[str | None]]
    caption: str
    notes: str


def argument(text: str, start: int) -> tuple[str, int]:
    """What stands in the braces that open at `start`, and where they end."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in "{}" and not re.search(r"(?<!\\)(\\\\)*\\$", text[:at]):
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return text[start + 1 : at], at + 1
    raise AssertionError(f"braces that open at {start} do not close")


def check(text: str) -> None:
    """AssertionError where braces or environments are not balanced, or a character stands unescaped that LaTeX reads otherwise."""
    body = re.sub(r"(?m)^%.*\n", "", text)
    depth = 0
    for match in re.finditer(r"\\.|[{}]", body, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        assert depth >= 0, f"a brace closes too early before {body[match.start() : match.start() + 40]!r}"
    assert depth == 0, "braces are left open"
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened, f"\\end{{{name}}} without a beginning"
            assert opened.pop() == name, f"\\end{{{name}}} closes another environment"
    assert not opened, f"{opened} are left open"
    plain = re.sub(r"\\(label|cite|input|bibliography|url)\{[^{}]*\}", "", body)
    plain = plain.replace("{!}{%\n", "{!}{\n")  # the one comment that swallows a line's end
    assert not re.search(r"(?<!\\)[#%_^~]", plain), re.findall(r".{20}(?<!\\)[#%_^~].{20}", plain)[:3]
    assert len(re.findall(r"(?<!\\)\$", plain)) % 2 == 0, "mathematics is left open"
    assert not re.search(r"[^\n\u0020-\u007e\u00c0-\u017f]", plain), "characters that T1 fonts lack"


def parse(text: str) -> Parsed:
    """The one table of a checked file; every row has as many columns as the table says."""
    check(text)
    start = text.index(r"\begin{tabular}") + len(r"\begin{tabular}")
    columns, after = argument(text, start)
    assert set(columns) <= set("lrc")
    inside = text[after : text.index(r"\end{tabular}")]
    top, head, *rest = re.split(r"\\toprule|\\midrule|\\bottomrule", inside)
    assert not top.strip()
    assert not rest[-1].strip()
    rows = [_cells(line, len(columns)) for part in rest[:-1] for line in _lines(part)]
    caption, _ = argument(text, text.index(r"\caption") + len(r"\caption"))
    notes = text[text.index(r"\end{tabular}") :]
    return Parsed([_cells(line, len(columns)) for line in _lines(head)], rows, caption, notes)


def _lines(part: str) -> list[str]:
    lines = [re.sub(r"\\cmidrule\(lr\)\{[\d-]+\}", "", line).strip() for line in re.split(r"\\\\(?=[ \n])", part)]
    return [line for line in lines if line]


def _cells(line: str, width: int) -> list[str | None]:
    found: list[str | None] = []
    for cell in re.split(r"(?<!\\)&", line):
        cell = cell.strip()
        match = re.match(r"\\multicolumn\{(\d+)\}\{\w\}", cell)
        if match:
            found += [argument(cell, match.end())[0], *[None] * (int(match.group(1)) - 1)]
        else:
            found.append(cell)
    assert len(found) == width, f"{len(found)} columns in {line!r}; expected {width}"
    return found
