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


def sample_order(
    address: str, encoder: str, gallery: np.ndarray, asked: tuple[int, ...], seed: int, options: ScalingOptions
) -> Sampled:
    """gallery (n,) ascending keys -> the order of one seed, and how many images each size comes to."""
    sizes = asked
    if options.sampling == "random":
        order = random_order(gallery, seed=seed)
    elif options.sampling == "stratified":
        order = stratified_order(gallery, _told(Study(address), gallery)["labels"], seed=seed)
    else:
        by_patient = patient_order(gallery, _told(Study(address), gallery)["patient"], seed=seed)
        order = by_patient.keys
        sizes = by_patient.sizes(asked)
    return Sampled(encoder, options.sampling, seed, order, asked, sizes)


def _told(study: Study, gallery: np.ndarray) -> pa.Table:
    """(labels, patient) of the gallery's images, in the order of their keys."""
    connection = connect()
    attach_manifest(connection, study)
    connection.register("gallery_keys", pa.table({"image_key": gallery}))
    return connection.sql(read("staging", "sampled_by")).to_arrow_table()
