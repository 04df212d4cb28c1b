"""What can be wrong with one image."""


class ImageError(ValueError):
    """One image cannot be had; `stage` is 'read' (bytes not there) or 'decode' (bytes are no image)."""

    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(" ".join(message.split()))
        self.stage = stage

    def __reduce__(self):  # keyword-only arguments do not survive pickling between processes by themselves
        return (_rebuild, (str(self), self.stage))


# what one image that cannot be had raises: e.g. a resize to nothing of an image one pixel high is a ValueError of Pillow's
OF_ONE_IMAGE = (ImageError, ValueError, OSError, MemoryError)


def verdict(error: Exception) -> tuple[str, str]:
    """One of OF_ONE_IMAGE -> (stage, one line of at most 500 letters), as a row of failures has it."""
    if isinstance(error, ImageError):
        return error.stage, str(error)[:500]
    return "decode", f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _rebuild(message: str, stage: str) -> ImageError:
    return ImageError(message, stage=stage)
