"""The grammar of encoder names: [alias=]NAME[,option=value...][@size][~pxN][~randomSEED]."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from cbmir.errors import UserError

DETAIL = "~px"


@dataclass(frozen=True)
class ParsedName:
    """A name taken apart: [alias=]base[,option=value...][@size][~pxN][~randomSEED]."""

    base: str
    alias: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    random_seed: int | None = None
    detail: int | None = None  # pixels a side that are left of each image before anything else

    @property
    def canonical(self) -> str:
        """The name in a study: the alias, or the parts in their fixed order; detail and random weights always show in it."""
        return f"{self.alias}{self._ends}" if self.alias else self._parts(self.base)

    def in_full(self, base: str) -> str:
        """Alias and parts, with `base` in place of its own."""
        return f"{self.alias}={self._parts(base)}" if self.alias else self._parts(base)

    def _parts(self, base: str) -> str:
        options = "".join(f",{key}={_text(value)}" for key, value in sorted(self.options.items()))
        size = f"@{self.size}" if self.size else ""
        return f"{base}{options}{size}{self._ends}"

    @property
    def _ends(self) -> str:
        detail = f"{DETAIL}{self.detail}" if self.detail else ""
        return detail + (f"~random{self.random_seed}" if self.random_seed is not None else "")


_NAME = re.compile(
    r"^(?:(?P<alias>[A-Za-z0-9._-]+)=)?(?P<base>[^,@~=]+(?:@(?!\d+(?:[~@,]|$))[^,@~=]+)?)(?P<options>(?:,[A-Za-z_]\w*=[^,@~]+)*)"
    r"(?:@(?P<size>[1-9]\d*))?(?:~px(?P<detail>[1-9]\d*))?(?:~random(?P<seed>\d+))?$"
)


def parse_name(name: str) -> ParsedName:
    """'m=timm:vit_base_patch16_224,pool_type=avg@64~random0' -> its parts; UserError where it does not fit."""
    match = _NAME.match(name.strip())
    if not match:
        raise UserError(
            f"encoder name {name!r} does not parse; expected [alias=]NAME[,option=value...][@size][~pxN][~randomSEED], "
            "as in timm:mobilenetv2_100,pad_type=same@128; see cbmir encoders"
        )
    options = {}
    for pair in filter(None, match["options"].split(",")):
        key, _, text = pair.partition("=")
        options[key] = _value(text)
    number = {key: int(match[key]) if match[key] else None for key in ("size", "detail", "seed")}
    return ParsedName(match["base"], match["alias"], options, number["size"], number["seed"], number["detail"])


def detailed(name: str, pixels: int) -> str:
    """'m=vit@64~random0', 28 -> 'm=vit@64~px28~random0'; UserError for a name that says its detail already."""
    parsed = parse_name(name)
    if parsed.detail is not None:
        raise UserError(
            f"encoder {name} says {DETAIL}{parsed.detail} itself; expected a name without it; leave it away"
        )
    return replace(parsed, detail=pixels).in_full(parsed.base)


def without_detail(name: str) -> str:
    """'vit@64~px28~random0' -> 'vit@64~random0': the name of the same encoder for images as they are."""
    return re.sub(rf"{DETAIL}[1-9]\d*(?=~random\d+$|$)", "", name)


def _value(text: str) -> Any:
    """'3' -> 3, 'true' or 'True' -> True, '0.5' -> 0.5, else the text; `_text` is its inverse."""
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return text if isinstance(value, str) else value


def _text(value: Any) -> str:
    known = (
        _value(value) if isinstance(value, str) else value
    )  # a text that reads as a number is written as that number: '-0' as 0
    return known if isinstance(known, str) else json.dumps(known)
