"""ray job submit ... -- python jobs/probe.py FLAGS: the same as `cbmir probe FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["probe", *sys.argv[1:]]))
