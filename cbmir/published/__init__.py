"""Published vectors: a file of any layout -> batches of keys and vectors."""
