"""Speed and memory of the whole product, measured as ratios within one run: `make bench`."""
