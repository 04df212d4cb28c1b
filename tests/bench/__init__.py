"""Speed and memory, side by side in one run: `make bench`. Prints ratios; nothing here is a test."""
