"""The one exception that people are meant to read."""


class UserError(ValueError):
    """Misuse that the caller can mend; the command line prints its one line and exits with `exit_code`.

    The message says what was found, what was expected, and what to do.
    """

    exit_code = 2


class TooManyFailures(UserError):
    """The stage finished and kept what succeeded, but more images failed than the caller allows."""

    exit_code = 3


def refuse_many_failures(what: str, failed: int, total: int, allowed: float, *, see: str) -> None:
    """TooManyFailures where more than a share of `allowed` failed; `see`: the view that says why."""
    share = failed / max(1, total)
    if share > allowed:
        raise TooManyFailures(
            f"{what}: {failed:,} of {total:,} images failed ({share:.1%}), more than --max-failures {allowed:.1%}; what succeeded is kept; "
            f'see: cbmir sql --study DIR "SELECT error, count(*) FROM {see} GROUP BY 1"'
        )


def nearest(found: str, expected: list[str], *, most: int = 3) -> str:
    """'busii', ['busi', 'nih'] -> "nearest: 'busi'"; '' where nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(found, expected, n=most, cutoff=0.5)
    return f"nearest: {', '.join(repr(name) for name in near)}" if near else ""
