"""Small studies of slices, and plain loops that say what volumes' vectors and searches have to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cbmir.schemas import image_key
from cbmir.store import Study
from tests.studies import make_study

ENCODER = "pixels32"


def slice_rows(volumes: dict[str, dict], *, dataset: str = "hand") -> list[dict]:
    """{'v1': {'n': 4, 'split': 'train', ...}} -> rows of a manifest, a row a slice."""
    rows = []
    for name, said in volumes.items():
        row = {key: value for key, value in said.items() if key != "n"}
        rows += [
            row
            | {"image_id": f"{dataset}/{name}#{i}", "volume_id": f"{dataset}/{name}", "slice": i, "dataset": dataset}
            for i in range(said["n"])
        ]
    return rows


def drawn(
    root: Path,
    *,
    gallery: int = 12,
    queries: int = 5,
    dim: int = 6,
    seed: int = 0,
    ragged: bool = True,
    failed: int = 0,
    blank: float = 0.0,
) -> tuple[Study, dict]:
    """A study of drawn slices, a share of them blank -> (it, {volume: {'split', 'patient', 'label', 'vectors': (s, dim) in the order of slices, 'failed': places}})."""
    rng = np.random.default_rng(seed)
    volumes = {}
    for i in range(gallery + queries):
        n = int(rng.integers(2, 7)) if ragged else 4
        label = f"class {i % 3}"
        volumes[f"v{i:02d}"] = {
            "n": n, "split": "train" if i < gallery else "test", "patient_id": f"p{i % (gallery - 2)}", "labels": [f"CT/chest/{label}"],
            "modality": "CT", "region": "chest",
        }  # fmt: skip
    rows = slice_rows(volumes)
    shift = {label: rng.standard_normal(dim) for label in ("class 0", "class 1", "class 2")}
    vectors = {
        row["image_id"]: np.round(rng.standard_normal(dim) + shift[row["labels"][0].split("/")[-1]], 1).astype(
            np.float32
        )
        for row in rows
    }
    for row in rows:
        if rng.random() < blank:
            vectors[row["image_id"]][:] = 0.5
    for row in rng.permutation(len(rows))[:failed]:
        del vectors[rows[row]["image_id"]]
    order = rng.permutation(len(rows))
    study = make_study(root, [rows[i] for i in order], vectors, files=3)
    known = {}
    for name, said in volumes.items():
        ids = [f"hand/{name}#{i}" for i in range(said["n"])]
        known[image_key(f"hand/{name}")] = said | {
            "vectors": [vectors.get(i) for i in ids], "slice_keys": [image_key(i) for i in ids],
        }  # fmt: skip
    return study, known


def present(volume: dict) -> list[np.ndarray]:
    """Vectors of the slices that have one, in their order."""
    return [vector.astype(np.float64) for vector in volume["vectors"] if vector is not None]


def distance(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    if metric == "l2":
        return float(np.sqrt(((a - b) ** 2).sum()))
    if metric == "ip":
        return float(1 - a @ b)
    lengths = np.sqrt((a @ a) * (b @ b))
    return float(1 - (a @ b) / lengths) if lengths > 0 else 1.0


def asked_and_found(known: dict, *, exclude_patient: bool) -> dict[int, list[int]]:
    """Query volume -> the gallery volumes that it may find."""
    found = {}
    for query, mine in known.items():
        if mine["split"] == "test" and present(mine):
            found[query] = [
                other
                for other, theirs in known.items()
                if theirs["split"] == "train"
                and present(theirs)
                and not (exclude_patient and theirs["patient_id"] == mine["patient_id"])
            ]
    return found


def late_by_loops(known: dict, *, metric: str, exclude_patient: bool = False) -> dict[int, list[tuple[float, int]]]:
    """Query -> (distance, volume) of all volumes, nearest first: a loop over its slices, over volumes, and over theirs."""
    result = {}
    for query, allowed in asked_and_found(known, exclude_patient=exclude_patient).items():
        ranked = []
        for volume in allowed:
            total = 0.0
            for mine in present(known[query]):
                total += min(distance(mine, theirs, metric) for theirs in present(known[volume]))
            ranked.append((total / len(present(known[query])), volume))
        result[query] = sorted((round(d, 9), v) for d, v in ranked)
    return result


def votes_by_loops(
    known: dict, mode: str, *, k: int, metric: str, exclude_patient: bool = False
) -> dict[int, list[tuple[float, int]]]:
    """Query -> (distance, volume) of the volumes with a vote, nearest first."""
    result = {}
    for query, allowed in asked_and_found(known, exclude_patient=exclude_patient).items():
        points: dict[int, int] = {}
        for mine in present(known[query]):
            near = []
            for volume in allowed:
                for key, theirs in zip(known[volume]["slice_keys"], known[volume]["vectors"], strict=True):
                    if theirs is not None:
                        near.append((np.float32(distance(mine, theirs.astype(np.float64), metric)), key, volume))
            near.sort()
            for rank, (far, _, volume) in enumerate(near[:k], 1):
                if len(near) <= k or far < near[k][0]:
                    points[volume] = points.get(volume, 0) + (1 if mode == "count" else k + 1 - rank)
        whole = len(present(known[query])) * (k if mode == "count" else k * (k + 1) // 2)
        result[query] = sorted((float(np.float32(1 - p / whole)), volume) for volume, p in points.items())
    return result
