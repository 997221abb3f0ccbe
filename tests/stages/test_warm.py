"""The server from which stages are forked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_ends_without_a_word():
    """It outlives the command by a moment, so what a library complained of at its end would follow the report's path.

    Takes as long as importing all that stages need.
    """
    ended = subprocess.run([sys.executable, "-c", "import stages.warm"], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
