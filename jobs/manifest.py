"""ray job submit ... -- python jobs/manifest.py FLAGS: the same as `cbmir manifest FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["manifest", *sys.argv[1:]]))
