"""HDF5 as Denner et al. 2024 publish it: one dataset an image under its file path, whose slashes are nested groups; a value is one vector.

Links that lead out of the file (external, virtual and externally stored datasets) and soft links are not followed, references and objects not read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cbmir.errors import UserError
from cbmir.published.batch import MOST_NUMBERS, Batch, batched


def read(path: str, dim: int | None) -> Iterator[Batch]:
    """A local .h5 file -> its vectors; memory is a batch, whatever the file's size."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        what = "is cut short" if "truncated" in str(error) else "is no HDF5 file"
        raise UserError(f"{path} {what}; expected one vector an image, under the image's path") from None
    with file:
        found = False
        for batch in batched(_vectors(file), dim):
            found = True
            yield batch
        if not found:
            raise UserError(f"{path} holds no dataset; expected one vector an image, under the image's path")


def _vectors(file) -> Iterator[tuple[str, np.ndarray | str]]:
    """Every dataset below the root: (path, vector or what is wrong)."""
    import h5py

    stack: list[tuple[str, h5py.Group]] = [("", file["/"])]
    seen = {h5py.h5o.get_info(file["/"].id).addr}  # hard links may make circles
    while stack:
        prefix, group = stack.pop()
        deeper = []
        for name in group:
            key = f"{prefix}/{name}" if prefix else name
            if group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type != h5py.h5l.TYPE_HARD:
                yield key, "a link, not a vector"
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address not in seen:
                    seen.add(address)
                    deeper.append((key, item))
            else:
                yield key, _vector(item)
        stack += reversed(deeper)


def _vector(item) -> np.ndarray | str:
    import h5py

    if not isinstance(item, h5py.Dataset):
        return f"a {type(item).__name__.lower()}, not a vector"
    if item.dtype.kind not in "fiu" or h5py.check_ref_dtype(item.dtype):
        return f"not numbers but {item.dtype}"
    if item.is_virtual or item.external:
        return "stored in another file"
    if item.shape is None or item.size > MOST_NUMBERS:
        return f"shape {item.shape}; expected one vector"
    try:
        values = item[()]
    except (OSError, RuntimeError) as error:
        return f"cannot be read ({type(error).__name__})"
    values = np.asarray(values)
    return values[0] if values.ndim == 2 and len(values) == 1 else values
