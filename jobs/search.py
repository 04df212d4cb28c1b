"""ray job submit ... -- python jobs/search.py FLAGS: the same as `cbmir search FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["search", *sys.argv[1:]]))
