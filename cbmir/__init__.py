"""cbmir: content-based medical image retrieval, from images to P@k per pathology."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cbmir.study import Study

__version__ = "0.1.0"
__all__ = ["Study"]


def __getattr__(name: str):
    """`from cbmir import Study`, imported when it is asked for: the stages' workers need none of it."""
    if name == "Study":
        from cbmir.study import Study

        return Study
    raise AttributeError(f"module 'cbmir' has no attribute {name!r}")
