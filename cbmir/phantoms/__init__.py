"""A seeded collection of procedurally drawn, radiology-like images: something to retrieve where no data may travel.

A region is a global shape and a finding a local change, so that anatomy is easy to retrieve and pathology hard.
No patient is behind any of them, and figures measured on them say nothing about real retrieval quality.
"""

from cbmir.phantoms.collection import draw_collection

__all__ = ["draw_collection"]
