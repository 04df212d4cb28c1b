"""The study as a Python object, for notebooks and scripts.

from cbmir import Study

study = Study("study")
study.query("scan.png", encoder="biomedclip", k=10)  # -> pandas DataFrame
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from cbmir import store
from cbmir.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from cbmir.lookup import Lookup


class Study(store.Study):
    """One study directory, local, s3://... or gs://..., and questions to it."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._lookups: dict[tuple, Lookup] = {}

    def __repr__(self) -> str:
        return f"Study({self.address!r})"

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders whose embeddings are finished."""
        return [
            name for name in self.names("embeddings") if self.run_of("embeddings", f"encoder={store.path_name(name)}")
        ]

    def indexes(self, encoder: str) -> list[str]:
        """Names of an encoder's finished indexes; 'exact' is always there beside them."""
        parts = ("index", store.path_name(encoder))
        return [name for name in self.names(*parts) if self.run_of(*parts, store.path_name(name))]

    def query(
        self,
        images: Any,
        *,
        encoder: str,
        index: str | None = None,
        k: int = 10,
        gallery: str | None = None,
        device: str = "auto",
    ) -> pd.DataFrame:
        """The k nearest gallery images of each image: a row a neighbor, nearest first.

        images   a path or address of an image, of a slice (`brain.nii.gz#axis=2&slice=30`) or of a directory; an array (H, W) or
                 (H, W, 3) of uint8; an image of Pillow; or a list of these
        encoder  one that the study was embedded with
        index    'exact' or an index's name; None: the encoder's only index, exact where it has none or several
        gallery  SQL predicate over the manifest; None: the index's own, split = 'train' for exact

        Columns: query (the path, or images[i]), rank from 1, distance, image_id, labels (list), modality, region, split, uri.
        `attrs["votes"]`: query -> [[label, share of its neighbors that have it], ...], the largest first; last, under None, the share
        that has no label. `attrs["failures"]`: query -> why it could not be read. UserError where no image can be read, and for misuse;
        where some cannot be, a warning.

        Encoder and index are loaded at the first call and kept as long as this object is, for the next ones.
        """
        from cbmir.querying.inputs import from_python

        lookup = self._lookup(encoder, index, gallery, device)
        asked = from_python(images, say=_warn)
        return _frame(list(lookup.answers(asked, k=k)))

    def sql(self, statement: str) -> pd.DataFrame:
        """The result of one SQL statement over the views of `cbmir sql`: manifest, embeddings, neighbors, metrics ..."""
        from cbmir.session import frame

        return frame(self, statement)

    def _lookup(self, *asked: str | None) -> Lookup:
        """What was loaded for the same question, unless the study has changed since."""
        held = self._lookups.get(asked)
        if held is None or not held.is_current():
            from cbmir.lookup import Lookup

            encoder, index, gallery, device = asked
            self._lookups[asked] = held = Lookup(self, encoder, index, gallery=gallery, device=device)
        return held


def _frame(answers: list) -> pd.DataFrame:
    import pandas as pd

    from cbmir.querying.answers import columns

    failed = [answer for answer in answers if answer.error]
    first = f"{failed[0].name}: {failed[0].error}" if failed else ""
    if len(failed) == len(answers):
        raise UserError(
            f"none of the {len(answers):,} images can be read; the first, {first}"
            if len(answers) > 1
            else f"cannot read {first}"
        )
    if failed:
        _warn(f"{len(failed):,} of {len(answers):,} images cannot be read, see attrs['failures']; the first, {first}")
    frame = pd.DataFrame(columns(answers))
    frame.attrs["votes"] = {a.name: [[vote.label, vote.share] for vote in a.votes] for a in answers if not a.error}
    frame.attrs["failures"] = {answer.name: answer.error for answer in failed}
    return frame


def _warn(line: str) -> None:
    warnings.warn(line, UserWarning, stacklevel=4)
