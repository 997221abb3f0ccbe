"""Executes a plan: nodes from the store or from child processes, gates after each evaluation, the run's record."""

import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.checkpoints import boot, checkpoint_step, drop, drop_torn_checkpoints, drop_unsealed
from pipeline.children import run_build, run_validate, warm
from pipeline.config.load import Loaded
from pipeline.context import Artifact
from pipeline.disk import FULL, mounts, shared_warning, unwritable
from pipeline.display import Screen, sentence
from pipeline.errors import DataError, GateRefused, JourneymanError, StageFailed, StoreError
from pipeline.fingerprint import digest_code, save_cache
from pipeline.folds import kfold
from pipeline.judging.run import conclude, judge_ready
from pipeline.locks import Lock
from pipeline.manifest import SCHEMA, command_line, environment, now, read_json, write_json
from pipeline.node import Node, above, located, where
from pipeline.planner import Plan, inputs_of, on_remote, stale_roles
from pipeline.processes import Outcome, wait_for_ranks
from pipeline.redaction import redacted
from pipeline.store import Store, Stored, digests
from pipeline.trackers import require as require_tracker
from pipeline.worker import Request


@dataclass
class Run:
    """One execution: what it works on, and `record`, which is run.json."""

    plan: Plan
    store: Store
    loaded: Loaded
    screen: Screen
    debug: bool = False
    begin: float = field(default_factory=time.time)
    folder: Path = Path()
    record: dict[str, Any] = field(default_factory=dict)
    children: float = 0.0  # seconds that stages worked
    sweep: str | None = None  # the same in all runs of one multirun
    threads: int = 0  # CPU threads of a stage that leaves its own number open; 0 = one for each core
    gpu: str | None = None  # the only one that its stages may see
    blocked: dict[str, str] = field(default_factory=dict)  # node -> why it is not built
    broken: list[str] = field(default_factory=list)  # what the checks of the data found to be wrong

    def save(self) -> None:
        """Write run.json anew; called after every stage, so that a crash leaves an honest one."""
        self.record["seconds"] = round(time.time() - self.begin, 3)
        self.record["engine_seconds"] = round(self.record["seconds"] - self.children, 3)
        write_json(self.folder / "run.json", redacted(self.record))


def execute(run: Run) -> int:
    """Build what the plan says and return the exit code; run.json and the report are written in any case."""
    check_configs(run.plan)
    run.store.prepare()
    if warning := shared_warning(run.store.root, mounts()):
        run.screen.say(warning)
    _fetch(run)
    run.folder = run.store.new_run(run.plan.experiment.name)
    run.record = _new_record(run)
    run.save()
    run.store.make_latest(run.folder)
    error: BaseException | None = None
    try:
        _build_all(run)
    except (JourneymanError, KeyboardInterrupt) as caught:
        error = caught
    code = _finish(run, error)
    if code != 130:
        _mirror(run)
    return code


