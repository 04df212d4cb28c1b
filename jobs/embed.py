"""ray job submit ... -- python jobs/embed.py FLAGS: the same as `cbmir embed FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:]]))
