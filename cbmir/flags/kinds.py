"""Text of a flag -> its value."""

from __future__ import annotations

import argparse
import math

from cbmir.errors import UserError


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def root(text: str) -> tuple[str, str]:
    """'nih14=/data/nih' -> ('nih14', '/data/nih'); '/data' -> ('', '/data')."""
    name, equals, directory = text.partition("=")
    return (name, directory) if equals and directory and "/" not in name else ("", text)


def share(text: str) -> float:
    """'1%' or '0.01' -> 0.01."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.01 or 1%") from None


def ks(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,5,10") from None


def sizes(text: str) -> tuple[int | None, ...]:
    """'1000,4000,all' -> (1000, 4000, None), ascending, each once; None: all there are."""
    try:
        found = {None if part == "all" else int(part.replace("_", "")) for part in text.split(",")}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes such as 1000,4000,all") from None
    return (*sorted(size for size in found if size is not None), *([None] if None in found else []))


def words(text: str) -> tuple[str, ...]:
    """'exact,hnsw' -> ('exact', 'hnsw'), in their order, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def seeds(text: str) -> tuple[int, ...]:
    """'0,1,2' -> (0, 1, 2), in their order, each once."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def window(text: str) -> tuple[float, float]:
    """'40,400' -> (40.0, 400.0): center and width."""
    try:
        center, width = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not CENTER,WIDTH such as 40,400") from None
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: the width of a window is a number above 0")
    return center, width


def weights_flag(pairs: list[str], encoders: list[str]) -> dict[str, str]:
    """['FILE'] -> {'': FILE}; ['NAME=FILE', ...] -> {NAME: FILE}, names being those of --encoder."""
    found: dict[str, str] = {}
    for text in pairs:
        name = next((e for e in sorted(encoders, key=len, reverse=True) if text.startswith(f"{e}=")), "")
        if not name:  # an alias stands for its encoder
            alias, _, rest = text.partition("=")
            name = next((e for e in encoders if rest and e.startswith(f"{alias}=")), "")
            file = rest if name else text
        else:
            file = text[len(name) + 1 :]
        if name in found:
            raise UserError(
                f"--weights given twice for {name or 'the same encoder'}; expected NAME=FILE, once for each"
            )
        found[name] = file
    return found
