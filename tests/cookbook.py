"""The blocks of docs/sql-cookbook.md; as a program, it writes their outputs into the page.

python -m tests.cookbook demo/study
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.processes import cbmir

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sql-cookbook.md"
STUDY = "demo/study"  # as the page names it
# ```sql or ```python, its text, and the output behind it if there is one
_BLOCK = re.compile(r"```(sql|python)\n(.*?)\n```\n(?:\n```text\n.*?\n```\n)?", flags=re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One statement or program of the page; `question`: the number of its section."""

    question: int
    kind: str
    text: str


def blocks() -> list[Block]:
    page = PAGE.read_text()
    headings = [(found.start(), int(found.group(1))) for found in re.finditer(r"^## (\d+)\.", page, flags=re.MULTILINE)]
    return [
        Block(max(number for at, number in headings if at < found.start()), found.group(1), found.group(2))
        for found in _BLOCK.finditer(page)
    ]


def output(block: Block, study: str) -> str:
    """What a block prints, asked of the study that lies there."""
    if block.kind == "sql":
        done = cbmir("sql", "--study", study, block.text, env=os.environ | {"COLUMNS": "200"})
    else:
        import subprocess

        program = block.text.replace(STUDY, study)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"question {block.question}: {done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def main() -> None:
    found = iter(blocks())

    def with_output(match: re.Match) -> str:
        said = output(next(found), sys.argv[1])
        return f"```{match.group(1)}\n{match.group(2)}\n```\n\n```text\n{said}\n```\n"

    PAGE.write_text(_BLOCK.sub(with_output, PAGE.read_text()))


if __name__ == "__main__":
    main()
