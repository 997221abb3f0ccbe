"""A small run of scripts/fuzz_readers.py: damaged files end in rows or in one of the errors that are meant."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_readers.py"


def test_damaged_files_neither_crash_nor_hang():
    spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.fuzz(300, seed=7)
    assert found["bad"] == [] and set(found["results"]) == {"rows", "DataError"}
    assert found["results"]["rows"] > 100 and found["results"]["DataError"] > 100
