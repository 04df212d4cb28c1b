"""`python -m cbmir` is `cbmir`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main())
