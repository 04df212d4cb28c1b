"""ray job submit ... -- python jobs/study_image_size.py FLAGS: the same as `cbmir study image-size FLAGS`."""

import sys

from cbmir.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", "image-size", *sys.argv[1:]]))
