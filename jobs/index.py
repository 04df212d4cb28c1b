"""ray job submit ... -- python jobs/index.py FLAGS: the same as `cbmir index FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", *sys.argv[1:]]))
