"""`cbmir encoders`, `cbmir encoders NAME` and `cbmir encoders check`: what they print is so, and misuse is one line."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import cbmir.encoders
from cbmir.cli import main
from cbmir.encoders import check
from cbmir.encoders.check import picture, throughput
from tests.parity.shake import shake

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = {
    name: values
    for file in sorted((Path(cbmir.encoders.__file__).parent / "rows").glob("*.toml"))
    for name, values in tomllib.loads(file.read_text(encoding="utf-8")).items()
}
HUB = {name: values["checkpoint"] for name, values in WRITTEN.items() if "hf://" in values.get("checkpoint", "")}


def run(*arguments: str) -> int:
    """main, with argparse's own exits as codes."""
    try:
        return main(["encoders", *map(str, arguments)])
    except SystemExit as end:
        return end.code


# --- the table --------------------------------------------------------------------------------------------------------


def table(text: str) -> dict[str, dict[str, str]]:
    """What is printed -> {name: {column: cell}}; columns begin where their heads do."""
    head, *lines = text.partition("\n\n")[0].splitlines()
    heads = [(match.start(), match.group()) for match in re.finditer(r"\S+( \S+)*", head)]
    ends = [start for start, _ in heads[1:]] + [None]
    found = {}
    for line in lines:
        cells = {name: line[start:end].strip() for (start, name), end in zip(heads, ends, strict=True)}
        found[cells["encoder"]] = cells
    return found


def cached(cache: Path, checkpoint: str) -> None:
    """The file of a hub address as Hugging Face's cache has it."""
    owner, name, revision, file = re.fullmatch(r"hf://([^/]+)/([^@]+)@([^/]+)/([^|]+).*", checkpoint).groups()
    repository = cache / "hub" / f"models--{owner}--{name}"
    commit = revision if len(revision) == 40 else "c" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(commit)
    path = repository / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")


def test_every_row_is_printed_with_dim_license_and_whether_its_weights_are_here(tmp_path, capsys):
    here = next(name for name in HUB if not WRITTEN[name].get("gated"))
    gated = next(name for name in HUB if WRITTEN[name].get("gated"))
    for name in (here, gated):
        cached(tmp_path, HUB[name])
    assert run("--weights-cache", tmp_path, "--offline") == 0
    found = table(capsys.readouterr().out)
    assert set(WRITTEN) == {name for name in found if "<" not in name}
    for name, values in WRITTEN.items():
        cells, license = found[name], values.get("license", "not stated")
        assert cells["dim"] == str(values["dim"])
        assert cells["px"] == str(values["size"])
        assert cells["license"] == license or (
            cells["license"].endswith("...") and license.startswith(cells["license"][:-3])
        )
        assert cells["weights"] == weights_cell(values, [HUB[here], HUB[gated]]), name
        assert cells["what it is"] == values["summary"]
    assert {cells["weights"] for cells in found.values()} >= {"here", "gated", "not here yet", "none needed"}
    assert found[gated]["weights"] == found[here]["weights"] == "here"


def weights_cell(values: dict, present: list[str]) -> str:
    if values["model"].startswith("pixels:"):
        return "none needed"
    if "checkpoint" not in values:
        return "--weights FILE"
    if values["checkpoint"] in present:
        return "here"
    return "gated" if values.get("gated") else "not here yet"


def test_weights_come_and_go_with_the_cache(tmp_path, capsys):
    name = next(iter(HUB))
    seen = []
    for step in (lambda: None, lambda: cached(tmp_path, HUB[name])):
        step()
        assert run("--weights-cache", tmp_path) == 0
        seen.append(table(capsys.readouterr().out)[name]["weights"])
        assert run(name, "--weights-cache", tmp_path) == 0
        seen.append(capsys.readouterr().out)
    assert (seen[0], seen[2]) == ("not here yet", "here")
    assert f"{HUB[name]} (not here yet)" in seen[1]
    assert f"{HUB[name]} (here)" in seen[3]


