"""All charts, in the order of the report."""

from __future__ import annotations

from cbmir.report.charts import (
    anatomy_and_pathology,
    image_size,
    index_size,
    index_size_anatomy,
    index_size_by_label,
    index_size_by_prevalence,
    index_size_costs,
    leaderboard_forest,
    precision_at_every_k,
    search_effort,
)
from cbmir.report.charts.chart import Chart

CHARTS: tuple[Chart, ...] = (
    precision_at_every_k.CHART,
    anatomy_and_pathology.CHART,
    leaderboard_forest.CHART,
    index_size.CHART,
    index_size_anatomy.CHART,
    index_size_by_prevalence.CHART,
    index_size_by_label.CHART,
    index_size_costs.CHART,
    search_effort.CHART,
    search_effort.BY_EXPANSION,
    image_size.CHART,
)
