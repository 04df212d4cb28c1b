"""ray job submit ... -- python jobs/manifest_check.py FLAGS: the same as `cbmir manifest check FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["manifest", "check", *sys.argv[1:]]))
