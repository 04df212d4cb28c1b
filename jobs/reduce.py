"""ray job submit ... -- python jobs/reduce.py FLAGS: the same as `cbmir reduce FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["reduce", *sys.argv[1:]]))
