"""Images taken out of a finished index for good, and the check that they are."""

from __future__ import annotations

import os

import numpy as np

from cbmir.holding import held
from cbmir.indexing.files import local_directory, writing
from cbmir.indexing.graph import contains, open_graph
from cbmir.indexing.opening import codec_of
from cbmir.indexing.rows import Rows
from cbmir.indexing.shard import Shape, shard_name, totals
from cbmir.indexing.update import old_rows, update_shards
from cbmir.store import Study, path_name


def forget(study: Study, encoder: str, name: str, keys: np.ndarray) -> None:
    """Take `keys` (n,) int64 out of graph, key and vector files of an index; those that it does not hold change nothing.

    Its run.json keeps the inputs it was built of: the stage that wrote them makes it current again. An unfinished one, and one that
    nothing is left of, is deleted.
    """
    target = ("index", path_name(encoder), path_name(name))
    with held(study, *target):
        run = study.run_of(*target)
        if run is None or "shards" not in run:
            study.delete(*target)
            return
        with local_directory(study, *target) as old:
            shape = _shape(old, run)
            gone = np.unique(np.asarray(keys, np.int64))
            stay = sum(len(np.setdiff1d(rows.keys, gone)) for rows in old_rows(old, run["shards"]))
            if stay == sum(shard["stored"] for shard in run["shards"]):
                return
            if stay == 0:
                study.delete(*target)
                return
            with study.publishing(*target) as out:
                with writing(out) as directory:
                    shape.codec.save(directory)
                shards, counts = update_shards(out, old, run["shards"], shape, gone=gone, new=gone[:0], vectors=None)
                out.run = run | {
                    "shards": shards,
                    **totals(shards),
                    "change": {"removed": len(gone), "added": 0, "shards": counts},
                }


def holds(study: Study, encoder: str, name: str, keys: np.ndarray) -> int:
    """How many of `keys` the files of an index still name, in a graph, in its key files or in run.json."""
    target = ("index", path_name(encoder), path_name(name))
    run = study.run_of(*target)
    if run is None:
        return 0
    wanted = np.unique(np.asarray(keys, np.int64))
    found: set[int] = set()
    with local_directory(study, *target) as directory:
        shape = _shape(directory, run)
        for number, told in enumerate(run["shards"]):
            stem = os.path.join(directory, shard_name(number))
            graph = open_graph(shape.graph(), f"{stem}.usearch", rows=told["rows"], named=stem)
            found |= set(wanted[contains(graph, wanted)].tolist())
            found |= set(np.intersect1d(Rows.opened(stem, rows=told["stored"], named=stem).keys, wanted).tolist())
            found |= set(told["without_direction"]) & set(wanted.tolist())
    return len(found)


def _shape(directory: str, run: dict) -> Shape:
    made = run["parameters"]
    return Shape(run["dim"], run["stored_dtype"], codec_of(directory, run), made["connectivity"], made["expansion_add"])