# --- one in full ------------------------------------------------------------------------------------------------------


def fields(text: str) -> dict[str, str]:
    return {line[:11].strip(): line[12:] for line in text.splitlines()}


@pytest.mark.parametrize("name", WRITTEN)
def test_one_encoder_is_shown_in_full(name, tmp_path, capsys):
    assert run(name, "--weights-cache", tmp_path) == 0
    shown, values = fields(capsys.readouterr().out), WRITTEN[name]
    assert shown["name"] == name
    assert shown["model"] == values["model"]
    assert shown["dim"] == str(values["dim"])
    assert shown["license"] == values.get("license", "not stated by the source")
    assert ("gated" in shown) == values.get("gated", False)
    assert shown["input"].startswith(f"{values['size']}x{values['size']} {'grey' if values.get('grey') else 'RGB'}; ")
    for ours, theirs in (("note", "note"), ("cite", "citation"), ("what it is", "summary")):
        assert shown.get(ours) == values.get(theirs)
    assert shown.get("papers", "") == ", ".join(values.get("papers", []))
    assert shown.get("trained on", "") == ", ".join(values.get("trained_on", []))
    if "checkpoint" in values:
        assert shown["weights"] == f"{values['checkpoint']} (not here yet)"


def test_encoders_beyond_the_table_are_shown_too(tmp_path, capsys):
    file = spec_file(tmp_path, 'weights = "w.safetensors"\noutput = "cls"\nunit = true\n')
    assert run(file) == 0
    shown = fields(capsys.readouterr().out)
    assert shown["name"] == "mine"
    assert shown["weights"] == f"{tmp_path}/w.safetensors (not here yet)"
    assert shown["vector"] == "the class token after the last norm, brought to length 1"
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert run(file) == 0
    assert fields(capsys.readouterr().out)["weights"] == f"{tmp_path}/w.safetensors (here)"
    assert run(f"{file}@96~random3") == 0
    shown = fields(capsys.readouterr().out)
    assert (shown["name"], shown["weights"]) == ("mine@96~random3", "random, seed 3")
    assert shown["input"].startswith("96x96 RGB; ")


# --- check ------------------------------------------------------------------------------------------------------------


def spec_file(directory: Path, more: str = "") -> Path:
    (directory / "mine.toml").write_text(f'model = "timm:test_vit"\n{more}', encoding="utf-8")
    return directory / "mine.toml"


@pytest.fixture
def short(monkeypatch) -> None:
    """Timed for a moment only."""
    monkeypatch.setitem(throughput.__kwdefaults__, "seconds", 0.2)


CHECKED = re.compile(
    r"(?P<name>.+)\n"
    r"  weights     (?P<weights>.+); loaded in (?P<loaded>[0-9.]+) s, (?P<millions>[0-9.,]+) M parameters\n"
    r"  vector      dim (?P<dim>\d+), norm (?P<norm>[0-9.]+), first (?P<first>.+)\n"
    r"  throughput  (?P<rate>[0-9.,]+) images/s on cpu in (?P<precision>\w+), (?P<size>\d+) pixels, batches of (?P<batch>\d+)\n"
)


def checked(capsys, *arguments: str) -> dict[str, str]:
    """What `cbmir encoders check` says; also that its throughput can be true."""
    began = time.perf_counter()
    assert run("check", *arguments, "--precision", "float32", "--device", "cpu") == 0
    elapsed = time.perf_counter() - began
    match = CHECKED.fullmatch(capsys.readouterr().out)
    assert match
    said = match.groupdict()
    assert float(said["loaded"]) <= elapsed + 0.05
    assert float(said["rate"].replace(",", "")) >= int(said["batch"]) / elapsed
    return said


def theirs(model: torch.nn.Module) -> np.ndarray:
    """timm's own vector of the test picture."""
    model.eval().reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.inference_mode():
        return model(transform(Image.fromarray(picture()))[None])[0].numpy()


