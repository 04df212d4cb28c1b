"""ray job submit ... -- python jobs/encoders.py FLAGS: the same as `cbmir encoders FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["encoders", *sys.argv[1:]]))
