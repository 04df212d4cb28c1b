"""ray job submit ... -- python jobs/study_search_effort.py FLAGS: the same as `cbmir study search-effort FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", "search-effort", *sys.argv[1:]]))
