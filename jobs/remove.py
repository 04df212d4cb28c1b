"""ray job submit ... -- python jobs/remove.py FLAGS: the same as `cbmir remove FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["remove", *sys.argv[1:]]))