def check_data(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Build the data sets and their checks alone; check -> its findings. No run is recorded, nothing is trained."""
    nodes = run.plan.nodes
    needed = {name for check in nodes if check.startswith("check_") for name in above(check, nodes)}
    run.plan = replace(run.plan, nodes={name: node for name, node in nodes.items() if name in needed})
    check_configs(run.plan)
    run.store.prepare()
    _fetch(run)
    for node in run.plan.nodes.values():
        try:
            node.stored, status, _, seconds = _obtain(run, node)
        except (JourneymanError, OSError) as error:
            raise _named(error, node) from error
        if status != "HIT":
            run.screen.stage(node.name, {"status": status, "seconds": seconds}, node.stored.manifest["metrics"])
    checks = [node for node in run.plan.nodes.values() if node.name.startswith("check_")]
    return {node.name: node.stored.manifest["findings"] for node in checks}  # type: ignore[union-attr]


def check_configs(plan: Plan) -> None:
    """`Stage.validate` of everything that must be built, in one child; all complaints at once."""
    nodes = plan.to_build
    if not nodes:
        return
    if any(node.kind.stage.produces in ("model", "reward") for node in nodes):
        require_tracker(plan.experiment.tracker)
    warm(node.kind.stage.__module__ for node in nodes)
    run_validate(
        [Request(where(node), node.kind.stage.__module__, node.kind.name, asdict(node.config)) for node in nodes]
    )


def _new_record(run: Run) -> dict[str, Any]:
    stages = {}
    for node in run.plan.nodes.values():
        stages[node.name] = {
            "kind": node.kind.name,
            "id": node.id,
            "attempt": None,
            "digest": None,
            "status": node.status if node.stored else "SKIPPED",
            "reason": node.reason if node.stored else "not reached",
            "path": None,
            "seconds": 0.0,
            "produces": node.kind.stage.produces,
            **(_place(run, node.stored) if node.stored else {}),  # at once, so that gc keeps what this run will read
        }
    return {
        "run_id": run.folder.name,
        "experiment": run.plan.experiment.name,
        "overrides": run.loaded.overrides,
        "sweep": run.sweep,
        "resolved_config": run.loaded.resolved,
        "folds": kfold(run.plan.experiment),
        "process": {"host": socket.gethostname(), "pid": os.getpid()},
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "engine_seconds": 0.0,
        "exit": None,
        "stages": stages,
        "gates": [],
    }


def _place(run: Run, stored: Stored) -> dict[str, str]:
    return {"attempt": stored.attempt, "digest": stored.digest, "path": run.store.relative(stored.path)}


def _finish(run: Run, error: BaseException | None) -> int:
    code = 0 if error is None else error.exit_code if isinstance(error, JourneymanError) else 130
    run.record.update(exit=code, finished=now())
    save_cache()
    try:
        run.save()
        conclude(run)
        _report(run)
        run.save()  # with the report's own seconds
    except OSError as failure:
        error, code = error or StoreError(unwritable(failure, run.store.root)), code or 5
    if error is not None:
        run.screen.error("interrupted; the same command continues" if code == 130 else str(error))
    return code


def _report(run: Run) -> None:
    from pipeline.report import write_report  # templates and plots are needed only here

    try:
        page = write_report(run.folder, run.store.root)
    except Exception as error:  # a page that cannot be drawn must not cost the run
        if run.debug or (isinstance(error, OSError) and error.errno in FULL):
            raise
        run.screen.say(f"the report could not be written: {type(error).__name__}: {error} (--debug shows where)")
        return
    run.screen.say(f"report: {page}")


# -- the remote ---------------------------------------------------------------------------------------------------
def _fetch(run: Run) -> None:
    """Download what the plan takes from the remote, before anything is built; StoreError if it is not whole there."""
    if run.plan.remote is None:
        return
    from pipeline.remote import fetch

    for node in run.plan.nodes.values():
        if node.stored and not node.stored.path.is_dir():
            node.stored = fetch(run.plan.remote, run.store, node.stored, run.screen.say)


def _mirror(run: Run) -> None:
    """Push what the run has used or made, if the experiment wants it; a failure of that does not fail the run."""
    if run.plan.remote is None or not run.plan.experiment.store.push:
        return
    from pipeline.remote import push_all

    entries = run.record["stages"].values()
    try:
        found = [run.store.read(run.store.root / entry["path"]) for entry in entries if entry["path"]]
        push_all(run.plan.remote, run.store, found, run.screen.say)
    except (StoreError, OSError) as error:
        run.screen.error(f"not everything was pushed; `journeyman push` with the same overrides does it later: {error}")


# -- nodes --------------------------------------------------------------------------------------------------------
def _build_all(run: Run) -> None:
    for node in run.plan.nodes.values():
        made = node.kind.stage.produces
        if run.broken and made in ("model", "prompted", "reward", "results") and node.name != "base":
            break  # every check has spoken by now
        stopped = [
            run.blocked[name] for name in above(node.name, run.plan.nodes) if name in run.blocked and name != node.name
        ]
        if stopped:
            run.record["stages"][node.name].update(
                status="GATED", reason=stopped[0], attempt=None, digest=None, path=None
            )
            continue
        if node.status != "HIT":
            run.save()  # what was found ready until here, once for all of it
        try:
            stored, status, reason, seconds = _obtain(run, node)
        except (JourneymanError, OSError, KeyboardInterrupt) as error:
            known = StoreError(unwritable(error, run.store.root)) if isinstance(error, OSError) else error
            text = str(known) or "interrupted"
            run.record["stages"][node.name].update(status="FAILED", reason=text)
            raise _named(known, node) from error
        _note(run, node, stored, status, reason, seconds)
        if node.name.startswith("eval_"):
            judge_ready(run, node)
        if node.name.startswith("check_"):
            _hear(run, node)
    if run.broken:
        raise DataError("\n".join(run.broken))
    if run.blocked:
        raise GateRefused("; ".join(dict.fromkeys(run.blocked.values())))


def _hear(run: Run, node: Node) -> None:
    """Say what a check of the data found; its errors end the run before the first stage is trained."""
    findings = node.stored.manifest["findings"]  # type: ignore[union-attr]
    run.broken += [f"{node.name}: {sentence(finding)}" for finding in findings if finding["level"] == "error"]
    if run.record["stages"][node.name]["status"] == "HIT":
        return
    for finding in findings:
        if finding["level"] == "warning":
            run.screen.say(f"  warning: {sentence(finding)}")
    noted = [finding["code"] for finding in findings if finding["level"] == "info"]
    if noted:
        run.screen.say(f"  {len(noted)} notes, told by `journeyman data check`: {', '.join(dict.fromkeys(noted))}")


def _named(error: BaseException, node: Node) -> BaseException:
    """The same error with the stage's name in front."""
    return type(error)(located(where(node), str(error))) if isinstance(error, JourneymanError) else error


def _note(run: Run, node: Node, stored: Stored, status: str, reason: str, seconds: float) -> None:
    node.stored = stored
    entry = run.record["stages"][node.name]
    entry.update(status=status, reason=reason, seconds=round(seconds, 3), **_place(run, stored))
    if status != "HIT":
        run.save()
    if node.status != "HIT":
        run.screen.stage(node.name, entry, {} if status == "HIT" else stored.manifest["metrics"])


def _obtain(run: Run, node: Node) -> tuple[Stored, str, str, float]:
    """The node's artifact: (stored, HIT | BUILT | RESUMED, reason, seconds)."""
    if node.status == "HIT" and node.stored:
        return node.stored, "HIT", node.reason, 0.0
    begin = time.time()
    lock = run.store.lock(node.id, lambda: run.screen.say(f"  waiting: another process builds {node.name} ({node.id})"))
    assert lock is not None
    with lock:
        found, reason = _made_meanwhile(run, node)
        if found:
            return found, "HIT", reason, time.time() - begin
        stored, resumed = _build(run, node, lock)
    return stored, "RESUMED" if resumed else "BUILT", node.reason, time.time() - begin


def _made_meanwhile(run: Run, node: Node) -> tuple[Stored | None, str]:
    """Under the lock: an artifact that is up to date after all."""
    stored = run.store.current(node.kind.name, node.id)
    if node.forced and not (stored and run.sweep and stored.manifest.get("sweep") == run.sweep):
        return None, ""  # but what another cell of this sweep has forced is not forced again
    if stored and not stale_roles(node, run.plan.nodes, stored):
        run.store.verify(stored, full=False, name=node.name)
        return stored, "its inputs came out the same" if node.reason.startswith(
            ("input", "data set")
        ) else "built by another run"
    stored = run.store.orphan(node.kind.name, node.id, inputs_of(node, run.plan.nodes))
    if stored:
        run.store.make_current(stored)
        return stored, "finished by an earlier run that was stopped while publishing"
    remote = run.plan.remote
    if remote and not node.forced and (found := on_remote(node, run.plan.nodes, run.store, remote)):
        return remote.pull(run.store, found), f"from {remote.url}"
    return None, ""


def _build(run: Run, node: Node, lock: Lock) -> tuple[Stored, bool]:
    """Build and publish; the flag says whether a checkpoint was continued."""
    started = now()
    spec = _spec(run, node)
    work = run.store.work(node.id)
    outcome = _finished_before(work, spec)
    step = 0
    if outcome is None:
        for name in above(node.name, run.plan.nodes) - {node.name}:
            run.store.verify(run.plan.nodes[name].stored, name=name)  # type: ignore[arg-type]
        wait_for_ranks(work)
        step = _clear(work, spec)
        write_json(work / "spec.json", spec)
        outcome = _in_child(run, work, lock)
    manifest = _manifest(run, node, outcome, started, step)
    return run.store.publish(node.kind.name, node.id, manifest), step > 0


def _finished_before(work: Path, spec: Mapping[str, Any]) -> Outcome | None:
    """The result of an earlier child whose parent died or whose disk was full before the publish."""
    there = (work / "result.json").exists() and (work / "out").is_dir()
    if not there or _spec_before(work).get("basis") != spec["basis"]:
        return None
    return Outcome(**read_json(work / "result.json"))


def _spec_before(work: Path) -> Mapping[str, Any]:
    """What the last child in this folder was told."""
    with suppress(OSError, StoreError):
        return dict(read_json(work / "spec.json"))
    return {}


def _clear(work: Path, spec: Mapping[str, Any]) -> int:
    """Make work/<id> ready: out/ empty, in ckpt/ only what can be continued. Returns the step to continue from."""
    (work / "result.json").unlink(missing_ok=True)
    before = _spec_before(work)
    if before.get("basis") != spec["basis"]:  # other inputs, or a person forces it: begin anew
        drop(work / "ckpt")
    shutil.rmtree(work / "out", ignore_errors=True)
    for name in ("out", "ckpt"):
        (work / name).mkdir(parents=True, exist_ok=True)
    if before.get("boot", spec["boot"]) != spec["boot"]:
        drop_unsealed(work / "ckpt")
    drop_torn_checkpoints(work / "ckpt")
    return checkpoint_step(work / "ckpt")


def _spec(run: Run, node: Node) -> dict[str, Any]:
    """Everything the child needs. `basis` says what a checkpoint in this folder belongs to."""
    nodes, work, config = run.plan.nodes, run.store.work(node.id), asdict(node.config)
    config["runtime"]["threads"] = config["runtime"]["threads"] or run.threads
    return {
        "run_id": run.folder.name,
        "experiment": run.plan.experiment.name,
        "stage": node.name,
        "id": node.id,
        "kind": node.kind.name,
        "module": node.kind.stage.__module__,
        "config": config,
        "gpu": run.gpu,
        "inputs": {role: _artifact(nodes[name]) for role, name in node.inputs.items()},
        "data": {role: _artifact(nodes[name]) for role, name in node.data.items()},
        "lineage": _lineage(run, node),
        "out": str(work / "out"),
        "ckpt": str(work / "ckpt"),
        "cache": str(run.store.cache),
        "cwd": str(Path.cwd()),
        "tracker": asdict(run.plan.experiment.tracker),
        "tracker_dir": str(run.folder),
        "basis": {"inputs": digests(inputs_of(node, nodes)), "forced": node.forced},
        "boot": boot(),
    }


def _lineage(run: Run, node: Node) -> list[dict[str, str]]:
    """Everything upstream of the node; of the champion, what the store has of it."""
    nodes = run.plan.nodes
    upstream = [nodes[name] for name in nodes if name in above(node.name, nodes) - {node.name}]
    before = [made for one in upstream if one.pinned and one.stored for made in run.store.models_before(one.stored)]
    return [*map(_artifact, upstream), *(_described(made.artifact()) for made in before)]


def _artifact(node: Node) -> dict[str, str]:
    assert node.stored is not None
    return _described(node.stored.artifact(node.name))


def _described(found: Artifact) -> dict[str, str]:
    return {"id": found.id, "kind": found.kind, "stage": found.stage, "path": str(found.path), "digest": found.digest}


def _in_child(run: Run, work: Path, lock: Lock) -> Outcome:
    begin = time.time()
    try:
        outcome = run_build(work / "spec.json", lock, run.debug)
    except BaseException:  # no word from the child: all its time counts as its own
        run.children += time.time() - begin
        raise
    run.children += outcome.end - outcome.begin
    if outcome.exit_code == 130:
        raise KeyboardInterrupt
    if outcome.error == "the disk is full":
        raise OSError(28, "No space left on device", str(work))
    if outcome.error:
        failed = next(
            (kind for kind in JourneymanError.__subclasses__() if kind.exit_code == outcome.exit_code), StageFailed
        )
        raise failed(outcome.error)
    return outcome


def _manifest(run: Run, node: Node, outcome: Outcome, started: str, step: int) -> dict[str, Any]:
    """manifest.json but for attempt, outputs and digest; StageFailed for a resume that trained nothing."""
    sections = dict(outcome.sections or {})
    training = sections.get("training", {})
    first, last = training.get("start_step", step), training.get("end_step")
    if first and last == first and last < training.get("max_steps", last):
        raise StageFailed(
            f"resumed at step {first} and trained no step although {training['max_steps']} were asked for"
        )
    gates = {name: asdict(gate) for name, gate in run.plan.experiment.gates.items() if gate.stage == node.name}
    return {
        "schema": SCHEMA,
        "id": node.id,
        "kind": node.kind.name,
        "stage": node.name,
        "experiment": run.plan.experiment.name,
        "run_id": run.folder.name,
        "sweep": run.sweep,
        "payload": node.payload,
        "inputs": inputs_of(node, run.plan.nodes),
        "metrics": dict(outcome.metrics or {}),
        "data": {},
        "gates": gates,
        "seed": node.config.seed,
        "env": environment(),
        "code_digest": digest_code(node.kind.stage.__module__),
        "argv": redacted(command_line()),
        "started": started,
        "finished": now(),
        "seconds": round(outcome.end - outcome.begin, 3),
        "resumed_from_step": first or None,
        **redacted(sections),
    }
