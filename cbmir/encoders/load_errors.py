"""A library's error on loading weights -> one line that names the first thing that does not fit."""

from __future__ import annotations

import re

from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.state import misfit
from cbmir.errors import UserError


def explain(error: Exception, spec: EncoderSpec) -> UserError:
    text = str(error)
    for what, verb in (("Missing", "lacks"), ("Unexpected", "has the unexpected")):
        found = re.search(rf"{what} key\(s\) in state_dict: (.+?)\.\s", text + " ", flags=re.DOTALL)
        if found:
            keys = re.findall(r'"([^"]+)"', found.group(1))
            return misfit(
                spec.origin,
                spec.model,
                f"the file {verb} key '{keys[0]}' ({len(keys):,} such keys); expected exactly the architecture's keys; "
                "check --weights and --encoder",
            )
    shape = re.search(
        r"size mismatch for (\S+): .*?torch\.Size\((\[[^\]]*\]).*?torch\.Size\((\[[^\]]*\])", text, flags=re.DOTALL
    )
    if shape:
        key, found, expected = shape.groups()
        return misfit(
            spec.origin, spec.model, f"'{key}' is {found}; expected {expected}; check --image-size and --encoder"
        )
    first = " ".join(text.split())[:240] or type(error).__name__
    return UserError(f"cannot load {spec.name} from {spec.origin or 'its library'}: {first}")
