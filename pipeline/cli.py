"""The command `journeyman`. Stage processes import this module again, so what a verb needs is imported by the verb."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from pipeline.display import Screen
from pipeline.guard import Answer, guarded, interrupt
from pipeline.redaction import redacted
from pipeline.verbs.adopt import adopt
from pipeline.verbs.compare import compare
from pipeline.verbs.data import data
from pipeline.verbs.eval import evaluation
from pipeline.verbs.explain import explain
from pipeline.verbs.gc import gc
from pipeline.verbs.pins import pins
from pipeline.verbs.plan import plan
from pipeline.verbs.remote import pull, push
from pipeline.verbs.retrain import promote, retrain
from pipeline.verbs.run import run
from pipeline.verbs.show import show
from pipeline.verbs.status import status
from pipeline.verbs.store import store

ANY = sys.maxsize
# How many names a verb takes at most.
NAMES = {"explain": 1, "show": 1, "pins": 3, "data": 2, "eval": 2, "store": 1, "promote": 1, "adopt": 1, "pull": 1}
NAMES |= {"compare": ANY, "push": ANY}

USAGE = """journeyman VERB [overrides...] [options]

  run       build what is not built yet, judge the gates, write the report   (-m: a sweep)
  plan      what `run` would do, and why
  status    the same with what is in the store (--check hashes every file of it; --follow watches the run under way)
  explain   STAGE: which change makes it run again
  show      [STAGE]: the chain as a tree, or what is known of one artifact (--lineage json|mermaid)
  compare   A B ...: models side by side, by run, experiment[:STAGE], pin or id (--rank SUITE, --out FILE.html)
  data      check: what the contracts of an experiment's data find, before anything is trained
            inspect FILE: what becomes of a file's rows, before it is in any experiment
  eval      diagnose [STAGE]: which slices fail, and would more or other data help (--no-training: from what is built)
  retrain   check, plan, run what changed, judge against the champion, promote or refuse (--dry-run: what asks for it)
  promote   [STAGE]: make a model that is in the store the champion, if its gates pass (--because "why": even if not)
  pins      [set NAME STAGE-OR-ID | rm NAME]: names that keep artifacts
  adopt     FOLDER: a PEFT adapter or a model that was made elsewhere becomes an artifact (--as STAGE names it)
  store     fsck: hash everything that is published (--repair mends what needs no building)
  push      [STAGE ...]: send what is built to store.remote (--dry-run only lists, --check hashes what is there)
  pull      [ID]: fetch what store.remote has of an experiment, or an artifact with all that it was made from
  gc        what nothing needs any more (--apply moves it to the trash)

Overrides are Hydra's: experiment=legal stages.dpo.train.beta=0.2 budget=smoke store.root=FOLDER"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message on stderr."""
    options = _parse(list(sys.argv[1:] if argv is None else argv))
    options.begin, options.sweep, options.threads, options.gpu = time.time(), None, 0, None
    screen = Screen(options.json)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        code, document = guarded(options, screen, lambda: VERBS[options.verb](options, screen))
    finally:
        signal.signal(signal.SIGTERM, before)
    if options.json:
        print(json.dumps(redacted(document), indent=1))
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (`journeyman --help` shows what there is)\n")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser("journeyman", usage=USAGE)
    add = parser.add_argument
    add("verb", metavar="VERB", nargs="?")
    add("words", nargs="*", metavar="override")
    add("--from", dest="start", metavar="STAGE", help="rebuild this stage and all below it")
    add("--until", metavar="STAGE", help="only this stage and what it needs")
    add("--force", action="append", default=[], metavar="STAGE", help="rebuild this stage (may be repeated)")
    add("-m", "--multirun", action="store_true", help="sweep over values with commas")
    add(
        "-cd", "--config-dir", action="append", default=[], metavar="DIR", help="look here too for experiment/NAME.yaml"
    )
    add("--json", action="store_true", help="one JSON document on stdout, nothing else")
    add("--debug", action="store_true", help="show tracebacks")
    add("--as", dest="stage_name", default="adopted", metavar="STAGE", help="adopt: the stage that an adapter becomes")
    add("--check", action="store_true", help="status, push: hash every file of what is shown")
    add("--follow", action="store_true", help="status: watch the run that is under way until it ends")
    add("--lineage", choices=("json", "mermaid"), help="show STAGE: all that it was made from, as data or as a graph")
    add("--repair", action="store_true", help="store fsck: mend what needs no building")
    add("--apply", action="store_true", help="gc: really move to the trash")
    add("--out", metavar="FILE", help="compare: write an HTML page")
    add("--rank", metavar="SUITE", help="compare: the best on this suite first; with one run, of its whole multirun")
    add("--no-training", action="store_true", help="eval diagnose: no models on less data, only those in the store")
    add("--days", type=float, default=14.0, help="gc: keep what runs of this many days used")
    add("--dry-run", action="store_true", help="retrain, push, pull: say what would be done, do nothing")
    add("--because", metavar="WHY", help="promote: whatever the gates say; the reason is kept")
    options = parser.parse_intermixed_args(argv)
    if options.verb is None:
        parser.exit(2, USAGE + "\n")
    if options.verb not in VERBS:
        near = get_close_matches(options.verb, VERBS, 1)
        parser.error(f"there is no verb '{options.verb}'" + (f", did you mean '{near[0]}'?" if near else ""))
    options.names = [word for word in options.words if "=" not in word and not word.startswith("~")]
    options.overrides = [word for word in options.words if word not in options.names]
    most = NAMES.get(options.verb, 0)
    if len(options.names) > most:
        word = options.names[most]
        parser.error(f"'{word}' is no override, which looks like key=value; --from, --until and --force choose stages")
    return options


VERBS: dict[str, Callable[[argparse.Namespace, Screen], Answer]] = {
    "run": run,
    "plan": plan,
    "status": status,
    "explain": explain,
    "show": show,
    "compare": compare,
    "data": data,
    "eval": evaluation,
    "retrain": retrain,
    "promote": promote,
    "pins": pins,
    "adopt": adopt,
    "store": store,
    "push": push,
    "pull": pull,
    "gc": gc,
}
