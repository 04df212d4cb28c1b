"""The index-size study: how retrieval changes with the number of images in the gallery.

Nested samples of a gallery, searched exactly in one pass over its vectors, and through an index built of each; every sample's figures are a checkpoint
of their own, so that a study that is interrupted, or gets more sizes, seeds, encoders or indexes, does only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cbmir.errors import UserError
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.exclusions import exclusion_codes, exclusion_inputs
from cbmir.progress import Progress
from cbmir.sampled.cells import Cell
from cbmir.sampled.gathering import gather, refuse_other_questions
from cbmir.sampled.options import TUNED, ScalingOptions
from cbmir.sampled.orders import asked_sizes
from cbmir.sampled.spread import Part, Task, run_tasks
from cbmir.sampled.told import lines
from cbmir.search import EXACT
from cbmir.select import keys_where
from cbmir.store import Study, path_name
from cbmir.vectors import Vectors, find_encoder


def study_index_size(
    study: Study,
    encoders: list[str],
    options: ScalingOptions,
    *,
    asked: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Publish scaling, scaling_costs, vanished and fits -> the run.json of scaling.

    asked: the words of the command, for the report's last section.
    """
    options.refuse_nonsense()
    refuse_other_questions(study, options)
    exclusion_codes(study, options.exclude_same)  # says which columns there are
    if not options.allow_overlap:
        refuse_overlap(study, gallery=options.gallery, queries=options.queries, exclude_same=options.exclude_same)
    parts = [_part(study, encoder, options) for encoder in dict.fromkeys(encoders)]
    missing = sum(len(task.cells) for part in parts for task in part.tasks)
    total = sum(part.cells for part in parts)
    if missing:
        if missing < total:
            say(f"{total - missing:,} of {total:,} samples are done already")
        with Progress("study index-size", missing, unit="samples") as progress:
            run_tasks(study, parts, options, progress)
    run = gather(study, options, asked=asked)
    for part in parts:
        study.delete("scaling_neighbors", path_name(part.encoder))
    for line in lines(study, [part.encoder for part in parts]):
        say(line)
    return run


def _part(study: Study, name: str, options: ScalingOptions) -> Part:
    encoder = find_encoder(study, name)
    vectors = Vectors(study, encoder)
    if options.index.pca is not None and options.index.pca > vectors.dim:
        raise UserError(
            f"--pca {options.index.pca}; the vectors of {encoder} have {vectors.dim} numbers; expected as many or fewer"
        )
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    inputs |= exclusion_inputs(study, options.exclude_same)
    gallery, queries = (
        _embedded(study, vectors, predicate, role)
        for predicate, role in ((options.gallery, "gallery"), (options.queries, "queries"))
    )
    part = Part(encoder, inputs, gallery, queries, asked_sizes(encoder, len(gallery), options))
    for seed in range(options.seeds):
        for size in part.asked:
            for names in _indexes(options):
                _add(study, part, [Cell(encoder, name, options.sampling, seed, size) for name in names], options)
    return part


def _indexes(options: ScalingOptions) -> list[tuple[str, ...]]:
    """What one task does together: exact search, or an index at its fixed and at its tuned expansion."""
    return [(name,) if name == EXACT else (name, name + TUNED) for name in options.indexes]


def _add(study: Study, part: Part, cells: list[Cell], options: ScalingOptions) -> None:
    """The task that makes those of the cells that are missing."""
    part.cells += len(cells)
    drafts = [cell.record(part.inputs, options) for cell in cells]
    missing = [
        (cell, draft)
        for cell, draft in zip(cells, drafts, strict=True)
        if not cell.is_done(study, draft, overwrite=options.overwrite)
    ]
    if missing:
        part.tasks.append(Task([cell for cell, _ in missing], [draft for _, draft in missing]))


def _embedded(study: Study, vectors: Vectors, predicate: str, role: str) -> np.ndarray:
    selected = keys_where(study, predicate, role=role)["image_key"].to_numpy()
    keys = vectors.keys(selected)
    if len(keys) == 0:
        raise UserError(
            f"the {role} is empty: none of the {len(selected):,} images of {predicate} was embedded by {vectors.encoder}; see failures"
        )
    return keys
