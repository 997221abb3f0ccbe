"""One of several processes of a stage, started by `accelerate launch`: spec.json -> Stage.run(Context) -> ranks/N.json.

Rank 0 works in the artifact's own folder and writes to its log. The others write what they publish, and what they say,
to folders of their own, where nobody reads it unless they fail. Hydra is never entered again.
"""

import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.manifest import read_json, write_json
from pipeline.processes import Outcome, die_with_parent, stay_alive
from pipeline.registry import WARM
from pipeline.worker import failure, run_stage, write_to

BETWEEN = ("gloo", "nccl")  # what carries words between ranks, in errors of those that lost one


def main(spec_file: Path, debug: bool) -> int:
    """Run the stage as the rank that the environment names; the exit code."""
    begin, rank = time.time(), int(os.environ["RANK"])
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # it ended before it was asked for its end
        return 1
    stay_alive(spec_file.parent)
    spec, ranks = read_json(spec_file), spec_file.with_name("ranks")
    log = ranks / f"{rank}.txt" if rank else spec_file.with_name("log.txt")
    write_to(log)
    try:
        with suppress(ImportError):
            import_module(f"{spec['module'].partition('.')[0]}.{WARM}")
        metrics, sections = run_stage(_own(spec, ranks, rank), rank)
        outcome = Outcome(begin, time.time(), metrics, sections)
    except BaseException as error:
        outcome = failure(error, begin, log, debug)
        outcome.lost = any(name in str(error).lower() for name in BETWEEN)
    write_json(ranks / f"{rank}.json", vars(outcome))
    return outcome.exit_code


def _own(spec: dict[str, Any], ranks: Path, rank: int) -> dict[str, Any]:
    """The spec of this rank: all but the first have another place for what they would publish, and no tracker."""
    if rank == 0:
        return spec
    (ranks / f"{rank}-out").mkdir()
    return {**spec, "out": str(ranks / f"{rank}-out"), "tracker": {**spec["tracker"], "kind": "none"}}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "debug" in sys.argv[2:]))
