"""What can be wrong with one image."""


class ImageError(ValueError):
    """One image cannot be had; `stage` is 'read' (bytes not there) or 'decode' (bytes are no image)."""

    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(" ".join(message.split()))
        self.stage = stage

    def __reduce__(self):  # keyword-only arguments do not survive pickling between processes by themselves
        return (_rebuild, (str(self), self.stage))


def _rebuild(message: str, stage: str) -> ImageError:
    return ImageError(message, stage=stage)
