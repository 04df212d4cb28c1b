"""ray job submit ... -- python jobs/study_encoders.py FLAGS: the same as `cbmir study encoders FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", "encoders", *sys.argv[1:]]))
