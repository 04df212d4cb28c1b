"""The samples of an encoder's gallery: one order of its images a seed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cbmir.errors import UserError
from cbmir.sampled.cells import Sampled
from cbmir.sampled.options import ScalingOptions
from cbmir.sampling import patient_order, random_order, stratified_order
from cbmir.select import attach_manifest, connect
from cbmir.sql_files import read
from cbmir.store import Study


def asked_sizes(encoder: str, gallery: int, options: ScalingOptions) -> tuple[int, ...]:
    """The sizes of samples of a gallery of so many images; UserError for one that it does not have."""
    sizes = tuple(sorted({gallery if size is None else size for size in options.sizes}))
    if sizes[-1] > gallery:
        raise UserError(
            f"--sizes {sizes[-1]:,}: the gallery of {encoder} has {gallery:,} embedded images ({options.gallery}); expected at most as many, or all"
        )
    if sizes[0] < options.depth:
        raise UserError(
            f"-k {options.depth} is larger than the smallest sample ({sizes[0]:,} images); expected -k {sizes[0]} or less, or larger --sizes"
        )
    return sizes


def samples_of(
    study: Study, encoder: str, gallery: np.ndarray, asked: tuple[int, ...], options: ScalingOptions
) -> list[Sampled]:
    """gallery (n,) ascending keys -> a sample of each seed."""
    told = None if options.sampling == "random" else _told(study, gallery)
    return [_sampled(encoder, gallery, told, asked, options.sampling, seed) for seed in range(options.seeds)]


def _sampled(
    encoder: str, gallery: np.ndarray, told: pa.Table | None, asked: tuple[int, ...], sampling: str, seed: int
) -> Sampled:
    sizes = asked
    if sampling == "random":
        order = random_order(gallery, seed=seed)
    elif sampling == "stratified":
        order = stratified_order(gallery, told["labels"], seed=seed)
    else:
        by_patient = patient_order(gallery, told["patient"], seed=seed)
        order = by_patient.keys
        sizes = by_patient.sizes(asked)
    return Sampled(encoder, sampling, seed, order, asked, sizes)


def _told(study: Study, gallery: np.ndarray) -> pa.Table:
    """(labels, patient) of the gallery's images, in the order of their keys."""
    connection = connect()
    attach_manifest(connection, study)
    connection.register("gallery_keys", pa.table({"image_key": gallery}))
    return connection.sql(read("staging", "sampled_by")).to_arrow_table()
