"""A file of weights -> names and tensors. Only safetensors and torch files without code are read: no pickle runs."""

from __future__ import annotations

import hashlib
import pickle
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
    found = _read(path)
    while isinstance(found, dict) and (inner := next((found[w] for w in _WRAPPERS if _is_state(found.get(w))), None)):
        found = inner
    if not _is_state(found):
        raise ValueError(f"it holds no tensors by name; expected {ACCEPTED}")
    others = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f"'{others[0]}' is no tensor but {type(found[others[0]]).__name__}; expected {ACCEPTED}")
    state = {str(name): tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    if all(name.startswith("module.") for name in state):  # torch.nn.DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _is_state(value) -> bool:
    return isinstance(value, dict) and any(isinstance(tensor, torch.Tensor) for tensor in value.values())


def _read(path: str):
    with open(path, "rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return _safetensors(path)
    if path.endswith(".safetensors"):
        raise ValueError("it is no safetensors file, or was cut short")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(_why_refused(path, error)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise ValueError(f"it is a TorchScript archive, which holds code; expected {ACCEPTED}") from error
        first = " ".join(str(error).split())[:160]
        raise ValueError(f"it is no file of weights, or was cut short ({first}); expected {ACCEPTED}") from error


def _safetensors(path: str) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"it is no whole safetensors file ({' '.join(str(error).split())[:160]})") from error


def _why_refused(path: str, error: Exception) -> str:
    text = str(error)
    if "Unsupported global" in text or "Unsupported operand" in text or "Unsupported class" in text:
        what = text.partition("GLOBAL ")[2].split(" ")[0] or "Python objects"
        return f"it is a pickle that would run code ({what}), and is not loaded; expected {ACCEPTED}"
    return f"it is no file of weights ({' '.join(text.split())[:160]}); expected {ACCEPTED}"


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
