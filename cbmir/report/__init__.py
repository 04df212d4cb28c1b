"""Stage: metrics -> the report, one HTML file that opens without a network; its charts as files for papers; and a leaderboard for the terminal.

Every figure comes from a statement under sql/report/, asked over the study's datasets; Python and the templates only lay
out rows.
"""

from __future__ import annotations

from typing import Any

from cbmir.errors import UserError
from cbmir.report.figures import write_figures
from cbmir.report.tables import leaderboard, leaderboard_text
from cbmir.store import Study, run_record

__all__ = ["leaderboard", "leaderboard_text", "query_page", "volume_query_page", "write_figures", "write_report"]

FILE = "report.html"
EXAMPLES = 60  # queries shown with what they found


def write_report(study: Study, *, examples: int = EXAMPLES, seed: int = 0) -> str:
    """Render and publish report/report.html of a study that has metrics, or figures of studies -> its path.

    At most `examples` queries are shown with their neighbors, fewer where the file would grow beyond page.MOST_BYTES; `seed` settles which.
    """
    from cbmir.report.page import bounded, study_page
    from cbmir.report.sources import Sources

    for name, value in (("examples", examples), ("seed", seed)):
        if value < 0:
            raise UserError(f"--{name} {value}; expected 0 or more")
    sources = Sources(study)
    context = study_page(sources, examples=examples, seed=seed)
    used = {"manifest": sources.manifest_run, "metrics": sources.metrics_run, **sources.studies_runs}
    inputs = {name: run["fingerprint"] for name, run in used.items() if run}
    parameters = {"examples": examples, "seed": seed}
    with study.publishing("report") as out:
        study.write_bytes(bounded("report.html.j2", context), *out.parts, FILE)
        out.run = run_record("report", parameters=parameters, inputs=inputs, rows=len(context["board"]))
    return study.path("report", FILE)


def query_page(results: list[dict[str, Any]], *, title: str) -> str:
    """HTML of the answers to single images, the query at left, its neighbors and their vote at right.

    Each result is {image, uri, neighbors: [{rank, distance, image_id, labels, modality, region, split, uri}],
    votes?: [{label, share}], error?}.
    """
    from cbmir.report.gallery import VOTES, answers
    from cbmir.report.page import render

    return render("query.html.j2", title=title, answers=answers(results), votes_shown=VOTES)


def volume_query_page(results: list[dict[str, Any]], *, title: str) -> str:
    """HTML of the answers to single volumes: the query at left, the volumes that it found at right, of each the pairs of slices that match, side by side.

    Results as those of `query_page`; each neighbor has `slices`: [{query_slice, query_uri, slice, uri, distance}], and left_out? says which slices are not asked with.
    """
    from cbmir.report.gallery import VOTES
    from cbmir.report.page import render
    from cbmir.report.volume_answers import volume_answers

    return render("volume_query.html.j2", title=title, answers=volume_answers(results), votes_shown=VOTES)
