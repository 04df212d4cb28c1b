"""Stage: metrics and studies -> figures/, every chart as SVG and PNG for papers, with its table as CSV."""

from __future__ import annotations

from cbmir.errors import UserError
from cbmir.report.drawn import Asked
from cbmir.store import Study, run_record

READ = ("metrics", "scaling", "scaling_costs", "fits", "search_effort", "image_sizes")


def write_figures(study: Study) -> list[str]:
    """Publish figures/<name>.svg, .png and .csv of every chart that the study has figures for -> their paths, three a chart.

    The same figures give the same bytes. UserError where there is nothing to draw.
    """
    asked = Asked(study)
    charts = list(asked.charts())
    if not charts:
        raise UserError(
            "nothing to draw: no metrics and no study that is up to date; expected one of them; make them with: cbmir evaluate, cbmir study"
        )
    runs = {name: study.run_of(name) for name in READ if asked.has(name)}
    inputs = {name: run["fingerprint"] for name, run in runs.items() if run}
    files = []
    with study.publishing("figures") as out:
        for drawn in charts:
            svg, png = drawn.on_paper()
            for kind, data in (("svg", svg), ("png", png), ("csv", drawn.csv())):
                files.append(f"{drawn.chart.name}.{kind}")
                study.write_bytes(data, *out.parts, files[-1])
        sentences = {drawn.chart.name: drawn.sentence for drawn in charts}
        out.run = run_record("figures", parameters={}, inputs=inputs, rows=len(charts), says=sentences)
    return [study.path("figures", name) for name in files]
