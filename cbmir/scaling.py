"""The index-size study: how retrieval changes with the number of images in the gallery.

Nested samples of a gallery, searched exactly in one pass over its vectors, and through an index built of each; every sample's figures are a checkpoint
of their own, so that a study that is interrupted, or gets more sizes, seeds, encoders or indexes, does only what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cbmir.errors import UserError
from cbmir.evaluating.overlap import refuse_overlap
from cbmir.exclusions import exclusion_codes, exclusion_inputs
from cbmir.holding import held
from cbmir.progress import Progress
from cbmir.sampled.cells import Cell
from cbmir.sampled.gathering import gather
from cbmir.sampled.options import TUNED, ScalingOptions
from cbmir.sampled.orders import asked_sizes
from cbmir.sampled.questions import by_date, depth_for, studied_otherwise
from cbmir.sampled.spread import Part, Task, run_tasks
from cbmir.sampled.told import lines
from cbmir.search import EXACT, Roles, roles_of
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
    exclusion_codes(study, options.exclude_same)  # says which columns there are
    if not options.allow_overlap:
        refuse_overlap(study, gallery=options.gallery, queries=options.queries, exclude_same=options.exclude_same)
    names = list(dict.fromkeys(find_encoder(study, encoder) for encoder in encoders))
    others = study.names("scaling_cells") if options.overwrite else []  # whose samples may be deleted
    with _held(study, {*names, *others}):
        run = _studied(study, names, options, asked, say)
    for line in lines(study, names, options.told):
        say(line)
    return run


@contextlib.contextmanager
def _held(study: Study, encoders: set[str]) -> Iterator[None]:
    """One run at a time works on an encoder's samples: it deletes their exact neighbors when it is done."""
    with contextlib.ExitStack() as stack:
        for encoder in sorted(encoders):  # the same order in every run, or two would wait for each other
            stack.enter_context(held(study, "scaling_cells", path_name(encoder)))
        yield


def _studied(
    study: Study, encoders: list[str], options: ScalingOptions, asked: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Do what is missing. Nothing is deleted before everything that was asked for is known to be possible."""
    vectors = {encoder: Vectors(study, encoder) for encoder in encoders}
    roles = {encoder: roles_of(study, mine, options.gallery, options.queries) for encoder, mine in vectors.items()}
    there, _ = by_date(study)
    options = replace(options, k=depth_for(there, [len(each.gallery) for each in roles.values()], options))
    options.refuse_depths()
    others = studied_otherwise(there, encoders, options)
    parts = [_part(study, vectors[encoder], roles[encoder], options, asked) for encoder in encoders]
    for address in others:
        study.delete(*address)
    missing = sum(len(task.cells) for part in parts for task in part.tasks)
    total = sum(part.cells for part in parts)
    if missing:
        if missing < total:
            say(f"{total - missing:,} of {total:,} samples are done already")
        with Progress("study index-size", missing, unit="samples") as progress:
            run_tasks(study, parts, options, progress)
    with held(study, "scaling"):
        run = gather(study, encoders, options, asked=asked, say=say)
    for encoder in encoders:
        study.delete("scaling_neighbors", path_name(encoder))
    return run


def _part(study: Study, vectors: Vectors, roles: Roles, options: ScalingOptions, command: Sequence[str]) -> Part:
    encoder = vectors.encoder
    if options.index.pca is not None and options.index.pca > vectors.dim:
        raise UserError(
            f"--pca {options.index.pca}; the vectors of {encoder} have {vectors.dim} numbers; expected as many or fewer"
        )
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    inputs |= exclusion_inputs(study, options.exclude_same)
    sizes = asked_sizes(encoder, len(roles.gallery), options)
    part = Part(encoder, inputs, roles.gallery, roles.queries, sizes)
    for seed in range(options.seeds):
        for size in part.asked:
            for names in _indexes(options):
                cells = [Cell(encoder, name, options.sampling, seed, size) for name in names]
                _add(study, part, cells, options, command)
    return part


def _indexes(options: ScalingOptions) -> list[tuple[str, ...]]:
    """What one task does together: exact search, or an index at its fixed and at its tuned expansion."""
    return [(name,) if name == EXACT else (name, name + TUNED) for name in options.indexes]


def _add(study: Study, part: Part, cells: list[Cell], options: ScalingOptions, command: Sequence[str]) -> None:
    """The task that makes those of the cells that are missing."""
    part.cells += len(cells)
    drafts = [cell.record(part.inputs, options, command=command) for cell in cells]
    missing = [(cell, draft) for cell, draft in zip(cells, drafts, strict=True) if not cell.is_done(study, draft)]
    if missing:
        part.tasks.append(Task([cell for cell, _ in missing], [draft for _, draft in missing]))
