"""ray job submit ... -- python jobs/encoders_fetch.py FLAGS: the same as `cbmir encoders fetch FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["encoders", "fetch", *sys.argv[1:]]))
