"""Images out of an index."""

from __future__ import annotations

import numpy as np

from cbmir.store import Study, path_name


def forget(study: Study, encoder: str, name: str, keys: np.ndarray) -> None:
    """Take the images of `keys` (n,) int64 out of index `name`, by deleting it: it is built again by the next `cbmir index`."""
    study.delete("index", path_name(encoder), path_name(name))


def holds(study: Study, encoder: str, name: str, keys: np.ndarray) -> int:
    """How many of `keys` (n,) int64 an index holds."""
    from cbmir.index import open_index

    graph, _ = open_index(study, encoder, name)
    return int(np.count_nonzero(graph.contains(keys.astype(np.uint64))))
