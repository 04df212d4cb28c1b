"""The CPU side of embedding: a block of addresses -> a block of pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from cbmir.embedding.shards import packed_files
from cbmir.embedding.times import Times
from cbmir.images.ahead import read_ahead
from cbmir.images.channels import in_color, in_grey
from cbmir.images.errors import OF_ONE_IMAGE, ImageError, verdict
from cbmir.images.geometry import Geometry, apply, reduction
from cbmir.images.read import read_pixels
from cbmir.images.shrunk import unpacked


@dataclass(frozen=True)
class DecodeOptions:
    """What is done to each image; `whole` and `color` turn off what makes it quick."""

    geometries: list[Geometry]
    whole: bool = False  # JPEG at its full size, even where an encoder takes far fewer pixels
    color: bool = False  # grey images resized as three equal channels
    packed: str | None = None  # the study whose packed images are taken instead of the files


def decode_blocks(addresses: pa.Table, *, rows: int, **options) -> Iterator[pa.Table]:
    """`decode_block` of so many addresses after the other, so that no more pixels than theirs are held at once."""
    for start in range(0, addresses.num_rows, rows):
        yield decode_block(addresses.slice(start, rows), **options)


def decode_block(block: pa.Table, *, options: DecodeOptions, tally=None) -> pa.Table:
    """(image_key, uri, need ...) -> these, and stage, error, pixels_0 ... pixels_{g-1}.

    Each image is read and decoded once and brought to every geometry; pixels are fixed-size binary of size * size * channels bytes.
    A broken image has stage and error, and pixels of zeros that nobody looks at. `tally`: the actor that is told what took how long.
    """
    rows = block.num_rows
    times = Times()
    enlarged: Counter[int] = Counter()
    details = {geometry.detail for geometry in options.geometries if geometry.detail}
    pixels = [np.zeros((rows, *geometry.shape), np.uint8) for geometry in options.geometries]
    stages: list[str | None] = [None] * rows
    errors: list[str | None] = [None] * rows
    uris = block["uri"].to_pylist()
    files = packed_files(options.packed, block) if options.packed else read_ahead(uris)
    for row, (uri, data) in enumerate(zip(uris, times.each("read", files), strict=True)):
        try:
            if isinstance(data, ImageError):
                raise data
            with times.of("decode"):
                image = _decode(uri, data, options)
            enlarged.update(detail for detail in details if min(image.shape[:2]) < detail)
            with times.of("resize"):
                for out, geometry in zip(pixels, options.geometries, strict=True):
                    out[row] = apply(geometry, image)
        except OF_ONE_IMAGE as error:
            stages[row], errors[row] = verdict(error)
    block = block.select(["image_key", "uri", "need"])
    block = block.append_column("stage", pa.array(stages, pa.string()))
    block = block.append_column("error", pa.array(errors, pa.string()))
    for i, values in enumerate(pixels):
        block = block.append_column(f"pixels_{i}", _as_binary(values))
    if tally is not None:
        tally.decoded.remote(rows, times.seconds, enlarged)
    return block


def _decode(uri: str, data: bytes | None, options: DecodeOptions) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8, JPEG decoded as small as the geometries allow."""
    if options.packed:
        image = unpacked(data)
        return in_color(image) if options.color else image
    reduce = None if options.whole else partial(reduction, geometries=options.geometries)
    image = read_pixels(uri, reduce, data=data)
    return in_color(image) if options.color else in_grey(image)


def _as_binary(values: np.ndarray) -> pa.FixedSizeBinaryArray:
    """(n, ...) uint8 -> n fixed-size binaries over the same memory."""
    width = values[0].size if len(values) else int(np.prod(values.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])


def as_pixels(column: pa.ChunkedArray, geometry: Geometry) -> np.ndarray:
    """The inverse of `_as_binary`: a column -> (n, size, size, channels) uint8, without a copy for one chunk."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    width = int(np.prod(geometry.shape))
    flat = np.frombuffer(array.buffers()[1], np.uint8, count=len(array) * width, offset=array.offset * width)
    return flat.reshape(len(array), *geometry.shape)
