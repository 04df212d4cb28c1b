"""ray job submit ... -- python jobs/volumes_run.py FLAGS: the same as `cbmir volumes run FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["volumes", "run", *sys.argv[1:]]))