def assert_says(said: dict[str, str], vector: np.ndarray) -> None:
    assert int(said["dim"]) == len(vector)
    assert float(said["norm"]) == pytest.approx(np.linalg.norm(vector), rel=1e-4)
    np.testing.assert_allclose([float(x) for x in said["first"].split(", ")], vector[:4], atol=1.5e-4)


def test_check_prints_dim_norm_and_throughput_of_a_spec_file(short, tmp_path, capsys):
    model = timm.create_model("test_vit")
    shake(model, 3)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "w.safetensors")
    said = checked(capsys, spec_file(tmp_path, 'weights = "w.safetensors"\n'), "--batch-size", "3")
    assert said["name"] == "mine"
    assert said["weights"] == f"{tmp_path}/w.safetensors"
    assert (said["precision"], said["size"], said["batch"]) == ("float32", "160", "3")
    assert_says(said, theirs(model))
    assert float(said["millions"]) == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6, abs=0.05)


def test_check_of_random_weights_says_their_seed(short, capsys):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_resnet", num_classes=0)
    said = checked(capsys, "timm:test_resnet~random0")
    assert (said["name"], said["weights"]) == ("timm:test_resnet~random0", "random, seed 0")
    assert_says(said, theirs(model))
    other = checked(capsys, "timm:test_resnet", "--random-weights", "1")
    assert (other["name"], other["weights"]) == ("timm:test_resnet~random1", "random, seed 1")
    assert other["norm"] != said["norm"]


def test_check_of_several_says_one_after_the_other(short, capsys):
    assert run("check", "pixels32", "p=pixels32@16", "timm:test_resnet~random0") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[::4] == ["pixels32", "p", "timm:test_resnet~random0"]
    thumbnail = np.asarray(Image.fromarray(picture()).convert("L").resize((32, 32), Image.Resampling.BICUBIC)) / 255
    assert said[2].startswith(f"  vector      dim 1024, norm {np.linalg.norm(thumbnail):.4f}, ")
    assert "none needed" in said[1]
    assert said[6].startswith("  vector      dim 256, ")


class Slow:
    """An encoder that takes `pause` seconds a batch, longer for the first, of which half did not fit."""

    def __init__(self, spec, pause: float) -> None:
        self.spec, self.pause, self.batch_size = spec, pause, 16
        self.calls: list[int] = []

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(self.pause if self.calls else 10 * self.pause)
        self.calls.append(len(pixels))
        self.batch_size = 8
        return np.ones((len(pixels), 4), np.float32)


def test_throughput_is_of_the_forward_pass_without_the_first():
    encoder = Slow(check.resolve("pixels32"), pause=0.05)
    batch, rate = throughput(encoder, seconds=0.5)
    assert batch == 8
    assert encoder.calls[0] == 16
    assert set(encoder.calls[1:]) == {8}
    assert 8 / 0.05 / 8 < rate <= 8 / 0.05  # a pause is never shorter; on a busy machine it is longer


# --- misuse -----------------------------------------------------------------------------------------------------------

