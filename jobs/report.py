"""ray job submit ... -- python jobs/report.py FLAGS: the same as `cbmir report FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
