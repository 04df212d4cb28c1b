"""README against the commands: every command is named there, every cbmir line there parses, and the page is honest about itself."""

import re
import shlex
from pathlib import Path

import pytest

from cbmir.datasets import SOURCES
from cbmir.flags import COMMANDS, parse
from cbmir.sql_files import names
from cbmir.views import VIEWS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """cbmir lines of a page's code blocks, continued lines joined."""
    found = []
    for block in re.findall(r"```\n(.*?)```", page.read_text(), flags=re.DOTALL):
        text = block.replace("\\\n", " ")
        held = ""
        for line in text.splitlines():
            held = f"{held} {line}" if held else line
            if held.count('"') % 2:
                continue
            if held.startswith("cbmir "):
                found.append(held)
            held = ""
    return found


def test_every_command_source_and_view_is_documented():
    for name in (*COMMANDS, *SOURCES, *VIEWS):
        assert re.search(rf"\b{name}\b", README), f"README does not mention {name}"


def test_there_are_commands_to_check():
    assert len(commands(ROOT / "README.md")) >= 12


@pytest.mark.parametrize("line", dict.fromkeys(line for page in PAGES for line in commands(page)))
def test_the_commands_of_readme_and_docs_parse(line):
    assert parse(shlex.split(line)[1:]).command in COMMANDS


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_a_page_with_its_command(source):
    page = ROOT / "docs" / "sources" / f"{source}.md"
    assert page.read_text().startswith(f"# {source}\n")
    assert [line for line in commands(page) if line.startswith((f"cbmir manifest {source} ", f"cbmir run {source} "))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_architecture_names_every_part():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in (ROOT / "cbmir").iterdir():
        if path.name.startswith("__") or path.stem in (
            "errors",
            "store",
            "select",
            "cluster",
            "progress",
            "vectors",
            "sql_files",
        ):
            continue
        assert re.search(rf"\b{path.stem}\b", text), f"ARCHITECTURE.md does not mention {path.stem}"


def test_every_metric_says_its_formula_in_its_first_line():
    for name in names("metrics"):
        assert (ROOT / "sql" / "metrics" / f"{name}.sql").read_text().startswith(f"-- {name}: ")


def test_every_metric_and_level_is_explained():
    from cbmir.evaluating.options import LEVELS

    page = (ROOT / "docs" / "evaluate.md").read_text()
    for name in (*names("metrics"), *LEVELS):
        assert f"| `{name}` |" in page, f"docs/evaluate.md does not explain {name}"


def test_makefile_targets_are_listed_with_what_they_do():
    import subprocess

    said = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True
    ).stdout
    for target in ("demo", "test", "check", "bench"):
        assert f"make {target}" in said


def test_no_tracked_text_holds_a_path_of_some_machine():
    import subprocess

    pattern = "(/home/|/Users/|/" + "root/|/" + "work/|/" + "tmp/)[A-Za-z]"
    result = subprocess.run(
        ["git", "-C", str(ROOT), "grep", "-nIE", pattern], capture_output=True, text=True, check=False
    )
    if result.returncode not in (0, 1):
        pytest.skip("not a git checkout")
    assert result.stdout == ""
