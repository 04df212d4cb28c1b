"""ray job submit ... -- python jobs/pack.py FLAGS: the same as `cbmir pack FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["pack", *sys.argv[1:]]))
