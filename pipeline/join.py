"""`python -m pipeline.join MACHINE STORE`: give a machine's processes to the stages of a run on machine 0.

Both see the store under the same path. Machine 0 runs `journeyman run` and alone publishes; this one waits for stages
with `runtime.num_machines` above 1, starts its ranks of each, and goes on until it is interrupted.
"""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.manifest import read_json
from pipeline.processes import MEETING, Meeting, start

LOOK = 0.5  # seconds between two looks at the store


def main(machine: int, store: Path) -> None:
    """Join one stage after another; KeyboardInterrupt ends it."""
    print(f"machine {machine} waits for stages in {store}", file=sys.stderr, flush=True)
    seen: set[str] = set()
    while True:
        for file in sorted((store / "work").glob(f"*/{MEETING}")):
            meeting = _at(file)
            if meeting and meeting.number not in seen:
                seen.add(meeting.number)
                _join(machine, file, meeting)
        time.sleep(LOOK)


def _join(machine: int, file: Path, meeting: Meeting) -> None:
    """Be part of one stage until it ends, or until machine 0 has given it up."""
    spec_file = file.with_name("spec.json")
    spec = read_json(spec_file)
    if not 0 < machine < spec["config"]["runtime"]["num_machines"]:
        return
    print(f"machine {machine} joins {spec['stage']} ({spec['id']})", file=sys.stderr, flush=True)
    process = start(spec_file, spec, meeting, machine)
    try:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
            now = _at(file)
            if now != meeting and _left_alone(process):
                break
    finally:
        process.kill()


def _left_alone(process: subprocess.Popen) -> bool:
    """Whether the ranks go on although machine 0 has ended: those of a stage that is over end by themselves."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    return process.poll() is None


def _at(file: Path) -> Meeting | None:
    """Where to meet; None when the stage is over."""
    with suppress(OSError, StoreError):
        return Meeting(**read_json(file))
    return None


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):  # also in the background, where shells have them ignored
        signal.signal(each, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        main(int(sys.argv[1]), Path(sys.argv[2]))
