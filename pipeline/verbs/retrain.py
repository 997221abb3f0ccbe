"""`journeyman retrain` and `journeyman promote`: one at a time for each experiment, each with a verdict and a page."""

import argparse
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.display import Screen
from pipeline.errors import Busy, ConfigError, JourneymanError
from pipeline.guard import Answer
from pipeline.planned import Planned, announce, opened_folds, plan_of

if TYPE_CHECKING:
    from pipeline.retraining.summary import Outcome
    from pipeline.retraining.triggers import Situation
    from pipeline.store import Store


def retrain(options: argparse.Namespace, screen: Screen) -> Answer:
    """Check, plan, run what changed, judge against the champion, promote or refuse; --dry-run: say what would be."""
    _refuse_choices(options)
    if options.because:
        raise ConfigError("--because: only `promote` takes it; retraining goes by the gates")
    if options.dry_run:
        planned, case = _situation(options)
        return _dry(screen, planned, case.look())
    return _alone(options, screen, lambda planned, case: _retrained(options, screen, planned, case.look()))


def promote(options: argparse.Namespace, screen: Screen) -> Answer:
    """Judge the stage's model as it is in the store, and make it the champion if its gates pass."""
    _refuse_choices(options)
    if options.dry_run:
        raise ConfigError("--dry-run: only `retrain` takes it; `journeyman run` judges without promoting")
    return _alone(options, screen, lambda planned, case: _promoted(options, screen, planned, case.look()))


def _refuse_choices(options: argparse.Namespace) -> None:
    """What is judged and remembered is always the whole experiment."""
    for flag, given in (("--from", options.start), ("--until", options.until), ("--force", options.force)):
        if given:
            raise ConfigError(f"{flag}: `{options.verb}` takes the whole experiment; `journeyman run` takes {flag}")


# -- one at a time ------------------------------------------------------------------------------------------------
def _alone(options: argparse.Namespace, screen: Screen, action: "Callable[[Planned, Situation], Outcome]") -> Answer:
    """The action under the experiment's lock; whatever comes of it, the summary says so."""
    from pipeline.config.load import load
    from pipeline.retraining.state import folder
    from pipeline.retraining.summary import Outcome, write_outcome

    name, store = _named(load(options.overrides, options.config_dir).experiment)
    with _lock(store, name):
        try:
            outcome = action(*_situation(options))
        except JourneymanError as error:
            failed = Outcome(name, "failed", error.exit_code, str(error).splitlines())
            write_outcome(failed, folder(store, name))
            raise
        page = write_outcome(outcome, folder(store, name))
    screen.say(f"summary: {page}")
    return outcome.code, outcome.json()


def _named(experiment: Any) -> "tuple[str, Store]":
    from pathlib import Path

    from pipeline.store import Store

    return experiment.name, Store(Path(experiment.store.root or "store"))


