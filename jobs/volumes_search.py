"""ray job submit ... -- python jobs/volumes_search.py FLAGS: the same as `cbmir volumes search FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["volumes", "search", *sys.argv[1:]]))
