"""Answers as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbmir.errors import UserError
from cbmir.querying import answers as of_images
from cbmir.querying import volume_answers
from cbmir.querying.answers import Answer

if TYPE_CHECKING:
    import pandas as pd


def answers_frame(answers: list[Answer], *, of_volumes: bool) -> tuple[pd.DataFrame, str | None]:
    """Answers -> (a row a neighbor, what could not be read in one line); `attrs` has votes and failures, of volumes also left_out.

    UserError where nothing can be read.
    """
    import pandas as pd

    what = "volumes" if of_volumes else "images"
    lacking = _lacking(answers, what)
    frame = pd.DataFrame((volume_answers if of_volumes else of_images).columns(answers))
    frame.attrs["votes"] = {a.name: [[vote.label, vote.share] for vote in a.votes] for a in answers if not a.error}
    frame.attrs["failures"] = {answer.name: answer.error for answer in answers if answer.error}
    if of_volumes:
        frame.attrs["left_out"] = {answer.name: answer.left_out for answer in answers if answer.left_out}
    return frame, lacking


def _lacking(answers: list[Answer], what: str) -> str | None:
    failed = [answer for answer in answers if answer.error]
    first = f"{failed[0].name}: {failed[0].error}" if failed else ""
    if len(failed) == len(answers):
        raise UserError(
            f"none of the {len(answers):,} {what} can be read; the first, {first}"
            if len(answers) > 1
            else f"cannot read {first}"
        )
    if failed:
        return f"{len(failed):,} of {len(answers):,} {what} cannot be read, see attrs['failures']; the first, {first}"
    less = [answer for answer in answers if answer.left_out]
    if less:
        count = sum(len(answer.left_out) for answer in less)
        return f"{count:,} slices are left out, see attrs['left_out']; the first, {less[0].name}: {less[0].left_out[0]}"
    return None
