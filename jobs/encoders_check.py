"""ray job submit ... -- python jobs/encoders_check.py FLAGS: the same as `cbmir encoders check FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["encoders", "check", *sys.argv[1:]]))
