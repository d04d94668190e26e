"""Writes `completions/` from the click tree, the profiles and the ids: `make completions`."""
