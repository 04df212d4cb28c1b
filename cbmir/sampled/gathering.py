"""All samples that were ever studied, as the datasets that people ask: scaling, scaling_costs, vanished, fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from cbmir.commands import so_far
from cbmir.sampled.curves import fits_of
from cbmir.sampled.options import ScalingOptions
from cbmir.sampled.questions import Found, by_date
from cbmir.sampled.scoring import DRAWS
from cbmir.sampled.work import COSTS_FILE, DRAWS_FILE, METRICS_FILE, VANISHED_FILE
from cbmir.schemas import METRICS, SCALING_COSTS, VANISHED
from cbmir.store import Study, run_record

_ALIKE = ("gallery", "queries", "exclude_same", "metric", "depth", "k", "score", "resamples")
_DRAWN_OF = ("encoder", "index", "sampling", "seed", "sample_size")


def gather(
    study: Study, encoders: Sequence[str], options: ScalingOptions, *, asked: Sequence[str] = (), say=print
) -> dict[str, Any]:
    """Publish the four datasets of all samples that are up to date -> the run.json of scaling.

    Samples of other embeddings or another manifest are left out, which is said; those of `encoders`, which nobody else works on, are deleted.
    """
    current, outdated = by_date(study)
    found = sorted(current, key=_order)
    for parts, _ in outdated:
        if unquote(parts[1]) in encoders:
            study.delete(*parts)
    if outdated:
        whose = ", ".join(sorted({unquote(parts[1]) for parts, _ in outdated}))
        say(
            f"{len(outdated):,} samples of {whose} are older than its embeddings or the manifest, and are left out; study their sizes again"
        )
    inputs = {"/".join(map(unquote, parts[1:])): run["fingerprint"] for parts, run in found}
    parameters = {"at": list(options.at) if options.at else None, **_common(found)}
    tables = {
        "scaling": _together(study, found, METRICS_FILE, METRICS),
        "scaling_costs": _together(study, found, COSTS_FILE, SCALING_COSTS),
        "vanished": _distinct(_together(study, found, VANISHED_FILE, VANISHED)),
    }
    draws = pa.concat_tables([_drawn(study, parts, run) for parts, run in found])
    tables["fits"] = fits_of(tables["scaling"], tables["vanished"], draws, at=options.at)
    commands = so_far({"commands": _commands(found)}, asked)
    for dataset, table in tables.items():
        with study.publishing(dataset) as out:
            out.write_table(table, f"{dataset}.parquet", dataset)
            out.run = run_record(dataset, parameters=parameters, inputs=inputs, rows=table.num_rows, commands=commands)
        if dataset == "scaling":
            run = out.run
    return run


def _order(cell: Found) -> tuple:
    parts, run = cell
    return (*parts[:3], *(run["parameters"][name] for name in ("sampling", "seed", "size")))


def _commands(found: Sequence[Found]) -> list[list[str]]:
    """The commands that made the samples, the first one first: those of samples that are gone are gone with them."""
    in_turn = sorted((run for _, run in found if run.get("command")), key=lambda run: run["finished"])
    return [list(words) for words in dict.fromkeys(tuple(run["command"]) for run in in_turn)]


def _common(found: Sequence[Found]) -> dict[str, Any]:
    """What was asked of all samples alike."""
    return {name: found[0][1]["parameters"][name] for name in _ALIKE} if found else {}


def _distinct(table: pa.Table) -> pa.Table:
    """Each row once, in their order: what has vanished from a sample has, however it is searched."""
    return table.group_by(table.column_names, use_threads=False).aggregate([]).cast(table.schema)


def _together(study: Study, found: Sequence[Found], file: str, contract: pa.Schema) -> pa.Table:
    tables = [_read(study, parts, file).cast(contract) for parts, _ in found]
    return pa.concat_tables([contract.empty_table(), *tables])


def _read(study: Study, parts: tuple[str, ...], file: str) -> pa.Table:
    with study.fs.open_input_file(study.path(*parts, file)) as source:
        return pq.read_table(source)


def _drawn(study: Study, parts: tuple[str, ...], run: dict[str, Any]) -> pa.Table:
    """Draws of one sample, with what names it."""
    table = _read(study, parts, DRAWS_FILE).cast(DRAWS)
    asked = run["parameters"]
    names = {
        "encoder": unquote(parts[1]),
        "index": unquote(parts[2]),
        "sampling": asked["sampling"],
        "seed": asked["seed"],
        "sample_size": asked["size"],
    }
    for name in _DRAWN_OF:
        kind = METRICS.field(name).type
        table = table.append_column(name, pa.array([names[name]] * len(table), kind))
    return table
