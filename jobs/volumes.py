"""ray job submit ... -- python jobs/volumes.py FLAGS: the same as `cbmir volumes FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["volumes", *sys.argv[1:]]))
