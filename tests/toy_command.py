"""The command `journeyman` with the toy kinds, as a process of its own."""

import sys

import toy_stages  # noqa: F401  registers the kinds

import pipeline.registry
from pipeline.cli import main

if __name__ == "__main__":
    pipeline.registry.entry_points = lambda group: []
    sys.exit(main())
