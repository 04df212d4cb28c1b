"""`--compile`: the same vectors, one shape, and one line where nothing can be compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cbmir.cli import main
from cbmir.encoders.build import build
from cbmir.encoders.table import resolve

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def anew(tmp_path, monkeypatch):
    """Nothing compiled before counts, and no pool of processes is left behind."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with config.patch(compile_threads=1):
        yield
    torch._dynamo.reset()


@pytest.fixture
def compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler on this machine: torch.compile needs one")


def pictures(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8: waves of different lengths."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin((i + 1) * (y + 1) + 3 * x * (i % 4)) for i in range(count)]
    return np.stack([np.repeat((127 + 120 * wave)[:, :, None], 3, 2) for wave in waves]).astype(np.uint8)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("name", ["timm:test_vit~random0", "timm:test_resnet~random0"])
def test_compiled_vectors_are_the_same_and_short_batches_bring_no_other_shape(name, compiler):
    plain = build(resolve(name))
    compiled = build(resolve(name), compiled=True, batch_size=4)
    pixels = pictures(10, plain.spec.geometry.size)
    vectors, wanted = compiled.encode(pixels), plain.encode(pixels)  # 4, 4 and 2
    alone = np.concatenate([compiled.encode(pixels[:1]), compiled.encode(pixels[1:4])])
    counted = torch._dynamo.utils.counters
    assert (counted["stats"]["unique_graphs"], counted["frames"]["total"]) == (1, 1)
    found = cosines(vectors, wanted)
    print(f"{name}: least cosine of compiled and plain {found.min():.7f}")
    assert found.min() >= 0.9999
    assert cosines(alone, wanted[:4]).min() >= 0.9999
    assert cosines(vectors[1:], wanted[:-1]).max() < found.min()  # the images are told apart


def test_without_a_compiler_it_is_one_line_and_exit_code_2(capsys):
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert main(["encoders", "check", "timm:test_vit~random0", "--compile", "--device", "cpu"]) == 2
    said, error = capsys.readouterr()
    assert said == ""
    (line,) = [line for line in error.splitlines() if line.startswith("cbmir")]
    assert line.startswith(
        "cbmir encoders check: timm:test_vit~random0 cannot be compiled: InvalidCxxCompiler: No working C++"
    )
    assert line.endswith("; --compile needs a C++ compiler (g++), and Triton on GPUs; leave it away, or install them")
    assert "Traceback" not in error
