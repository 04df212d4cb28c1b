"""Content-based medical image retrieval."""
