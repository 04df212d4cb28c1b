"""Attention layers of other libraries, straightened: the same vectors, and no weight that is copied for each position."""

import pytest
import torch
from torch.nn import MultiheadAttention
from torch.profiler import ProfilerActivity, profile

from cbmir.encoders.attention import straighten

WIDTH, HEADS, LENGTH = 64, 4, 50


def products(layer: MultiheadAttention, *given: torch.Tensor) -> list[list[int]]:
    """Shapes of the right sides of batched products that a forward pass in bfloat16 makes."""
    recording = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), recording as profiled:
        layer(*given, need_weights=False)
    return [event.input_shapes[1] for event in profiled.events() if event.name == "aten::bmm"]


def layers(**options) -> tuple[MultiheadAttention, MultiheadAttention]:
    """As torch has it, and straightened."""
    torch.manual_seed(0)
    plain = MultiheadAttention(WIDTH, HEADS, batch_first=True, **options).eval()
    ours = MultiheadAttention(WIDTH, HEADS, batch_first=True, **options).eval()
    if plain.in_proj_bias is not None:
        torch.nn.init.normal_(plain.in_proj_bias)
    ours.load_state_dict(plain.state_dict())
    straighten(ours)
    return plain, ours


@pytest.mark.parametrize("options", [{}, {"bias": False}])
@pytest.mark.parametrize("asked", ["itself", "others", "masked", "weights", "three"])
def test_the_result_is_torchs_own(options, asked):
    plain, ours = layers(**options)
    x, y, z = torch.randn(3, LENGTH, WIDTH), torch.randn(3, 7, WIDTH), torch.randn(3, 7, WIDTH)
    mask = torch.ones(LENGTH, LENGTH).triu(1).bool()
    given, how = {
        "itself": ((x, x, x), {"need_weights": False}),
        "others": ((x, y, y), {"need_weights": False}),
        "masked": ((x, x, x), {"need_weights": False, "attn_mask": mask}),
        "weights": ((x, x, x), {}),
        "three": ((x, y, z), {"need_weights": False}),
    }[asked]
    with torch.inference_mode():
        expected, weights = plain(*given, **how)
        found, our_weights = ours(*given, **how)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert (weights is None) == (our_weights is None)


@pytest.mark.parametrize("others", [False, True])
def test_no_weight_is_copied_for_each_position(others):
    plain, ours = layers()
    x = torch.randn(2, LENGTH, WIDTH, dtype=torch.bfloat16)  # as an embedding layer leaves it under autocast
    y = torch.randn(2, LENGTH, WIDTH, dtype=torch.bfloat16) if others else x
    width = 2 * WIDTH if others else 3 * WIDTH
    assert [LENGTH, WIDTH, width] not in products(ours, x, y, y)
    assert [LENGTH, WIDTH, width] in products(plain, x, y, y), "torch does not do it any more: attention.py can go"


def test_layers_that_are_not_plain_are_left_alone():
    first = MultiheadAttention(WIDTH, HEADS)  # (length, n, width)
    other = MultiheadAttention(WIDTH, HEADS, batch_first=True, kdim=32, vdim=32)
    biased = MultiheadAttention(WIDTH, HEADS, batch_first=True, add_bias_kv=True)
    straighten(torch.nn.ModuleList([first, other, biased]))
    assert not any("forward" in vars(layer) for layer in (first, other, biased))
