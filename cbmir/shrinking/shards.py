"""The part of packing that runs in Ray's tasks: read, shrink and encode a block of images, and write them."""

from __future__ import annotations

import pyarrow as pa

from cbmir.embedding.addresses import refuse_if_superseded
from cbmir.embedding.times import Times
from cbmir.errors import UserError
from cbmir.images.ahead import read_ahead
from cbmir.images.errors import OF_ONE_IMAGE, ImageError, verdict
from cbmir.images.shrunk import Shrink, as_png, decoded, shrunk
from cbmir.schemas import CONTRACTS, block_name, check
from cbmir.store import Study

SHARD_BYTES = 64 << 20  # of images in a file, which is written as soon as it has as many
# PNG is compressed. A row group is what embedding reads at a time: smaller ones would take more requests for the keys alone
_LAYOUT = {"packed": {"compression": "none", "use_dictionary": False, "row_group_size": 64}}


def pack_block(block: pa.Table, *, address: str, attempt: str, how: Shrink) -> pa.Table:
    """(image_key, uri) -> files of `packed` and one of `packed_failures`, each whole or not at all.

    Returns a row for whoever counts: rows, failed, `stop` (why the run cannot go on; null), and seconds by what they were spent on.
    """
    times, rows, failed, stop = Times(), block.num_rows, 0, None
    try:
        failed = _pack(block, Study(address), attempt, how, times)
    except UserError as error:
        stop = str(error)
    except OSError as error:  # of a write: those of reading an image are a failure of this image
        stop = f"cannot write packed images to {address}: {error}; when that is mended, the same command goes on"
    told = {"rows": [rows], "failed": [failed], "stop": pa.array([stop], pa.string())}
    return pa.table(told | {what: [times.seconds[what]] for what in ("read", "decode", "shrink", "encode", "write")})


def _pack(block: pa.Table, study: Study, attempt: str, how: Shrink, times: Times) -> int:
    """Write the block -> how many of its images failed."""
    good: list[tuple] = []
    bad: list[tuple] = []
    size = 0
    uris = block["uri"].to_pylist()
    files = times.each("read", read_ahead(uris))
    for key, uri, data in zip(block["image_key"].to_pylist(), uris, files, strict=True):
        try:
            if isinstance(data, ImageError):
                raise data
            good.append((key, *_packed(uri, data, how, times)))
            size += len(good[-1][1])
        except OF_ONE_IMAGE as error:
            bad.append((key, uri, *verdict(error)))
        if size >= SHARD_BYTES:
            _write(study, "packed", good, attempt, times)
            good, size = [], 0
    _write(study, "packed", good, attempt, times)
    _write(study, "packed_failures", bad, attempt, times)
    return len(bad)


def _packed(uri: str, data: bytes | None, how: Shrink, times: Times) -> tuple[bytes, int, int, int, int]:
    """One image -> (PNG, its width and height, the source's width and height)."""
    with times.of("decode"):
        pixels, source = decoded(uri, how, data=data)
    with times.of("shrink"):
        pixels = shrunk(pixels, how)
    with times.of("encode"):
        return as_png(pixels), pixels.shape[1], pixels.shape[0], *source


def _write(study: Study, dataset: str, rows: list[tuple], attempt: str, times: Times) -> None:
    """A file named by its keys, so that a task that is tried again overwrites its own."""
    if not rows:
        return
    with times.of("write"):
        refuse_if_superseded(study, ("packed",), attempt, "the packed images")
        contract = CONTRACTS[dataset]
        columns = [
            pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), contract, strict=True)
        ]
        table = check(pa.table(columns, schema=contract), dataset)
        study.write_table(table, dataset, block_name(table["image_key"]), **_LAYOUT.get(dataset, {}))
