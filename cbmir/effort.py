"""The study of search effort: types of graphs, expansions and re-ranking, measured in speed and quality, and which of them no other is better than.

    effort_points/<encoder>/<point>   neighbors of all queries and timings of one way to search: the checkpoint of a sweep
    effort_graphs/<encoder>/<graph>   graphs while they are measured
    search_effort                     the figures

Points are measured one after the other, each alone on the machine, by this process; those that are there are not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cbmir.commands import so_far
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.holding import held
from cbmir.store import Study, path_name, run_record
from cbmir.sweeping.front import Row, front_text, recommended, with_front
from cbmir.sweeping.measuring import processor
from cbmir.sweeping.options import EffortOptions
from cbmir.sweeping.sweep import POINTS, Sweep, made_of
from cbmir.vectors import find_encoder

FIGURES = "search_effort"
_NOT_THE_FIGURES = ("overwrite", "device", "keep_graphs")


def study_search_effort(
    study: Study, encoders: list[str], options: EffortOptions, *, asked: Sequence[str] = (), say=print
) -> dict[str, Any]:
    """Measure every point of the sweep for each encoder, publish search_effort, and tell of the fronts -> its run.json.

    What an earlier sweep found of other encoders, whose embeddings have not changed since, stays in the dataset.
    """
    options.refuse_nonsense()
    study.require("manifest")
    sweeps = [Sweep(study, name, options) for name in dict.fromkeys(find_encoder(study, name) for name in encoders)]
    if not options.allow_overlap:
        refuse_overlap(study, gallery=options.gallery, queries=options.queries, exclude_same=options.exclude_same)
    rows: list[Row] = []
    for sweep in sweeps:
        if line := sweep.raised_line():
            say(line)
        with held(study, POINTS, path_name(sweep.encoder)):
            rows += sweep.measured(say)
    table = with_front(rows)
    record = _publish(study, table, sweeps, options, asked)
    found = table.to_pylist()
    for sweep in sweeps:
        say(f"\n{sweep.title()}; points that no other one beats in speed and recall, and exact search:")
        say(front_text(found, sweep.encoder, options))
        say(recommended(found, sweep.encoder, options, study=study.address))
    return record


def _publish(
    study: Study, table: pa.Table, sweeps: list[Sweep], options: EffortOptions, command: Sequence[str]
) -> dict[str, Any]:
    """search_effort: the rows of these sweeps, and of other encoders those that still hold."""
    asked = {name: value for name, value in asdict(options).items() if name not in _NOT_THE_FIGURES}
    parameters = {sweep.encoder: asked | {"threads": sweep.threads, "processor": processor()} for sweep in sweeps}
    inputs = {sweep.encoder: sweep.made_of for sweep in sweeps}
    before = study.run_of(FIGURES)
    if before:
        kept = [
            name for name in before["inputs"] if name not in inputs and before["inputs"][name] == _made_of(study, name)
        ]
        old = pq.read_table(study.files(FIGURES)[0], filesystem=study.fs)
        table = pa.concat_tables([table, old.filter(pc.is_in(old["encoder"], pa.array(kept, pa.string())))])
        parameters |= {name: before["parameters"][name] for name in kept}
        inputs |= {name: before["inputs"][name] for name in kept}
    with study.publishing(FIGURES) as out:
        out.write_table(table, f"{FIGURES}.parquet", FIGURES)
        out.run = run_record(
            FIGURES, parameters=parameters, inputs=inputs, rows=table.num_rows, commands=so_far(before, command)
        )
    return out.run


def _made_of(study: Study, encoder: str) -> str:
    """What identifies an encoder's vectors and the manifest as they are now."""
    embeddings = study.run_of("embeddings", f"encoder={path_name(encoder)}") or {}
    return made_of(embeddings.get("fingerprint"), study.require("manifest")["fingerprint"])
