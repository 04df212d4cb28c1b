"""ray job submit ... -- python jobs/query.py FLAGS: the same as `cbmir query FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["query", *sys.argv[1:]]))
