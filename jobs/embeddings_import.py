"""ray job submit ... -- python jobs/embeddings_import.py FLAGS: the same as `cbmir embeddings import FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["embeddings", "import", *sys.argv[1:]]))
