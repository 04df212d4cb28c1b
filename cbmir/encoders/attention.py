"""torch.nn.MultiheadAttention, computed without copies of its weights.

Under autocast torch takes its own Python path, which turns a batch (n, length, width) around to (length, n, width) first. That
is not contiguous, so it is multiplied position by position with a weight repeated for each: CLIP ViT-L/14 in bfloat16 took 20 s an image on
two cores, 97 % of it in copies.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import MultiheadAttention
from torch.nn.functional import linear, scaled_dot_product_attention


def straighten(module: torch.nn.Module) -> None:
    """Let every attention layer below `module` that can do so work on (n, length, width) as it comes; for inference alone."""
    for layer in module.modules():
        if isinstance(layer, MultiheadAttention) and _is_plain(layer):
            layer.forward = partial(_attend, layer, layer.forward)


def _is_plain(layer: MultiheadAttention) -> bool:
    return layer.batch_first and layer._qkv_same_embed_dim and layer.bias_k is None and not layer.add_zero_attn


def _attend(
    layer: MultiheadAttention,
    otherwise,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """MultiheadAttention.forward; what has masks, or wants its weights told, goes `otherwise`."""
    masked = key_padding_mask is not None or attn_mask is not None or is_causal
    if masked or need_weights or key is not value or query.dim() != 3:
        return otherwise(query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
    if query is key:
        q, k, v = linear(query, layer.in_proj_weight, layer.in_proj_bias).chunk(3, dim=-1)
    else:
        parts = [layer.embed_dim, 2 * layer.embed_dim]
        weights = layer.in_proj_weight.split(parts)
        biases = (None, None) if layer.in_proj_bias is None else layer.in_proj_bias.split(parts)
        q = linear(query, weights[0], biases[0])
        k, v = linear(key, weights[1], biases[1]).chunk(2, dim=-1)
    heads = [
        x.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for x in (q, k, v)
    ]  # (n, heads, length, width / heads)
    out = scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    return layer.out_proj(out), None
