"""Random weights in which every parameter matters.

Libraries draw biases as zeros, norms as ones and projections so small that all images get nearly the same vector: two
implementations would agree although one of them had forgotten half of the weights.
"""

from __future__ import annotations

import torch


def shake(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draw every parameter and running statistic anew, in the range that keeps activations of order one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                value = 1 + 0.3 * drawn.abs()
            elif tensor.ndim >= 2 and "weight" in name and "embed" not in name.rsplit(".", 2)[-2]:
                fan_in = tensor[0].numel()
                value = 1.2 * drawn / fan_in**0.5
            elif tensor.ndim >= 2:  # tokens, position tables, relative positions
                value = 0.3 * drawn
            elif name.endswith(("bias", "running_mean")):
                value = 0.2 * drawn
            else:  # norms and layer scales
                value = 1 + 0.2 * drawn
            tensor.copy_(value)
    return module.eval()
