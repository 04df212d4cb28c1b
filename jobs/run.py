"""ray job submit ... -- python jobs/run.py FLAGS: the same as `cbmir run FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
