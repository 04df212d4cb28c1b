"""A volume along the patient's axes -> one of its slices, as radiologists look at it.

Axes are counted in canonical orientation (RAS+): 0 sagittal from the patient's left to right, 1 coronal from posterior to anterior, 2 axial
from inferior to superior.
"""

from __future__ import annotations

import numpy as np

from cbmir.images.errors import ImageError
from cbmir.images.limits import refuse_large


def refuse_absent(shape: tuple[int, ...], axis: int, index: int) -> None:
    """ImageError where a volume of a canonical shape (x, y, z) has no such slice, or one that is too large for an image."""
    if axis not in (0, 1, 2):
        raise ImageError(f"axis {axis} of a volume; expected 0, 1 or 2", stage="read")
    if not 0 <= index < shape[axis]:
        raise ImageError(f"slice {index} of a volume with {shape[axis]} slices", stage="read")
    refuse_large(*(length for i, length in enumerate(shape) if i != axis))


def plane(values: np.ndarray, axis: int, index: int) -> np.ndarray:
    """(x, y, z) or (x, y, z, 3) -> a view (H, W) or (H, W, 3), upright.

    Anterior (axial) or superior (coronal, sagittal) is at the top; the patient's right on the viewer's left (axial, coronal), anterior on
    the viewer's left (sagittal).
    """
    values = values[(slice(None),) * axis + (index,)]  # np.take would copy the whole volume into another order
    return values[::-1, ::-1].swapaxes(0, 1)
