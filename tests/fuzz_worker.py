"""`python -m tests.fuzz_worker DIR SEED FIRST LAST`: decode mutated files, and say before each which one it is.

Prints `begin I` and then `image` or `failure`; anything else that leaves the decoder ends the process with a traceback.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from cbmir.images.errors import ImageError
from cbmir.images.read import read_image
from tests.image_files import (
    as_volume,
    dicom,
    dicom_bytes,
    grey_carriers,
    jpeg_dicom,
    nifti,
    pillow,
)

MEMORY = 6 << 30  # address space of a worker: a file that asks for more must end as a failure


def carriers() -> list[tuple[str, str, bytes, str]]:
    """(name, suffix, bytes, part) of a good file of every kind."""
    rng = np.random.default_rng(5)
    grey = rng.integers(0, 256, (48, 56), np.uint8)
    grey[0, 0], grey[-1, -1] = 0, 255
    color = rng.integers(0, 256, (48, 56, 3), np.uint8)
    found = [(name, *carrier) for name, carrier in grey_carriers(grey).items()]
    for kind, how in (
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {"optimize": True}), ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"compression": "tiff_deflate"}), ("WEBP", {}), ("GIF", {}), ("BMP", {}), ("JPEG2000", {}), ("PPM", {}), ("TGA", {}), ("ICO", {}),
    ):  # fmt: skip
        found.append((f"{kind} {how}", kind.lower(), pillow(color, kind, **how), ""))
    found.append(("dicom jpeg", "dcm", jpeg_dicom(dicom(grey), grey), ""))
    found.append(("dicom rgb", "dcm", dicom_bytes(dicom(color, photometric="RGB")), ""))
    found.append(("nifti 4", "nii", nifti(np.stack([as_volume(grey)] * 2, axis=3)), "#slice=0&time=1"))
    return found


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One of several kinds of damage, half of them near the head, where lengths and sizes stand."""
    changed = bytearray(data)
    span = min(len(changed), 512) if rng.random() < 0.5 else len(changed)
    kind = rng.integers(6)
    at = int(rng.integers(span))
    if kind == 0:  # bits
        for place in rng.integers(0, span, int(rng.integers(1, 9))):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:  # a run of bytes
        run = bytes(rng.integers(0, 256, int(rng.integers(1, 33)), np.uint8))
        changed[at : at + len(run)] = run
    elif kind == 2:  # cut short
        del changed[at:]
    elif kind == 3:  # inserted
        changed[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 65)), np.uint8))
    elif kind == 4:  # a length that is enormous, or none
        width = int(rng.choice([2, 4, 8]))
        changed[at : at + width] = rng.choice([b"\xff" * 8, b"\x7f" + b"\xff" * 7, bytes(8), b"\x00\xff" * 4])[:width]
    else:  # a part of the file somewhere else
        length = int(rng.integers(1, 129))
        other = int(rng.integers(len(changed)))
        changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def main() -> None:
    directory, seed, first, last = Path(sys.argv[1]), *map(int, sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    files = carriers()
    for i in range(first, last):
        name, suffix, data, part = files[i % len(files)]
        path = directory / f"{seed}-{i}.{suffix}"
        path.write_bytes(mutated(data, np.random.default_rng([seed, i])))
        print(f"begin {i} {name}", flush=True)
        try:
            pixels = read_image(f"{path}{part}")
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            end = "image"
        except ImageError as error:
            end = "failure" if error.stage in ("read", "decode") and "\n" not in str(error) else f"odd: {error!r}"
        print(end, flush=True)
        path.unlink()


if __name__ == "__main__":
    main()
