"""Position tables at another size, held to the libraries that published encoders come from."""

import math

import pytest
import timm.layers
import torch
from transformers import Dinov2Config, SamVisionConfig, ViTConfig
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings
from transformers.models.sam.modeling_sam import SamVisionAttention
from transformers.models.vit.modeling_vit import ViTEmbeddings

from cbmir.encoders.fit import fit
from cbmir.encoders.layouts import LAYOUTS, Layout
from cbmir.encoders.positions import resample, resample_relative
from cbmir.errors import UserError

SIZES = pytest.mark.parametrize(("old", "new"), [(7, 16), (16, 7), (37, 16), (4, 5), (5, 4), (14, 1), (1, 14), (6, 6)])


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@SIZES
@pytest.mark.parametrize("library", [Dinov2Embeddings, ViTEmbeddings])
def test_without_antialias_positions_are_transformers(library, old, new):
    config = Dinov2Config if library is Dinov2Embeddings else ViTConfig
    embeddings = library(config(hidden_size=12, image_size=8 * old, patch_size=8))
    table = drawn(1, 1 + old * old, 12)
    embeddings.position_embeddings.data = table
    expected = embeddings.interpolate_pos_encoding(torch.zeros(1, 1 + new * new, 12), 8 * new, 8 * new)
    found = resample(table, torch.Size((1, 1 + new * new, 12)), extra=1, antialias=False)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5


@SIZES
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_with_antialias_positions_are_timms(old, new, extra):
    table = drawn(1, extra + old * old, 12)
    expected = timm.layers.resample_abs_pos_embed(table, [new, new], num_prefix_tokens=extra)
    found = resample(table, torch.Size((1, extra + new * new, 12)), extra=extra, antialias=True)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5
    assert torch.equal(found[:, :extra], table[:, :extra])  # tokens without a place stay


def test_antialias_matters_where_tables_shrink():
    table, shape = drawn(1, 1 + 256, 12), torch.Size((1, 1 + 49, 12))
    smooth, sharp = (resample(table, shape, extra=1, antialias=antialias) for antialias in (True, False))
    assert (smooth - sharp).abs().max() > 0.1


@SIZES
def test_a_table_without_a_leading_axis_and_one_of_a_grid_are_moved_alike(old, new):
    table = drawn(old * old, 12)
    flat = resample(table, torch.Size((new * new, 12)), extra=0, antialias=False)
    listed = resample(table[None], torch.Size((1, new * new, 12)), extra=0, antialias=False)
    grid = resample(table.view(1, old, old, 12), torch.Size((1, new, new, 12)), extra=0, antialias=False)
    assert flat.shape == (new * new, 12)
    assert torch.equal(flat, listed[0])
    assert torch.equal(flat, grid.reshape(new * new, 12))


@SIZES
def test_offsets_are_those_of_segment_anything(old, new):
    table = drawn(2 * old - 1, 12)
    size = SamVisionConfig(hidden_size=12, num_attention_heads=1)
    expected = SamVisionAttention(size, window_size=0).get_rel_pos(new, new, table)  # (new, new, 12)
    found = resample_relative(table, torch.Size((2 * new - 1, 12)))
    assert found.shape == (2 * new - 1, 12)
    offsets = torch.arange(new)[:, None] - torch.arange(new)[None] + new - 1
    assert (found[offsets] - expected).abs().max() < 1e-5


def test_tables_that_come_in_stay_as_they_are():
    table = drawn(1, 17, 4)
    before = table.clone()
    resample(table, torch.Size((1, 26, 4)), extra=1, antialias=True)
    resample_relative(table[0], torch.Size((9, 4)))
    assert torch.equal(table, before)
    assert resample(table, table.shape, extra=1, antialias=True) is table
    assert resample_relative(table[0], table[0].shape).shape == (17, 4)


# table, the module's own shape, tokens without a place: nothing can be done about them
UNFIT = [
    ((1, 1 + 12, 8), (1, 1 + 16, 8), 1),  # twelve places are no square
    ((1, 16, 8), (1, 1 + 25, 8), 1),  # a square, but without the class token
    ((1, 1 + 16, 8), (1, 1 + 12, 8), 1),
    ((1, 1 + 16, 8), (1, 1 + 25, 6), 1),  # another width
    ((1, 4, 4, 8), (1, 26, 8), 1),  # a grid, where a list is expected
    ((1, 0, 8), (1, 26, 8), 1),
]


class Table(torch.nn.Module):
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))


@pytest.mark.parametrize(("found", "wanted", "extra"), UNFIT)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_table_that_cannot_be_moved_comes_back_and_is_refused(found, wanted, extra, antialias):
    table = drawn(*found)
    assert resample(table, torch.Size(wanted), extra=extra, antialias=antialias) is table
    layout = Layout(rules=(("theirs", "pos_embed"),), antialias=antialias)
    with pytest.raises(
        UserError, match=r"the weights w\.pth do not fit vit: 'theirs' is \[.*\]; expected \[.*\]; check"
    ):
        fit(Table("pos_embed", wanted), {"theirs": table}, layout, origin="w.pth", model="vit", extra=extra)


@pytest.mark.parametrize("found", [(9, 6), (9,), (3, 3, 8)])
def test_offsets_that_cannot_be_moved_come_back_and_are_refused(found):
    table = drawn(*found)
    assert resample_relative(table, torch.Size((13, 8))) is table
    with pytest.raises(UserError, match=r"'rel_pos_h' is \[.*\]; expected \[13, 8\]"):
        fit(Table("rel_pos_h", (13, 8)), {"rel_pos_h": table}, LAYOUTS["sam"], origin="w.pth", model="sam")


@pytest.mark.parametrize("found", [(13 * 13, 5), (13 * 12, 4), (13,), (13, 13, 4)])
def test_a_table_of_windows_that_cannot_be_moved_is_refused(found):
    module = Table("relative_position_bias_table", (7 * 7, 4))
    module.window_size = (4, 4)
    state = {"relative_position_bias_table": drawn(*found)}
    with pytest.raises(UserError, match=r"'relative_position_bias_table' is \[.*\]; expected \[49, 4\]"):
        fit(module, state, LAYOUTS["hf_swin"], origin="w.pth", model="swin")


@pytest.mark.filterwarnings("ignore::UserWarning:timm")
def test_a_table_of_windows_is_moved_as_timm_does():
    module = Table("relative_position_bias_table", (7 * 7, 4))
    module.window_size = (4, 4)
    table = drawn(13 * 13, 4)
    expected = timm.layers.resize_rel_pos_bias_table(table, new_window_size=(4, 4), new_bias_shape=(49, 4))
    fit(module, {"relative_position_bias_table": table}, LAYOUTS["hf_swin"], origin="w.pth", model="swin")
    assert torch.equal(module.relative_position_bias_table.data, expected)
    assert math.isclose(float(expected[24, 0]), float(table[84, 0]), abs_tol=1e-6)  # the centre stays the centre
