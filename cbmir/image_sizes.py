"""The study of image sizes: each image brought to several sizes before an encoder's own preprocessing, and what that does to retrieval.

Each size is an encoder with a name of its own (`NAME~px64`), embedded in one pass with the others, searched exactly, and evaluated as any encoder is.
What is there is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from cbmir.commands import so_far
from cbmir.datasets.medmnist_sets import same_images
from cbmir.embed import embed
from cbmir.embedding.plan import resolve_all
from cbmir.embedding.source import packed_for
from cbmir.encoders.names import detailed, without_detail
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.beforehand import evaluated_with, refuse_searches
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.evaluating.searches import searches_there
from cbmir.exclusions import exclusion_codes
from cbmir.schemas import IMAGE_SIZES
from cbmir.search import DEPTH, EXACT, MOST_NEIGHBORS, SearchOptions, search
from cbmir.select import attach_manifest, connect, keys_where, select_where
from cbmir.sizing.enlarged import enlarged_lines
from cbmir.sizing.options import ImageSizeOptions
from cbmir.sizing.question import question
from cbmir.sizing.table import size_text
from cbmir.store import Study, path_name, run_record

Say = Callable[[str], None]


def study_image_size(
    study: Study, encoders: list[str], options: ImageSizeOptions, *, asked: Sequence[str] = (), say: Say = print
) -> dict[str, Any]:
    """Embed, search and evaluate every encoder at every size, publish image_sizes, and tell what each size costs -> its run.json."""
    options.refuse_nonsense()
    names = {detailed(encoder, size): encoder for encoder in dict.fromkeys(encoders) for size in options.sizes}
    making = replace(options.embed, weights=_weights(options.embed.weights, names))
    specs = resolve_all(list(names), making)  # misuse is said long before anything is embedded
    study.require("manifest")
    if making.packed:
        packed_for(study, specs)
    asked_of_each, again = question(study, [spec.name for spec in specs], options)
    searched = [*(spec.name for spec in specs), *again]
    wanted = _evaluation(study, options, asked_of_each, searched)
    embed(study, list(names), making, say=say)
    for line in enlarged_lines(study, [spec.name for spec in specs], options.sizes):
        say(line)
    for name in searched:
        record, now = search(study, name, EXACT, asked_of_each)
        say(
            f"search {EXACT} of {name}: {record['queries']:,} queries in {record['gallery']:,} images{'' if now else ', already searched'}"
        )
    figures = evaluate(study, wanted, say=say)
    record, sizes = _publish(study, options, figures["fingerprint"], asked)
    bases = {without_detail(spec.name) for spec in specs}
    say(
        "\nretrieval by image size; to the largest: the difference to the same encoder's largest size, over the same queries"
    )
    say(size_text(study, sizes, bases, options.ks))
    return record


def _weights(given: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """--weights of the encoders as they were named -> of each at every size; `names`: that at a size -> the one given."""
    encoders = list(dict.fromkeys(names.values()))
    unknown = [name for name in given if name and name not in encoders]
    if unknown:
        raise UserError(f"--weights {unknown[0]}=...: no such --encoder; found: {', '.join(encoders)}")
    takers = [encoder for encoder in encoders if (spec := resolve(encoder)).needs_weights and not spec.is_random]
    if "" in given and len(takers) != 1:
        raise UserError(
            f"--weights FILE fits one encoder; {len(takers)} of those named take weights; give --weights NAME=FILE for each"
        )
    files = {takers[0]: given[""]} if "" in given else given
    return {name: files[encoder] for name, encoder in names.items() if encoder in files}


def _evaluation(study: Study, options: ImageSizeOptions, asked: SearchOptions, names: list[str]) -> EvaluateOptions:
    """What is evaluated when `names` have been searched; UserError for what search and evaluation would refuse after hours of embedding."""
    gallery = _refuse_what_cannot_be_asked(study, options)
    others = searches_there(study, without={(name, EXACT) for name in names})
    within = min([asked.k or min(DEPTH, gallery), *(each.depth for each in others)])
    wanted = options.evaluate(evaluated_with(study), within=within)
    if not wanted.allow_overlap:
        refuse_overlap(study, gallery=options.gallery, queries=options.queries, exclude_same=options.exclude_same)
    refuse_searches(study, others, wanted)
    return wanted


def _refuse_what_cannot_be_asked(study: Study, options: ImageSizeOptions) -> int:
    """UserError for what a search would refuse -> how many images the gallery has."""
    count = {
        role: keys_where(study, predicate, role=role).num_rows
        for role, predicate in (("gallery", options.gallery), ("queries", options.queries))
    }
    most = min(count["gallery"], MOST_NEIGHBORS)
    if max(options.ks) > most:
        raise UserError(
            f"--k {max(options.ks)} is too deep for the gallery ({count['gallery']:,} images); expected 1 to {most}"
        )
    exclusion_codes(study, options.exclude_same)
    connection = connect()
    attach_manifest(connection, study)
    datasets: set[str] = set()
    for role, predicate in (("gallery", options.gallery), ("queries", options.queries)):
        datasets |= set(select_where(connection, predicate, "dataset", role=role)["dataset"].to_pylist())
    twice = same_images(datasets)
    if twice:
        raise UserError(
            f"{' and '.join(twice)} are the same images at several sizes, so that a query would find itself; choose one of them, the largest, with "
            f"--gallery and --queries: dataset = '{twice[-1]}' AND split = 'train'"
        )
    return count["gallery"]


def _publish(
    study: Study, options: ImageSizeOptions, figures: str, command: Sequence[str]
) -> tuple[dict[str, Any], pa.Table]:
    """image_sizes: every encoder of the study whose name says a size."""
    rows, inputs = [], {"metrics": figures}
    for name in study.names("embeddings"):
        run = study.run_of("embeddings", f"encoder={path_name(name)}")
        detail = ((run or {}).get("spec") or {}).get("geometry", {}).get("detail")
        if detail and run["stage"] == "embed":
            rows.append(
                {
                    "encoder": name,
                    "base_encoder": without_detail(name),
                    "image_size": detail,
                    "seconds_per_image": _seconds(run, name),
                }
            )
            inputs[name] = run["fingerprint"]
    table = pa.Table.from_pylist(rows, schema=IMAGE_SIZES)
    parameters = {
        "sizes": list(options.sizes),
        "gallery": options.gallery,
        "queries": options.queries,
        "exclude_same": list(options.exclude_same),
    }
    commands = so_far(study.run_of("image_sizes"), command)
    with study.publishing("image_sizes") as out:
        out.write_table(table, "image_sizes.parquet", "image_sizes")
        out.run = run_record("image-size", parameters=parameters, inputs=inputs, rows=table.num_rows, commands=commands)
    return out.run, table


def _seconds(run: dict[str, Any], name: str) -> float | None:
    """Of the device, an image: forward passes of the last attempt."""
    attempt = run.get("last_attempt") or {}
    spent = attempt.get("seconds_by", {}).get("forward", {}).get(name)
    return spent / attempt["images"] if spent is not None and attempt.get("images") else None
