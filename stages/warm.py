"""Imported once by the server from which stage processes are forked: what nearly every stage needs, so that none waits for it."""

import importlib
from contextlib import suppress

for name in ("torch", "transformers", "peft", "datasets", "trl"):
    with suppress(ImportError):
        importlib.import_module(name)
