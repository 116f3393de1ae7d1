"""The benchmarks: where clips, masks and texts come from."""
