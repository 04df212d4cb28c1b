"""Parts of the index."""
