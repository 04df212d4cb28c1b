"""ray job submit ... -- python jobs/study_index_size.py FLAGS: the same as `cbmir study index-size FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", "index-size", *sys.argv[1:]]))