@contextmanager
def _lock(store: "Store", experiment: str) -> Iterator[None]:
    """The only retraining of this experiment in this store; Busy, at once, if another is at it."""
    from pipeline.locks import Lock

    file = store.lock_file(f"retrain-{experiment}")
    lock = Lock.acquire(file)
    if lock is None:
        other = file.read_text().strip() or "another process"
        raise Busy(
            f"{other} retrains {experiment} in this store now and goes on. This command has done nothing; give it "
            "again when the other has ended (`journeyman status` says how far it is)"
        )
    with lock:
        os.ftruncate(lock.handle, 0)
        os.pwrite(lock.handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield


# -- the steps ----------------------------------------------------------------------------------------------------
def _situation(options: argparse.Namespace) -> "tuple[Planned, Situation]":
    """The plan with gates against the champion, and where things stand."""
    from pipeline.planner import make_plan
    from pipeline.retraining.candidate import add_gates, champion_pin, promoted_stage
    from pipeline.retraining.state import read_state
    from pipeline.retraining.triggers import Situation

    loaded, store, plan = plan_of(options, options.overrides)
    if opened := opened_folds((loaded, store, plan)):
        raise ConfigError(
            f"data.{next(iter(opened))}.split.fold: one model is promoted, so give the fold it is made with"
        )
    stage = promoted_stage(plan, options.names[0] if options.names else None)
    if added := add_gates(loaded, plan, stage):
        loaded.chosen.append(f"gates against the champion on every suite of {stage}: {len(added)} (docs/retraining.md)")
        plan = make_plan(loaded.experiment, store, remote=plan.remote)
    champion = store.pinned(champion_pin(plan.experiment.name))
    state = read_state(store, plan.experiment.name)
    return (loaded, store, plan), Situation(plan, store, stage, champion, state)


def _dry(screen: Screen, planned: Planned, case: "Situation") -> Answer:
    from pipeline.retraining.state import model

    announce(screen, *planned)
    _tell(screen, case)
    building = [node.name for node in case.plan.to_build]
    acts = bool(case.fired) and not case.settled
    screen.say(
        f"would train: {', '.join(building) or 'nothing, only judge'}" if acts
        else "would do nothing: judged already" if case.settled else "would do nothing: no trigger fires"
    )  # fmt: skip
    document = {
        "experiment": case.plan.experiment.name, "stage": case.stage, "champion": model(case.store, case.champion),
        "triggers": [vars(trigger) for trigger in case.triggers], "acts": acts, "builds": building if acts else [],
    }  # fmt: skip
    return 0, document


def _tell(screen: Screen, case: "Situation") -> None:
    if case.triggers:
        screen.rows([(one.name, "fires" if one.fired else "waits", one.said) for one in case.triggers])


def _retrained(options: argparse.Namespace, screen: Screen, planned: Planned, case: "Situation") -> "Outcome":
    from pipeline.retraining.summary import Outcome

    if case.settled:
        return _nothing_new(screen, case)
    _tell(screen, case)
    if not case.fired:
        sentence = "No trigger fires, so nothing is trained and the champion stays."
        screen.say(sentence)
        return Outcome(case.plan.experiment.name, "waiting", 0, [sentence], case.triggers)
    return _judged(options, screen, planned, case)


def _nothing_new(screen: Screen, case: "Situation") -> "Outcome":
    """The same question gets the same answer, at once: a refused model stays refused."""
    from pipeline.retraining.state import model
    from pipeline.retraining.summary import Outcome

    state = case.state
    assert state is not None
    sentences = [f"Nothing new since {state.judged[:16]}, when {state.stage} was judged: {state.verdict}."]
    sentences += state.refused_by if state.verdict == "refused" else []
    sentences += [f"{one.name}: {one.said}; but there is nothing new to train on" for one in case.fired]
    for sentence in sentences:
        screen.say(sentence)
    code = 3 if state.verdict == "refused" else 0
    champion = model(case.store, case.champion)
    return Outcome(
        case.plan.experiment.name, "nothing new", code, sentences, case.triggers, state.candidate, champion
    )  # fmt: skip


def _promoted(options: argparse.Namespace, screen: Screen, planned: Planned, case: "Situation") -> "Outcome":
    """As after a retraining that had nothing to build."""
    if case.plan.to_build:
        names = ", ".join(node.name for node in case.plan.to_build)
        raise ConfigError(
            f"not built yet: {names}. `promote` judges what is in the store; `journeyman retrain` builds and promotes"
        )
    return _judged(options, screen, planned, case)


def _judged(options: argparse.Namespace, screen: Screen, planned: Planned, case: "Situation") -> "Outcome":
    """Run, judge, promote or refuse, and remember it."""
    from pipeline.retraining.state import model, write_state
    from pipeline.retraining.summary import Outcome
    from pipeline.runner import Run, execute

    loaded, store, plan = planned
    announce(screen, loaded, store, plan)
    run = Run(plan, store, loaded, screen, options.debug, options.begin)
    code = execute(run)
    before = model(store, case.champion)
    outcome = Outcome(plan.experiment.name, "failed", code, [], case.triggers, None, before, run.record)
    if code in (0, 3):
        refused = _decide(outcome, case, options.because)
        outcome.sentences = _verdict(outcome, case, refused, options.because)
        write_state(store, outcome.experiment, _state(case, outcome, refused, options.because))
    else:
        outcome.sentences = _failure(run)
    for sentence in outcome.sentences:
        screen.say(sentence)
    return outcome


def _decide(outcome: "Outcome", case: "Situation", because: str | None) -> list[str]:
    """Set the verdict, promoting where that is what it is; returns what speaks against the model."""
    from pipeline.retraining import candidate
    from pipeline.retraining.state import model

    assert outcome.record is not None
    entry, made = outcome.record["stages"][case.stage], case.plan.nodes[case.stage].stored
    refused = candidate.refusals(case.plan, case.stage, outcome.record)
    if entry["path"] is None or made is None:
        outcome.verdict, outcome.code = "refused", 3
        return refused or [f"{case.stage} was not built: {entry['reason']}"]
    outcome.candidate = model(case.store, made)
    if refused and not because:
        outcome.verdict, outcome.code = "refused", 3
    elif case.champion and made.path == case.champion.path:
        outcome.verdict, outcome.code = "kept", 0
    else:
        candidate.promote(case.store, outcome.experiment, made, case.champion)
        outcome.verdict, outcome.code = "promoted", 0
    return refused


def _failure(run: Any) -> list[str]:
    failed = [
        f"{name}: {stage['reason']}" for name, stage in run.record["stages"].items() if stage["status"] == "FAILED"
    ]
    return ["Nothing was judged, the champion stays.", *(run.broken or failed)]


def _verdict(outcome: "Outcome", case: "Situation", refused: list[str], because: str | None) -> list[str]:
    pin, stage, before = f"{outcome.experiment}-champion", case.stage, outcome.champion
    if outcome.verdict == "refused":
        stays = f"the champion stays {before['id']}" if before else "there is still no champion"
        return [f"{stage} is refused, {stays}.", *refused]
    made = outcome.candidate
    assert made is not None
    if outcome.verdict == "kept":
        return [f"{stage} {made['id']} is the champion already, and passes its gates."]
    after = f"after {before['id']}, which is {outcome.experiment}-previous now" if before else "the first one"
    told = [f"{stage} {made['id']} is the champion ({pin}), {after}."]
    return told + ([f"Promoted by a person because: {because}.", *refused] if refused else [])


def _state(case: "Situation", outcome: "Outcome", refused: list[str], because: str | None) -> Any:
    from pipeline.manifest import now
    from pipeline.retraining.state import State, gates_digest, marks

    assert outcome.record is not None
    return State(
        now(), outcome.verdict, case.stage, outcome.candidate, outcome.champion,
        refused if outcome.verdict == "refused" else [], f"runs/{outcome.experiment}/{outcome.record['run_id']}",
        because if refused else None, marks(case.plan), gates_digest(case.plan.experiment), case.rows,
    )  # fmt: skip
