"""Weights into an architecture: every key must be there, none may be left over, every shape must agree."""

from __future__ import annotations

import torch

from cbmir.encoders.layouts import Layout, rename
from cbmir.encoders.positions import is_square, resample, resample_relative
from cbmir.encoders.state import State, misfit

_TABLES = ("pos_embed", "positional_embedding")
_NOT_NEEDED = "num_batches_tracked"  # a counter of training that old files lack


def fit(module: torch.nn.Module, state: State, layout: Layout, *, origin: str, model: str, extra: int = 1) -> None:
    """Load a file's tensors into a module; UserError that names the first key that does not fit.

    Positions are brought to the module's grid of patches; `extra` of them belong to tokens without a place.
    """
    found, file_key = rename(layout, state)
    wanted = module.state_dict()
    found = moved(found, module, layout, extra=extra)
    for name, tensor in wanted.items():
        if name.endswith(_NOT_NEEDED):
            found.setdefault(name, tensor)
    refuse_difference(found, wanted, file_key, origin=origin, model=model)
    module.load_state_dict(found, strict=True)


def moved(state: State, module: torch.nn.Module, layout: Layout, *, extra: int = 0) -> State:
    """Tensors under a module's own names, with its positions brought to the module's grid of patches."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    return {
        name: _placed(name, tensor, shapes[name], extra=extra, layout=layout, module=module)
        if name in shapes
        else tensor
        for name, tensor in state.items()
    }


def _placed(name: str, tensor: torch.Tensor, shape: torch.Size, *, extra: int, layout: Layout, module) -> torch.Tensor:
    if tensor.shape == shape:
        return tensor
    if name.endswith(_TABLES):
        table = tensor[None] if tensor.ndim == 2 and len(shape) == 3 else tensor
        return resample(table, shape, extra=extra, antialias=layout.antialias)
    if name.endswith(("rel_pos_h", "rel_pos_w")):
        return resample_relative(tensor, shape)
    if name.endswith("relative_position_bias_table") and is_square(tensor, shape):
        from timm.layers import resize_rel_pos_bias_table

        window = module.get_submodule(name.rpartition(".")[0]).window_size
        return resize_rel_pos_bias_table(tensor, new_window_size=window, new_bias_shape=shape)
    return tensor


def refuse_difference(found: State, wanted: State, file_key: dict[str, str], *, origin: str, model: str) -> None:
    """UserError for the first key that is missing, left over, or of another shape; by the file's own name where it has one."""
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    for names, verb in ((missing, "lacks"), (extra, "has the unexpected")):
        if names:
            shown = names[0] if verb == "lacks" else file_key.get(names[0], names[0])
            raise misfit(
                origin,
                model,
                f"the file {verb} key '{shown}' ({len(names):,} such keys); expected exactly the architecture's keys; "
                "check --weights and --encoder",
            )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise misfit(
                origin,
                model,
                f"'{file_key.get(name, name)}' is {list(tensor.shape)}; expected {list(wanted[name].shape)}; "
                "check --image-size and --encoder",
            )
