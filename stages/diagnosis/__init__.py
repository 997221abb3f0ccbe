"""Diagnosis of a measured model: which slices fail, and whether more data or other data would help. Pure functions."""
