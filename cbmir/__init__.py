"""cbmir: content-based medical image retrieval, from images to P@k per pathology."""

__version__ = "0.1.0"
