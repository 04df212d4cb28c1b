"""Where memory runs out: batches are halved until they fit, nothing is lost on the way, and one image too many is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.cli import main
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.build import build
from cbmir.encoders.table import resolve
from cbmir.encoders.torch_encoder import TorchEncoder
from cbmir.errors import UserError
from cbmir.store import Study

TINY = "timm:test_resnet~random0"

# --- memory that really ends ------------------------------------------------------------------------------------------

LIMIT = """
import resource

def leave(megabytes):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20),) * 2)
"""
ENCODE = """
import json, sys
import numpy as np, torch
from cbmir.encoders.build import build
from cbmir.encoders.table import resolve
torch.set_num_threads(1)
name, precision = sys.argv[1:]
encoder = build(resolve(name), batch_size=128, precision=precision)
size = encoder.spec.geometry.size
y, x = np.mgrid[0:size, 0:size] / size
waves = [np.sin(i * (y + 1) / 3 + 7 * x * (i % 5)) for i in range(128)]
pixels = np.stack([np.repeat((127 + 120 * wave)[:, :, None], 3, 2) for wave in waves]).astype(np.uint8)
small = np.concatenate([encoder.encode(pixels[i : i + 8]) for i in range(0, 128, 8)])
del y, x, waves
leave(megabytes=20)
found = encoder.encode(pixels)

def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

print(json.dumps({
    "batch": encoder.batch_size, "least": cosines(found, small).min(), "others": cosines(found[1:], small[:-1]).max(),
}))
"""


def child(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Code in a process of its own, which may limit its memory by `leave`."""
    command = [sys.executable, "-c", LIMIT + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("timm:test_vit~random0", "float32"), ("timm:test_vit~random0", "bfloat16"), (TINY, "float32")],
)
def test_a_batch_beyond_the_memory_is_halved_until_it_fits(name, precision):
    """128 images of 160 pixels are 39 MB as numbers, where 20 MiB are left."""
    done = child(ENCODE, name, precision)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(name, precision, found)
    assert found["batch"] <= 64
    assert found["least"] >= (0.99999 if precision == "float32" else 0.999)
    assert found["others"] < found["least"]  # images differ by more than batches do


COMMAND = """
import sys
import timm, torch
from cbmir.cli import main
from cbmir.encoders import check, modules, torch_encoder
from cbmir.embed import embed
torch.set_num_threads(1)
leave(megabytes=40)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["encoders check", "embed"])
def test_an_image_beyond_the_memory_is_one_line_and_exit_code_2(command, phantom_study):
    name = "timm:test_resnet@2048~random0"  # 50 MB as numbers, where 40 MiB are left
    places = ["--study", phantom_study.root, "--encoder", name] if command == "embed" else [name]
    done = child(COMMAND, *command.split(), *places, "--device", "cpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"cbmir {command}: {name} runs out of memory on cpu with one image of 2048 pixels; "
        "choose a smaller --image-size, --precision bfloat16, or a machine with more memory\n"
    )
    assert not phantom_study.exists("embeddings")


# --- the same, on demand ----------------------------------------------------------------------------------------------


class Narrow(torch.nn.Module):
    """Takes so many images at a time: (n, 3, 8, 8) -> (n, 3) means of the channels."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 3, 1, bias=False)
        torch.nn.init.dirac_(self.convolution.weight)
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.passed: list[int] = []  # images of each forward pass that went well

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise self.error
        self.passed.append(len(images))
        return self.convolution(images).mean((2, 3))


SPEC = resolve(f"{TINY.replace('~', '@8~')}")


def narrow(most: int, *, batch: int = 16, error: Exception | None = None) -> tuple[TorchEncoder, Narrow]:
    module = Narrow(most=1, error=error)
    encoder = TorchEncoder(SPEC, module, batch_size=batch)
    module.most = most
    module.passed.clear()
    return encoder, module


