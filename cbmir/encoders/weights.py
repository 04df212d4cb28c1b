"""Where an encoder's weights come from, and what to say where they cannot be had.

Only safetensors and torch files read with `weights_only=True` are loaded: no pickle runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch

from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError

_HUB_FILES = {
    "timm": ("model.safetensors", "pytorch_model.bin"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
SUPPLY = "supply them with --weights FILE (safetensors or a torch state dict)"


def require_available(spec: EncoderSpec) -> None:
    """Refuse at once, in one line, an encoder whose weights are neither on this machine nor within reach."""
    if spec.weights_file:
        if not os.path.isfile(spec.weights_file):
            raise UserError(
                f"no weights file {spec.weights_file} for {spec.name}; expected safetensors or a torch file; check --weights"
            )
        return
    if not spec.hub_id:
        raise UserError(f"{spec.name} has no published weights; {SUPPLY}, or ask for --random-weights SEED")
    if _is_cached(spec):
        return
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    host = urlparse(spec.hub_id).hostname or urlparse(_hub_endpoint()).hostname
    if offline or not _resolves(host):
        reason = "HF_HUB_OFFLINE is set" if offline else f"{host} cannot be reached"
        raise UserError(
            f"the weights of {spec.name} cannot be had: '{spec.hub_id}' is not in the cache {_cache()} and {reason}; "
            f"{SUPPLY}, fill that cache on a machine with a network, or ask for --random-weights SEED"
        )


def _is_cached(spec: EncoderSpec) -> bool:
    from huggingface_hub import try_to_load_from_cache

    repository = spec.hub_id.rstrip("/")
    if "://" in repository:
        return (Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(repository)).exists() or (
            spec.source == "open_clip" and (Path("~/.cache/clip").expanduser() / os.path.basename(repository)).exists()
        )
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in _HUB_FILES[spec.source])


def _hub_endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _cache() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def _resolves(host: str | None) -> bool:
    """Whether a name server knows the host: the quick answer where there is no network, before minutes of retries."""
    proxies = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    if any(os.environ.get(name) for name in proxies):
        return True  # the proxy resolves names; let the library try
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def explain_load_error(error: Exception, spec: EncoderSpec) -> UserError:
    """A library's error on loading weights -> one line that names the first key that does not fit."""
    origin = spec.weights_file or spec.hub_id
    text = str(error)
    for what in ("Missing", "Unexpected"):
        found = re.search(rf"{what} key\(s\) in state_dict: (.+?)\.\s", text + " ", flags=re.DOTALL)
        if found:
            keys = re.findall(r'"([^"]+)"', found.group(1))
            verb = "lacks" if what == "Missing" else "has the unexpected"
            return UserError(
                f"the weights {origin} do not fit {spec.model}: the file {verb} key '{keys[0]}' "
                f"({len(keys):,} such keys); expected exactly the architecture's keys; check --weights and --encoder"
            )
    shape = re.search(
        r"size mismatch for (\S+): .*?torch\.Size\((\[[^\]]*\]).*?torch\.Size\((\[[^\]]*\])", text, flags=re.DOTALL
    )
    if shape:
        key, found, expected = shape.groups()
        return UserError(
            f"the weights {origin} do not fit {spec.model}: '{key}' is {found}; expected {expected}; check --image-size and --encoder"
        )
    first = " ".join(text.split())[:240] or type(error).__name__
    return UserError(f"cannot load {spec.name} from {origin}: {first}")


def read_keys(path: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a weights file; wrappers such as {'state_dict': ...} are opened."""
    from timm.models import load_state_dict

    return {name: tuple(tensor.shape) for name, tensor in load_state_dict(path).items() if hasattr(tensor, "shape")}


def state_sha256(module: torch.nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a module's parameters and buffers, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy() if array.numel() else np.zeros(0, np.uint8))
    return digest.hexdigest()
