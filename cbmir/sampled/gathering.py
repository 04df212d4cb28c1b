"""All samples that were ever studied, as the datasets that people ask: scaling, scaling_costs, vanished, fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from cbmir.commands import so_far
from cbmir.errors import UserError
from cbmir.sampled.curves import fits_of
from cbmir.sampled.options import ScalingOptions
from cbmir.sampled.scoring import DRAWS
from cbmir.sampled.work import COSTS_FILE, DRAWS_FILE, METRICS_FILE, VANISHED_FILE
from cbmir.schemas import METRICS, SCALING_COSTS, VANISHED
from cbmir.store import Study, path_name, run_record

_QUESTION = {
    "gallery": "--gallery",
    "queries": "--queries",
    "exclude_same": "--exclude-same",
    "metric": "--metric",
    "depth": "-k",
}
_DRAWN_OF = ("encoder", "index", "sampling", "seed", "sample_size")


def cells(study: Study) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Address and run.json of each finished sample."""
    for encoder in study.names("scaling_cells"):
        for index in study.names("scaling_cells", path_name(encoder)):
            for name in study.names("scaling_cells", path_name(encoder), path_name(index)):
                parts = ("scaling_cells", path_name(encoder), path_name(index), name)
                run = study.run_of(*parts)
                if run is not None:
                    yield parts, run


def refuse_other_questions(study: Study, options: ScalingOptions) -> None:
    """UserError where samples were studied with another gallery, other queries or distances: their curves would stand beside each other."""
    asked = options.question()
    for parts, run in list(cells(study)):
        changed = next((name for name in _QUESTION if run["parameters"][name] != asked[name]), None)
        if changed is None:
            continue
        if not options.overwrite:
            raise UserError(
                f"samples of {unquote(parts[1])} were studied with {_QUESTION[changed]} {run['parameters'][changed]}, now {asked[changed]}; one study asks one "
                "question of all: give the same, or --overwrite to begin anew"
            )
        study.delete(*parts)


def gather(study: Study, options: ScalingOptions, *, asked: Sequence[str] = ()) -> dict[str, Any]:
    """Publish the four datasets of all samples that are up to date -> the run.json of scaling; outdated samples are deleted."""
    found = sorted(_current(study), key=_order)
    inputs = {"/".join(map(unquote, parts[1:])): run["fingerprint"] for parts, run in found}
    commands = so_far(study.run_of("scaling") if not options.overwrite else None, asked)
    parameters = {"at": list(options.at) if options.at else None, **_common(found)}
    tables = {
        "scaling": _together(study, found, METRICS_FILE, METRICS),
        "scaling_costs": _together(study, found, COSTS_FILE, SCALING_COSTS),
        "vanished": _together(study, found, VANISHED_FILE, VANISHED),
    }
    draws = pa.concat_tables([_drawn(study, parts, run) for parts, run in found])
    tables["fits"] = fits_of(tables["scaling"], tables["vanished"], draws, at=options.at)
    for dataset, table in tables.items():
        with study.publishing(dataset) as out:
            out.write_table(table, f"{dataset}.parquet", dataset)
            out.run = run_record(dataset, parameters=parameters, inputs=inputs, rows=table.num_rows, commands=commands)
        if dataset == "scaling":
            run = out.run
    return run


def _order(cell: tuple[tuple[str, ...], dict[str, Any]]) -> tuple:
    parts, run = cell
    return (*parts[:3], *(run["parameters"][name] for name in ("sampling", "seed", "size")))


def _current(study: Study) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Finished samples of the embeddings and the manifest that there are now."""
    manifest = study.require("manifest")["fingerprint"]
    for parts, run in list(cells(study)):
        embeddings = study.run_of("embeddings", f"encoder={parts[1]}") or {}
        if (run["inputs"]["manifest"], run["inputs"]["embeddings"]) == (manifest, embeddings.get("fingerprint")):
            yield parts, run
        else:
            study.delete(*parts)


def _common(found: list[tuple[tuple[str, ...], dict[str, Any]]]) -> dict[str, Any]:
    """What was asked of all samples alike."""
    return {name: found[0][1]["parameters"][name] for name in (*_QUESTION, "k", "score", "resamples")} if found else {}


def _together(
    study: Study, found: list[tuple[tuple[str, ...], dict[str, Any]]], file: str, contract: pa.Schema
) -> pa.Table:
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
