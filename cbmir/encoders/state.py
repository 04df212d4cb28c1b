"""A file of weights -> names and tensors. Only safetensors and torch files without code are read: no pickle runs."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile

import numpy as np
import torch

from cbmir.errors import UserError

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "teacher", "net")
ACCEPTED = "safetensors or a torch state dict"


def read_state(path: str) -> State:
    """Tensors by name, float32 where they are floats; wrappers such as {'state_dict': ...} are opened.

    ValueError in one line where the file holds anything that is not a tensor, or is no file of weights.
    """
    found = _opened(_read(path))
    if found is None:
        raise ValueError(f"it holds no tensors by name; expected {ACCEPTED}")
    others = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f"'{others[0]}' is no tensor but {type(found[others[0]]).__name__}; expected {ACCEPTED}")
    state = {str(name): _float32(name, tensor) for name, tensor in found.items()}
    if all(name.startswith("module.") for name in state):  # torch.nn.DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _opened(found, depth: int = 3) -> dict | None:
    """The innermost dictionary of tensors that wrappers hold; a file may hold itself: depth ends that."""
    if not isinstance(found, dict):
        return None
    inner = (_opened(found.get(wrapper), depth - 1) for wrapper in _WRAPPERS if depth)
    tensors = found if any(isinstance(value, torch.Tensor) for value in found.values()) else None
    return next((state for state in inner if state is not None), tensors)


def _float32(name: str, tensor: torch.Tensor) -> torch.Tensor:
    try:
        return tensor.float() if tensor.is_floating_point() else tensor
    except NotImplementedError as error:  # two numbers in a byte
        raise ValueError(
            f"'{name}' is {tensor.dtype}, which torch does not turn into float32; expected floats of 8 bits or more"
        ) from error


def _read(path: str):
    with open(path, "rb") as file:
        head = file.read(9)
    if not head:
        raise ValueError(f"it is empty; expected {ACCEPTED}")
    if len(head) == 9 and head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return _safetensors(path)
    if path.endswith(".safetensors"):
        raise ValueError(f"it is no safetensors file, or was cut short; expected {ACCEPTED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of pickle that it refuses in the next line
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # whatever a damaged pickle does to the unpickler
        raise ValueError(_why_refused(error)) from error


def _safetensors(path: str) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        first = " ".join(str(error).split())[:160]
        raise ValueError(f"it is no whole safetensors file ({first}); expected {ACCEPTED}") from error


def _why_refused(error: Exception) -> str:
    text = " ".join(str(error).split())
    if code := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it is a pickle that would run code ({code[1]}), and is not loaded; expected {ACCEPTED}"
    if "TorchScript" in text:
        return f"it is a TorchScript archive, which holds code; expected {ACCEPTED}"
    if "Unsupported operand 149" in text:  # FRAME, with which protocol 4 begins
        return f"it was saved with pickle_protocol 4 or later, which torch does not read without running code; expected {ACCEPTED} as torch.save writes it"
    said = text.rpartition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0]
    first = said.partition(". ")[0][:160] or type(error).__name__
    return f"it is no file of weights, or was cut short ({first}); expected {ACCEPTED}"


def state_sha256(module: torch.nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a module's parameters and buffers, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy() if array.numel() else np.zeros(0, np.uint8))
    return digest.hexdigest()


def misfit(origin: str, model: str, text: str) -> UserError:
    return UserError(f"the weights {origin} do not fit {model}: {text}")
