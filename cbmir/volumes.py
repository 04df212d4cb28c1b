"""Stage: the vectors of slices -> a study of volumes, and the vectors of the volumes.

    STUDY/volumes/manifest                   a row a volume
    STUDY/volumes/slices/encoder=E           which slices make each volume, and which of them have a vector
    STUDY/volumes/embeddings/encoder=E~mean  a vector a volume, by one reduction of an encoder's vectors

A volume is the rows of a manifest that share dataset and volume_id. Its study lies within the study of its slices and is one like any other: what searches,
evaluates, indexes or reports images does the same for volumes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from cbmir.errors import UserError
from cbmir.holding import held
from cbmir.origin import of_the_images
from cbmir.progress import Progress
from cbmir.select import attach_manifest, connect
from cbmir.store import Study, path_name, run_record
from cbmir.vectors import find_encoder
from cbmir.volumetric.catalog import write_catalog
from cbmir.volumetric.options import ReductionOptions
from cbmir.volumetric.place import DIRECTORY, STAGE, is_of_volumes, slices_of
from cbmir.volumetric.reduce import Target, reduce_volumes
from cbmir.volumetric.reductions import Reduction, parse_reductions
from cbmir.volumetric.slices import Slices, write_slices


def volume_name(encoder: str, reduction: Reduction) -> str:
    """'resnet18~mean': an encoder's name in the study of volumes."""
    return f"{encoder}~{reduction.name}"


def make_volumes(
    study: Study, encoders: list[str], options: ReductionOptions, *, say: Callable[[str], None] = print
) -> tuple[Study, dict[str, list[str]]]:
    """Publish the volumes of a study and their vectors by each reduction -> (the study of volumes, the names of each encoder's vectors).

    What is there and of the same slices is left as it is.
    """
    refuse_volumes(study)
    names = list(dict.fromkeys(find_encoder(study, encoder) for encoder in encoders))
    parse_reductions(options.reductions, 2)  # misuse is said before anything is made
    with held(study, DIRECTORY):
        volumes, run, written = write_catalog(study)
        say(_catalog_line(volumes, run, written))
        reductions = parse_reductions(options.reductions, usual_slices(volumes))
        made = {name: _reduced(volumes, name, reductions, options, say) for name in names}
    return volumes, made


def list_volumes(study: Study) -> Study:
    """Publish the manifest of a study's volumes, where it is not there -> the study of volumes, of which nothing need be embedded."""
    refuse_volumes(study)
    with held(study, DIRECTORY):
        return write_catalog(study)[0]


def refuse_volumes(study: Study) -> None:
    """UserError for a study of volumes where one of images is meant."""
    if is_of_volumes(study):
        raise UserError(
            f"--study {study.address} is a study of volumes; expected that of their slices: --study {slices_of(study).address}"
        )


def usual_slices(volumes: Study) -> int:
    """The number of slices that most volumes have; of several, the largest."""
    connection = connect()
    attach_manifest(connection, volumes)
    return connection.execute(
        "SELECT n_slices FROM manifest GROUP BY n_slices ORDER BY count(*) DESC, n_slices DESC LIMIT 1"
    ).fetchall()[0][0]


def _reduced(
    volumes: Study, encoder: str, reductions: list[Reduction], options: ReductionOptions, say: Callable[[str], None]
) -> list[str]:
    """Publish what is missing of one encoder's vectors -> the names of all of them."""
    write_slices(volumes, encoder)
    slices = Slices(volumes, encoder)
    for line in slices.failed_lines():
        say(line)
    wanted = []
    for reduction in reductions:
        draft = _draft(slices, reduction)
        before = volumes.run_of("embeddings", f"encoder={path_name(volume_name(encoder, reduction))}")
        if before and before["fingerprint"] == draft["fingerprint"] and not options.overwrite:
            say(f"{_line(volume_name(encoder, reduction), before)}, already made")
        else:
            wanted.append((reduction, draft))
    if wanted:
        for name, run in _write(slices, wanted, options):
            say(_line(name, run))
    return [volume_name(encoder, reduction) for reduction in reductions]


def _draft(slices: Slices, reduction: Reduction) -> dict[str, Any]:
    inputs = {
        "embeddings": slices.vectors.run["fingerprint"],
        "manifest": slices.study.require("manifest")["fingerprint"],
    }
    return run_record(STAGE, parameters={"source": slices.encoder, "reduction": reduction.name}, inputs=inputs, rows=0)


def _write(
    slices: Slices, wanted: list[tuple[Reduction, dict[str, Any]]], options: ReductionOptions
) -> list[tuple[str, dict[str, Any]]]:
    """All reductions in one pass over the slices' vectors, published together at its end -> (name, run.json) of each."""
    study, total = slices.study, len(slices.all_volumes)
    began = time.monotonic()
    done = []
    with contextlib.ExitStack() as stack, Progress("volumes", total, unit="volumes") as progress:
        outs = []
        for reduction, _ in wanted:
            directory = f"encoder={path_name(volume_name(slices.encoder, reduction))}"
            outs.append(
                [stack.enter_context(study.publishing(dataset, directory)) for dataset in ("embeddings", "failures")]
            )
        targets = [
            Target(reduction, vectors.parts, failures.parts)
            for (reduction, _), (vectors, failures) in zip(wanted, outs, strict=True)
        ]
        counts = reduce_volumes(slices, targets, ray_address=options.ray_address, told=progress.update)
        for (reduction, draft), (vectors, failures), (rows, failed) in zip(wanted, outs, counts, strict=True):
            name = volume_name(slices.encoder, reduction)
            if rows + failed != total:
                raise UserError(
                    f"{name}: {rows:,} vectors and {failed:,} failures for {total:,} volumes; run the same command again"
                )
            failures.run = run_record(STAGE, parameters=draft["parameters"], inputs=draft["inputs"], rows=failed)
            vectors.run = draft | of_the_images(slices.vectors.run) | {
                "rows": rows, "failed": failed, "dim": reduction.dim(slices.dim), "dtype": slices.vectors.run["dtype"],
                "definition": reduction.sentence, "seconds": round(time.monotonic() - began, 2),
            }  # fmt: skip
            done.append((name, vectors.run))
    return done


def _catalog_line(volumes: Study, run: dict[str, Any], written: bool) -> str:
    alone = run["images_without_volume"]
    rest = f"; {alone:,} images are of no volume and stay with the slices" if alone else ""
    return f"volumes: {run['rows']:,} in {volumes.address}{'' if written else ' (unchanged)'}{rest}"


def _line(name: str, run: dict[str, Any]) -> str:
    failed = f", {run['failed']:,} failed: see failures" if run["failed"] else ""
    return f"{name}: {run['rows']:,} vector{'s' if run['rows'] != 1 else ''} of {run['dim']:,} numbers{failed}: {run['definition']}"
