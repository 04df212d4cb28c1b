"""What a MedMNIST file holds, from its name and the headers of its arrays."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass

from cbmir.datasets.medmnist import array_names
from cbmir.datasets.medmnist_sets import MedSet, known_set
from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.npz import open_array

_NEEDED = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class MedFile:
    """One file of a known set. `side`: pixels of its images, or voxels of its volumes, a side, as its arrays have them."""

    address: str
    stem: str  # its name without suffix
    known: MedSet
    side: int
    train: int  # images, or volumes
    test: int

    @property
    def is_whole(self) -> bool:
        """Whether it has as many training and test images as were published."""
        return (self.train, self.test) in {(train, test) for train, _, test in self.known.counts}


def look_at(address: str) -> MedFile:
    """UserError for what is no MedMNIST file with training and test images of one size, as long as wide (and deep)."""
    name = posixpath.basename(address.partition("?")[0])
    stem = name[: -len(".npz")] if name.lower().endswith(".npz") else name
    known = known_set(stem) if name.lower().endswith(".npz") else None
    names = array_names(address)
    missing = [needed for needed in _NEEDED if needed not in names]
    if missing:
        raise UserError(f"{name} has no {missing[0]}; expected {', '.join(_NEEDED)}, as a file of MedMNIST has them")
    if known is None:
        raise UserError(
            f"{name}: its name is of no set of MedMNIST; expected one such as breastmnist_64.npz; give it the set's name"
        )
    train, test = (_shape(address, name, split) for split in ("train", "test"))
    sides = {shape[1 : 4 if known.volumes else 3] for shape in (train, test)}
    side = train[1] if len(train) > 1 else 0
    if sides != {(side,) * (3 if known.volumes else 2)} or side < 1:
        found = " and ".join(" x ".join(map(str, shape)) for shape in sorted(sides))
        what = "volumes as wide and high as deep" if known.volumes else "images as wide as high"
        raise UserError(f"{name}: {found or 'no pixels'}; expected {what}, all of one size, as in MedMNIST")
    return MedFile(address, stem, known, side, train[0], test[0])


def _shape(address: str, name: str, split: str) -> tuple[int, ...]:
    try:
        with closing(open_array(address, f"{split}_images")) as stream:
            return stream.shape
    except (ImageError, OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: {split}_images cannot be read ({reason}); expected arrays as in MedMNIST; download the file again"
        ) from None
