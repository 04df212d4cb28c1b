"""Stage: figures -> paper/, LaTeX tables in the layouts of the published ones, ours beside theirs where both are of the same."""

from __future__ import annotations

from collections.abc import Callable

from cbmir.errors import UserError
from cbmir.fresh import Now
from cbmir.paper import denner2024, index_size, leaderboard, mahbod2024
from cbmir.paper.tex import Table, document, render
from cbmir.references import papers
from cbmir.report.sources import Sources
from cbmir.store import Study, run_record

FILE = "paper.tex"
_NO_FIGURES = "the study has no figures; make them with: cbmir evaluate"


def write_paper(
    study: Study,
    *,
    encoders: tuple[str, ...] | None = None,
    relevance: str = "label",
    k: int = 1,
    say: Callable[[str], None] = print,
) -> str:
    """Publish paper/: a file for each table that the study has figures for, references.bib and paper.tex, which shows them -> its path.

    `encoders`, `relevance` and `k` are those of the leaderboard. UserError where no table can be made.
    """
    study.require("manifest")
    made = _tables(study, encoders, relevance=relevance, k=k)
    tables = {name: found for name, found in made.items() if isinstance(found, Table)}
    if not tables:
        raise UserError(
            f"no table can be made of the study {study.address}: {'; '.join(dict.fromkeys(map(str, made.values())))}"
        )
    now = Now(study)
    used = [name for name in ("manifest", "metrics", "scaling", "fits", "image_sizes") if now.is_fresh(name)]
    inputs = {name: study.require(name)["fingerprint"] for name in used}
    parameters = {"encoders": list(encoders) if encoders else None, "relevance": relevance, "k": k}
    with study.publishing("paper") as out:
        files = {f"{name}.tex": render(table) for name, table in tables.items()}
        files |= {
            "references.bib": "\n\n".join(paper.bibtex for paper in papers().values()) + "\n",
            FILE: document(list(tables)),
        }
        for file, text in files.items():
            study.write_bytes(text.encode(), *out.parts, file)
        out.run = run_record("paper", parameters=parameters, inputs=inputs, rows=len(tables))
    for name, found in made.items():
        if not isinstance(found, Table):
            say(f"paper: no table {name}: {found}")
    say(f"paper: {study.path('paper', FILE)} with {', '.join(tables)}")
    return study.path("paper", FILE)


def _tables(study: Study, encoders: tuple[str, ...] | None, *, relevance: str, k: int) -> dict[str, Table | str]:
    """Name -> the table, or why there is none."""
    made: dict[str, Table | str] = dict.fromkeys((leaderboard.NAME, denner2024.NAME, mahbod2024.NAME), _NO_FIGURES)
    if study.run_of("metrics"):
        sources = Sources(study)
        made[leaderboard.NAME] = leaderboard.table(sources, encoders, relevance=relevance, k=k)
        made[denner2024.NAME] = denner2024.table(sources)
        of_sets = mahbod2024.tables(sources)
        if not isinstance(of_sets, str):
            del made[mahbod2024.NAME]
            made |= {table.name: table for table in of_sets}
        else:
            made[mahbod2024.NAME] = of_sets
    return made | {index_size.NAME: index_size.table(study)}
