"""Cells of a sweep in processes of their own: shared work once, readable output, failures and interrupts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.display import Screen
from pipeline.launch import Cell, launch, threads
from pipeline.schema import Launcher

HERE = Path(__file__).parent
LOCAL = ["launcher=local", "launcher.workers=2"]


def built(project, stage):
    """How often a stage's process ran, over all ids."""
    return sum(len(file.read_text().splitlines()) for file in (project.store / "work").glob("*/runs.txt"))


def attempts(project, kind):
    return [path.parent.name for path in (project.store / "artifacts" / kind).glob("*/2*")]


# -- what a parallel sweep gives ------------------------------------------------------------------------------------
def test_cells_at_a_time_build_what_they_share_once(journeyman, project):
    swept = journeyman("run", "-m", *LOCAL, "stages.second.train.beta=0.2,0.3,0.4,0.5", "--json")
    assert swept.code == 0 and len(swept.json["runs"]) == 4, swept.err
    assert sorted(attempts(project, "toy")) == sorted(set(attempts(project, "toy")))
    assert len(attempts(project, "toy")) == 5  # first, and second four times
    betas = [run["resolved_config"]["stages"]["second"]["train"]["beta"] for run in swept.json["runs"]]
    assert betas == [0.2, 0.3, 0.4, 0.5]  # in the order of the cells, whichever ended first
    assert len({run["sweep"] for run in swept.json["runs"]}) == 1
    assert len({run["stages"]["first"]["digest"] for run in swept.json["runs"]}) == 1


def test_it_makes_what_one_cell_after_the_other_makes(journeyman):
    def digests(*words):
        found = journeyman("run", "-m", *words, "stages.second.add=1,2,3", "--json").json["runs"]
        return [{name: (s["id"], s["digest"]) for name, s in run["stages"].items()} for run in found]

    assert digests("store.root=one") == digests("store.root=other", *LOCAL)
