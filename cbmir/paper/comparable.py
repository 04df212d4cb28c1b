"""Which searches of a study answer the very question of Mahbod et al. 2024: one set of MedMNIST, train by test, at one image size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.datasets.medmnist_sets import SETS, known_set, published_size
from cbmir.report.sources import Sources
from cbmir.select import attach, select_where
from cbmir.volumetric.place import STAGE, is_of_volumes

COMPARABLE = pa.schema(
    [("encoder", pa.string()), ("index", pa.string()), ("dataset", pa.string()), ("image_size", pa.int32()), ("cbmir_encoder", pa.string()),
     ("distance", pa.string()), ("remark", pa.string())]
)  # fmt: skip
_DISTANCES = ("l2", "cos", "ip")  # the paper's code searches by the first


@dataclass(frozen=True)
class MedSetHere:
    """One file of MedMNIST in the manifest."""

    dataset: str  # in the manifest
    printed: str  # as the paper calls the set
    size: int | None  # pixels a side, as the file's name says
    train: np.ndarray  # ascending keys
    test: np.ndarray
    is_whole: bool  # as many images as were published
    is_slices: bool  # of volumes
    zoom: int | None = None  # voxels a side to which volumes were resampled

    @property
    def why_not(self) -> str | None:
        """Why none of its figures can stand beside the paper's."""
        if self.is_slices:
            return "here each slice of a volume is an image, there a volume is: the study of volumes has such figures"
        if not self.is_whole:
            return "not as many images as were published"
        return None if self.size else "the file's name does not say the size of its images"


def sets_here(sources: Sources, printed: list[str]) -> list[MedSetHere]:
    """The sets that the paper has tables of, by the names of the files that the manifest's images lie in."""
    names = {id(SETS[name.lower()]): name for name in printed}
    query = """SELECT dataset, list(DISTINCT regexp_extract(uri, '([^/]+)\\.npz#', 1)), max(regexp_extract(uri, '[#&]zoom=([0-9]+)', 1))
               FROM manifest GROUP BY dataset ORDER BY dataset"""
    found, of_volumes = [], is_of_volumes(sources.study)
    for dataset, stems, zoom in sources.connection.execute(query).fetchall():
        known = known_set(stems[0]) if len(stems) == 1 and stems[0] else None
        if id(known) in names:
            keys = {split: _keys(sources, dataset, split) for split in ("train", "test")}
            counts = (len(keys["train"]), len(keys["test"]))
            whole = counts in {(train, test) for train, _, test in known.counts}
            found.append(
                MedSetHere(
                    dataset,
                    names[id(known)],
                    published_size(stems[0]),
                    keys["train"],
                    keys["test"],
                    whole,
                    known.volumes and not of_volumes,
                    int(zoom) if zoom else None,
                )
            )
    return found


def comparable(sources: Sources, sets: list[MedSetHere]) -> pa.Table:
    """One row an encoder, set and size -> COMPARABLE; of several such searches, the one by the paper's distance.

    `remark`: what a reader must know of its figures; none where all is as in the paper.
    """
    sizes, unknown = _image_sizes(sources), why_no_sizes(sources) is not None
    rows: dict[tuple, dict[str, Any]] = {}
    for (encoder, index), run in sources.neighbors_runs.items():
        made = sources.embeddings_runs[encoder]
        who, remark = identity(encoder, made)
        if unknown and _is_at_a_size(made):
            continue
        for here in sets:
            if here.why_not is None and _is_theirs(made, here) and _asks(sources, run["parameters"], here):
                base, size = sizes.get(encoder, (who, here.zoom or here.size))
                moved = _moved(here) if size != here.size else None
                row = {
                    "encoder": encoder,
                    "index": index,
                    "dataset": here.printed,
                    "image_size": size,
                    "cbmir_encoder": base,
                }
                row |= {
                    "distance": run["parameters"]["metric"],
                    "remark": "; ".join(filter(None, (moved, remark))) or None,
                }
                key = (here.printed, size, base)
                if base and (key not in rows or _preference(row) < _preference(rows[key])):
                    rows[key] = row
    return pa.Table.from_pylist(list(rows.values()), schema=COMPARABLE)


def identity(encoder: str, run: dict[str, Any]) -> tuple[str | None, str | None]:
    """Embeddings -> the name that cbmir has for what made them, whatever they are called here, and a remark; None: nobody's in the paper's tables."""
    spec = run.get("spec") or {}
    if run.get("random_weights") is not None or "source_dim" in run:  # reduced vectors have the spec of their source
        return None, None
    if run.get("imported"):
        return encoder, "imported vectors"
    asked = str(spec.get("asked", "")).rpartition("=")[2]
    return asked, "weights given as a file" if spec.get("weights") else None


def _moved(here: MedSetHere) -> str:
    how = "volumes resampled to this size" if here.zoom else "images brought to this size"
    return f"{how} from {here.size} {'voxels' if here.zoom else 'pixels'}, not the published file of this size"


def _is_theirs(run: dict[str, Any], here: MedSetHere) -> bool:
    """Whether vectors are of images, or of volumes the concatenation of all slices; other reductions are nobody's in the paper."""
    return run["stage"] != STAGE or run["parameters"].get("reduction") == f"concat{here.zoom or here.size}"


def _preference(row: dict[str, Any]) -> tuple:
    return bool(row["remark"]), _DISTANCES.index(row["distance"]), row["index"] != "exact", row["encoder"], row["index"]


def _asks(sources: Sources, parameters: dict[str, Any], here: MedSetHere) -> bool:
    """Whether a search is exact, of all test images of the set among all its training images and nothing else."""
    if parameters["index"] != "exact" or parameters["exclude_same"]:
        return False
    return all(
        np.array_equal(
            select_where(sources.connection, parameters[role], "image_key", role=role)["image_key"].to_numpy(), keys
        )
        for role, keys in (("gallery", here.train), ("queries", here.test))
    )


def _keys(sources: Sources, dataset: str, split: str) -> np.ndarray:
    query = "SELECT image_key FROM manifest WHERE dataset = $dataset AND split = $split ORDER BY image_key"
    rows = sources.connection.sql(query, params={"dataset": dataset, "split": split}).to_arrow_table()
    return rows["image_key"].to_numpy()


def why_no_sizes(sources: Sources) -> str | None:
    """Why the figures of images that were brought to sizes have no place, None where they have one or there are none."""
    if not sources.study.run_of("image_sizes") or sources.now.is_fresh("image_sizes"):
        return None
    return "image_sizes is older than the embeddings; make it again with: cbmir study image-size"


def _is_at_a_size(run: dict[str, Any]) -> bool:
    return bool(((run.get("spec") or {}).get("geometry") or {}).get("detail"))


def _image_sizes(sources: Sources) -> dict[str, tuple[str, int]]:
    """Encoder of the study -> (the encoder that all sizes share, pixels a side), where images were brought to sizes."""
    if not sources.now.is_fresh("image_sizes"):
        return {}
    attach(sources.connection, "image_sizes", sources.study, sources.study.files("image_sizes"))
    query = "SELECT encoder, base_encoder, image_size FROM image_sizes"
    return {encoder: (base, size) for encoder, base, size in sources.connection.execute(query).fetchall()}
