"""ray job submit ... -- python jobs/phantoms.py FLAGS: the same as `cbmir phantoms FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["phantoms", *sys.argv[1:]]))
