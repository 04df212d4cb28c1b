"""ray job submit ... -- python jobs/sql.py FLAGS: the same as `cbmir sql FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["sql", *sys.argv[1:]]))
