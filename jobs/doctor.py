"""ray job submit ... -- python jobs/doctor.py FLAGS: the same as `cbmir doctor FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