def shades(count: int) -> np.ndarray:
    """Each image of a colour of its own: (count, 8, 8, 3) uint8."""
    colours = np.stack([np.arange(count) % 256, np.arange(count) // 256, np.full(count, 7)], axis=1)
    return np.broadcast_to(colours[:, None, None, :], (count, 8, 8, 3)).astype(np.uint8)


def means(pixels: np.ndarray) -> np.ndarray:
    return ((pixels / 255).mean((1, 2)) - SPEC.mean) / SPEC.std


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 90))
def test_whatever_fits_nothing_is_lost_and_the_order_stays(batch, most, count):
    encoder, module = narrow(most, batch=batch)
    pixels = shades(count)
    np.testing.assert_allclose(encoder.encode(pixels), means(pixels), atol=1e-5)
    assert sum(module.passed) == count
    largest = min(batch, count)
    halvings = 0
    while largest >> halvings > most:
        halvings += 1
    assert encoder.batch_size == (largest >> halvings if halvings else batch)
    again = len(module.passed)
    np.testing.assert_allclose(encoder.encode(pixels), means(pixels), atol=1e-5)
    assert len(module.passed) == 2 * again  # what did not fit is not tried a second time


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"),
    MemoryError("Unable to allocate 27.9 GiB for an array with shape (1, 100000, 100000, 3) and data type uint8"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "154140672 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("[enforce fail at alloc_cpu.cpp:83] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8"),
    RuntimeError("could not create a primitive"),
    RuntimeError("could not create a memory object"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]  # fmt: skip


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[-40:])
def test_each_way_of_saying_so_is_understood(error):
    encoder, module = narrow(3, error=error)
    pixels = shades(20)
    np.testing.assert_allclose(encoder.encode(pixels), means(pixels), atol=1e-5)
    assert encoder.batch_size == 2
    assert module.passed == [2] * 10


OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (16x3 and 4x3)"),
    RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
    ValueError("out of memory"),  # nothing that torch says
    KeyError("head"),
    UserError("weights: none"),
]


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_what_a_smaller_batch_does_not_mend_comes_as_it_is(error):
    encoder, module = narrow(3, error=error)
    with pytest.raises(type(error)) as caught:
        encoder.encode(shades(20))
    assert caught.value is error
    assert encoder.batch_size == 16
    assert module.passed == []


REMEDY = (
    r"timm:test_resnet@8~random0 runs out of memory on cpu with one image of 8 pixels; "
    r"choose a smaller --image-size, --precision bfloat16, or a machine with more memory$"
)


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[-40:])
def test_one_image_beyond_the_memory_names_encoder_size_device_and_remedy(error):
    encoder, module = narrow(0, error=error)
    with pytest.raises(UserError, match=f"^{REMEDY}") as caught:
        encoder.encode(shades(20))
    assert caught.value.__cause__ is error
    assert module.passed == []
    with pytest.raises(UserError, match=f"^{REMEDY}"):  # already when it is built
        TorchEncoder(SPEC, Narrow(most=0, error=error))


# --- float16 ----------------------------------------------------------------------------------------------------------

HALF = (
    "--precision float16 is for GPUs: processors compute it ten times slower than float32; expected float32 or bfloat16"
)


def test_float16_on_a_processor_is_refused(capsys):
    with pytest.raises(UserError, match=f"^{HALF}$"):
        build(resolve(TINY), precision="float16")
    assert main(["encoders", "check", TINY, "--precision", "float16", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == f"cbmir encoders check: {HALF}\n"


def written(study: Study) -> dict[str, int]:
    """Files of embeddings -> when they were written."""
    return {str(p): p.stat().st_mtime_ns for p in Path(study.root, "embeddings").rglob("*.*") if p.is_file()}


def test_embedding_in_float16_on_a_processor_is_refused_before_anything_is_touched(ray_session, phantom_study, capsys):
    flags = ["embed", "--study", phantom_study.root, "--encoder", TINY, "--device", "cpu"]
    half = [*flags, "--precision", "float16"]
    assert main(half) == 2
    assert not phantom_study.exists("embeddings")
    assert main(flags) == 0
    before = written(phantom_study)
    assert len(before) > 2
    capsys.readouterr()
    assert main([*half, "--overwrite"]) == 2
    assert capsys.readouterr().err == f"cbmir embed: {HALF}\n"
    assert written(phantom_study) == before


def test_what_a_worker_refuses_is_one_line_too(ray_session, phantom_study, capsys, monkeypatch):
    """As where a study was begun in float16 on a GPU: the command does not look, so that the worker has to say it."""
    with monkeypatch.context() as careless:
        careless.setattr("cbmir.embed.refuse_precision", lambda precision, device: None)
        options = EmbedOptions(device="cpu", precision="float16", random_weights=0)
        with pytest.raises(UserError, match=f"^{HALF}$"):
            embed(phantom_study, [TINY], options)
    assert [Path(file).name for file in written(phantom_study)] == ["started.json"]
    capsys.readouterr()
    assert main(["embed", "--study", phantom_study.root, "--encoder", TINY, "--device", "cpu"]) == 2
    assert capsys.readouterr().err == f"cbmir embed: {HALF}\n"
