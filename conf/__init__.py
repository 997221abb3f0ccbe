"""The configuration's values; the types are in pipeline/schema.py."""
