"""Position embeddings of one grid of patches brought to another, when images have another size than in training."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import interpolate


def resample(table: torch.Tensor, shape: torch.Size, *, extra: int, antialias: bool) -> torch.Tensor:
    """A table of position embeddings -> the same for the grid of `shape`; as it is where nothing can be done.

    (1, extra + h * w, dim) or (extra + h * w, dim): square grids behind `extra` tokens that have no place;
    (1, h, w, dim): a grid as it is; bicubic, half-pixel centres. `antialias` decides whether it is smoothed before it
    shrinks: timm and open_clip do, transformers does not.
    """
    if table.shape == shape or table.ndim != len(shape) or table.shape[-1] != shape[-1]:
        return table
    if table.ndim == 4:
        return _grid(table, shape[1:3], antialias)
    flat = table if table.ndim == 3 else table[None]
    old, new = _side(flat.shape[1] - extra), _side(shape[-2] - extra)
    if old is None or new is None:
        return table
    places = flat[:, extra:].reshape(1, old, old, -1)
    places = _grid(places, (new, new), antialias).reshape(1, new * new, -1)
    joined = torch.cat([flat[:, :extra], places], dim=1)
    return joined if table.ndim == 3 else joined[0]


def resample_relative(table: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(2 * old - 1, dim) offsets along one axis -> (2 * new - 1, dim), linear: how SAM's authors do it."""
    if table.shape == shape or table.ndim != 2 or table.shape[1] != shape[1]:
        return table
    return interpolate(table.T[None], size=shape[0], mode="linear")[0].T.contiguous()


def is_square(table: torch.Tensor, shape: torch.Size) -> bool:
    """Whether a table (places, dim) lists a square of places, and has the width of `shape`."""
    return table.ndim == 2 and table.shape[1] == shape[1] and _side(table.shape[0]) is not None


def _grid(table: torch.Tensor, size, antialias: bool) -> torch.Tensor:
    """(1, h, w, dim) -> (1, h', w', dim)."""
    moved = interpolate(
        table.permute(0, 3, 1, 2), size=tuple(size), mode="bicubic", align_corners=False, antialias=antialias
    )
    return moved.permute(0, 2, 3, 1)


def _side(places: int) -> int | None:
    side = math.isqrt(places) if places > 0 else 0
    return side if side and side * side == places else None
