"""Tables as LaTeX: booktabs, notes below, every name escaped."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "-": "-{}", "–": "--", "—": "---", "…": r"\dots{}",
}  # fmt: skip
_LAST = 0x17F  # Latin Extended-A: what T1 fonts hold; the control characters before it are none
_LACKING = frozenset(
    "ĦħĸĿŀŉŦŧſ"
)  # of Latin Extended-A: T1 has neither the letter nor what it could be put together from
DASH = "--"


@dataclass
class Table:
    """One table. Cells are LaTeX: names come from `escape`. A row is its cells, one text that spans all columns, or None: a rule."""

    name: str  # of the file, and of the label
    caption: str
    columns: str  # l, r and c, as tabular takes them
    heads: list[list[tuple[str, int]]]  # lines of (text, columns that it spans)
    rows: list[list[str] | str | None]
    notes: dict[str, str] = field(default_factory=dict)  # mark -> text; a mark that begins with a space is not shown


def escape(text: str) -> str:
    """Any text as LaTeX prints it; a character that T1 fonts lack stands there by its code: U+4E2D."""
    return "".join(map(_character, text))


def name(text: str) -> str:
    """A name as cbmir has it."""
    return rf"\texttt{{{escape(text)}}}"


def marked(cell: str, *marks: str) -> str:
    """A cell with the marks of its notes."""
    return cell + (rf"\textsuperscript{{{','.join(marks)}}}" if marks else "")


def _character(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    if unicodedata.category(c) in ("Cc", "Zs"):
        return " "
    return c if " " <= c <= "~" or (0xC0 <= ord(c) <= _LAST and c not in _LACKING) else f"U+{ord(c):04X}"


def render(table: Table) -> str:
    r"""The file of a table, to be \input; a wide one is shrunk to the line."""
    width = len(table.columns)
    lines = [
        "% made by cbmir; needs booktabs, graphicx and textcomp",
        r"\begin{table}[p]",
        r"\centering",
        rf"\caption{{{table.caption}}}",
        rf"\label{{tab:{table.name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{table.columns}}}",
        r"\toprule",
        *_heads(table.heads),
        r"\midrule",
        *(_row(row, width) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *_notes(table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _heads(heads: list[list[tuple[str, int]]]) -> list[str]:
    """Header lines; under a text that spans several columns, a rule of their width."""
    lines = []
    for head in heads:
        cells, rules, place = [], [], 1
        for text, span in head:
            cells.append(text if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{text}}}")
            if span > 1 and text:
                rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
            place += span
        lines.append(" & ".join(cells) + r" \\" + (" " + "".join(rules) if rules else ""))
    return lines


def _row(row: list[str] | str | None, width: int) -> str:
    if row is None:
        return r"\midrule"
    if isinstance(row, str):
        return rf"\multicolumn{{{width}}}{{l}}{{{row}}} \\"
    return " & ".join(row) + r" \\"


def _notes(notes: dict[str, str]) -> list[str]:
    texts = [text if mark.startswith(" ") else rf"\textsuperscript{{{mark}}} {text}" for mark, text in notes.items()]
    if not texts:
        return []
    return [r"\par\smallskip", r"\parbox{\linewidth}{\footnotesize\raggedright", " \\par\n".join(texts), "}"]


def document(tables: list[str]) -> str:
    """A file that shows the tables, each by its file's name, with the references."""
    lines = [
        "% made by cbmir: pdflatex paper, bibtex paper, pdflatex paper, pdflatex paper",
        r"\documentclass[10pt,a4paper]{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{textcomp}",
        r"\usepackage[margin=2cm]{geometry}",
        r"\usepackage{booktabs}",
        r"\usepackage{graphicx}",
        r"\usepackage{url}",
        r"\begin{document}",
        *(rf"\input{{{table}}}" for table in tables),
        r"\clearpage",
        r"\nocite{*}",
        r"\bibliographystyle{plain}",
        r"\bibliography{references}",
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"
