"""What a removal has undertaken, written before anything is removed and deleted when it is proved: a killed one goes on with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from cbmir.removing.names import Names
from cbmir.store import JOURNAL, Study


@dataclass(frozen=True)
class Journal:
    """The images, what names them, and what the study was before."""

    selection: dict[str, Any]  # what was asked for, to know the same command again
    keys: list[int]
    names: list[str]  # image ids, addresses, and files that hold no other image
    loose_names: list[
        str
    ]  # what a remark may call them: paths below the root, patients and studies without another image
    addresses: list[str]  # of the images of the manifest
    images: int  # of the manifest; other keys are orphans, known to other datasets at the most
    patients: int | None  # None where no image has one
    before: dict[str, str]  # dataset -> fingerprint; 'content' -> that of the manifest
    again: list[dict[str, Any]] = field(default_factory=list)  # {target, command} of what may have to be made again

    @property
    def key_array(self) -> pa.Array:
        return pa.array(self.keys, pa.int64())

    def named(self) -> Names:
        return Names(self.names)

    def write(self, study: Study) -> None:
        study.write_json(asdict(self), JOURNAL)

    def what(self) -> str:
        """'12 images of 3 patients' for people."""
        patients = f" of {self.patients:,} patients" if self.patients else ""
        images = f"{self.images:,} images{patients}"
        others = len(self.keys) - self.images
        if self.selection["orphans"]:
            return f"{others:,} orphans"
        return images + (f" and, by id, {others:,} that the manifest does not have" if others else "")


def read_journal(study: Study) -> Journal | None:
    """The journal of a removal that is unfinished, None where there is none."""
    found = study.read_json(JOURNAL)
    return None if found is None else Journal(**found)
