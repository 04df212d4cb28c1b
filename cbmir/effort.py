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
from cbmir.searching.searchers import torch_device
from cbmir.searching.threads import cores
from cbmir.store import Study, path_name, run_record
from cbmir.sweeping.front import Row, front_text, recommended, with_front
from cbmir.sweeping.measuring import processor
from cbmir.sweeping.options import EffortOptions
from cbmir.sweeping.sweep import POINTS, Sweep, made_of
from cbmir.vectors import find_encoder

FIGURES = "search_effort"
_ALIKE = ("gallery", "queries", "exclude_same", "metric", "depth", "expansion_add", "threads", "processor", "device")


def study_search_effort(
    study: Study, encoders: list[str], options: EffortOptions, *, asked: Sequence[str] = (), say=print
) -> dict[str, Any]:
    """Measure every point of the sweep for each encoder, publish search_effort, and tell of the fronts -> its run.json.

    What an earlier sweep found of other encoders stays in the dataset where their embeddings have not changed since, and where they were asked the
    same on the same machine; else that is said.
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
    record = _publish(study, table, sweeps, options, asked, say)
    found = table.to_pylist()
    for sweep in sweeps:
        say(f"\n{sweep.title()}; points that no other one beats in speed and recall, and exact search:")
        say(front_text(found, sweep.encoder, options))
        say(recommended(found, sweep.encoder, options, study=study.address))
    return record


def _publish(
    study: Study, table: pa.Table, sweeps: list[Sweep], options: EffortOptions, command: Sequence[str], say
) -> dict[str, Any]:
    """search_effort: the rows of these sweeps, and of other encoders those that still hold."""
    asked = {name: value for name, value in asdict(options).items() if name != "overwrite"} | {
        "exclude_same": list(options.exclude_same),
        "depth": options.depth,
        "device": torch_device(options.device),
        "threads": options.threads or cores(),
        "processor": processor(),
    }
    parameters = {sweep.encoder: asked for sweep in sweeps}
    inputs = {sweep.encoder: sweep.made_of for sweep in sweeps}
    before = study.run_of(FIGURES)
    if before:
        kept = [
            name for name in before["inputs"] if name not in inputs and _still_holds(study, name, before, asked, say)
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


def _still_holds(study: Study, encoder: str, before: dict[str, Any], asked: dict[str, Any], say) -> bool:
    """Whether what was found of another encoder may stand beside what is found now; says why not."""
    if before["inputs"][encoder] != _made_of(study, encoder):
        say(f"{encoder} is no longer in {FIGURES}: its vectors or the manifest have changed since it was measured")
        return False
    there = before["parameters"][encoder]
    changed = next((name for name in _ALIKE if there.get(name) != asked[name]), None)
    if changed:
        flag = {"depth": "the largest --k", "processor": "the processor"}.get(changed, f"--{changed.replace('_', '-')}")
        say(
            f"{encoder} is no longer in {FIGURES}: it was measured with {flag} {there.get(changed)}, now {asked[changed]}; measure it in the same "
            "way, and it is there again"
        )
    return changed is None


def _made_of(study: Study, encoder: str) -> str:
    """What identifies an encoder's vectors and the manifest as they are now."""
    embeddings = study.run_of("embeddings", f"encoder={path_name(encoder)}") or {}
    return made_of(embeddings.get("fingerprint"), study.require("manifest")["fingerprint"])
