"""Which image sizes an architecture can take, and the nearest of them where it cannot."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cbmir.errors import UserError

_FURTHEST = 64  # pixels up to which a larger size is tried for a convolutional network
_LARGEST = 160  # from there on images are not refused because they are too small


def grain(module: torch.nn.Module) -> int | None:
    """Pixels of which the image's side must be a multiple; None where any size goes that is large enough.

    Architectures that cut an image into patches drop the rest in silence where it does not divide: such sizes are refused.
    """
    for part in module.modules():
        found = (getattr(part, name, None) for name in ("patch_embed", "stem"))  # timm's MLP-Mixers have the latter
        patch = next((patch for patch in found if hasattr(patch, "patch_size")), None)
        if patch is not None:
            stages = getattr(part, "feature_info", None)
            return max(_side(patch.patch_size), stages[-1]["reduction"] if stages else 1)
        if hasattr(part, "patch_size") and hasattr(part, "conv1"):  # open_clip's VisionTransformer
            return _side(part.patch_size)
    return None


def refuse_remainder(name: str, size: int, module: torch.nn.Module) -> None:
    """UserError where patches do not divide the image."""
    step = grain(module)
    if step and size % step:
        lower, upper = size // step * step, (size // step + 1) * step
        near = f"{lower} and {upper}" if lower else f"{upper}"
        raise UserError(
            f"{name} cannot take images of {size} pixels: it sees multiples of {step}; nearest: {near}; choose another --image-size"
        )


def nearest_valid(size: int, works: Callable[[int], bool]) -> int | None:
    """The smallest size above `size` that works, None if none does within reach."""
    largest = min(size + _FURTHEST, _LARGEST)
    return next((larger for larger in range(size + 1, largest + 1) if works(larger)), None)


def _side(patch: int | tuple[int, ...]) -> int:
    return max(patch) if isinstance(patch, (tuple, list)) else int(patch)
