"""ray job submit ... -- python jobs/evaluate.py FLAGS: the same as `cbmir evaluate FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