VIT = "timm:test_vit"
MISUSE = [
    (["biomedclp"], "unknown encoder 'biomedclp'; nearest: 'biomedclip'"),
    (["timm:test_vitt"], "timm has no model 'test_vitt'; nearest: 'test_vit"),
    (["{here}/none.toml"], "no encoder file {here}/none.toml; expected a TOML file as docs/encoders.md describes"),
    (["check", "biomedclp"], "unknown encoder 'biomedclp'; nearest: 'biomedclip'"),
    (["check", "pixels32", "rad-din"], "unknown encoder 'rad-din'; nearest: 'rad-dino'"),
    (["check"], "the following arguments are required: NAME"),
    (["check", f"{VIT}~random0", "--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
    (["check", VIT, "--weights", "{here}/none.pth"], f"no weights file {{here}}/none.pth for {VIT}; expected safetensors"),
    (["check", VIT, "--weights", "{here}"], f"no file: it is a directory {{here}} for {VIT}"),
    (["check", VIT, "--weights", "{here}/resnet.safetensors"], "resnet.safetensors do not fit test_vit: the file lacks key"),
    (["check", VIT, "--weights", "{here}/nan.safetensors"], "the vector of the test image is not finite"),
    (["check", "timm:vit_base_patch16_224", "--weights", "{here}/nan.safetensors"], "do not fit vit_base_patch16_224: "),
    (["check", f"{VIT}~random0", "--weights", "{here}/nan.safetensors"], "both weights from a file and random weights"),
    (["check", "pixels32", "--weights", "{here}/nan.safetensors"], "encoder pixels32 has no weights"),
    (["check", VIT, "--random-weights", "-1"], "random weights of seed -1; expected 0 or more"),
    (["check", f"{VIT}@100~random0"], "cannot take images of 100 pixels: it sees multiples of 16; nearest: 96 and 112"),
    (["check", f"{VIT}~random0", "--image-size", "150"], "images of 150 pixels: it sees multiples of 16; nearest: 144 and 160"),
    (["check", f"{VIT}~random0", "--image-size", "7"], "--image-size 7; expected 8 to 4096 pixels"),
    (["check", f"{VIT}~random0", "--image-size", "0"], "--image-size 0; expected 8 to 4096 pixels"),
    (["check", f"{VIT}~random0", "--image-size", "5000"], "--image-size 5000; expected 8 to 4096 pixels"),
    (["check", "pixels32@5000"], "encoder pixels32@5000: images of 5000 pixels; expected at most 4096"),
    (["check", f"{VIT}~random0", "--batch-size", "0"], "--batch-size 0; expected 1 or more"),
    (["check", f"{VIT}~random0", "--batch-size", "-3"], "--batch-size -3; expected 1 or more"),
    (["check", VIT, "--offline", "--weights-cache", "{here}"], f"the weights of {VIT} cannot be had: "),
]  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Weights of another architecture, and weights that are no numbers."""
    root = tmp_path_factory.mktemp("weights")
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), root / "resnet.safetensors")
    state = timm.create_model("test_vit").state_dict()
    safetensors.torch.save_file({k: torch.full_like(v, torch.nan) for k, v in state.items()}, root / "nan.safetensors")
    return root


def one_line(capsys) -> str:
    said, error = capsys.readouterr()
    assert said == ""
    assert error.startswith("cbmir encoders")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(("arguments", "message"), MISUSE, ids=[" ".join(a) for a, _ in MISUSE])
def test_misuse_is_one_line_and_exit_code_2(arguments, message, here, capsys):
    assert run(*(a.format(here=here) for a in arguments)) == 2
    assert message.format(here=here) in one_line(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said(capsys):
    assert run("check", f"{VIT}~random0", "--device", "cuda") == 2
    assert one_line(capsys) == (
        "cbmir encoders check: --device cuda: torch sees no GPU; use --device cpu, or see cbmir doctor\n"
    )


# --- the jobs ---------------------------------------------------------------------------------------------------------


def job(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "jobs" / f"{name}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_jobs_are_the_commands(tmp_path, capsys):
    cache = ["--weights-cache", tmp_path, "--offline"]
    assert run(*cache) == 0
    listed = job("encoders", *cache)
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, capsys.readouterr().out, "")
    done = job("encoders_check", "timm:test_vit~random0", "--precision", "float32", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert CHECKED.fullmatch(done.stdout)
    for name in ("encoders", "encoders_check", "encoders_fetch"):
        failed = job(name, "rad-din")
        assert (failed.returncode, failed.stdout) == (2, "")
        command = f"cbmir {name.replace('_', ' ')}"
        assert failed.stderr.startswith(f"{command}: unknown encoder 'rad-din'; nearest: 'rad-dino'")
        assert failed.stderr.count("\n") == 1
