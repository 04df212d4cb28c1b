"""What stands behind '#' in an address."""

from __future__ import annotations

from cbmir.images.errors import ImageError


def number(part: dict[str, str], name: str, default: int | None = None) -> int:
    """The whole number that a part is; `default` where it is not given."""
    text = part.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ImageError(f"{name}={text}; expected a whole number", stage="read") from None


def refuse_others(part: dict[str, str], known: set[str], what: str) -> None:
    """ImageError for a part that this kind of file does not have."""
    others = sorted(part.keys() - known)
    if others:
        expected = ", ".join(sorted(known)) or "none"
        raise ImageError(f"{what} has no part '{others[0]}'; its parts: {expected}", stage="read")
