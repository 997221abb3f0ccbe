"""What was judged last, so that no question is answered twice: `retrain/EXPERIMENT/state.json` in the store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.identity import artifact_id
from pipeline.manifest import read_json, write_json
from pipeline.planner import Plan
from pipeline.schema import Experiment
from pipeline.store import Store, Stored

MEASURED = ("champion", "eval_champion")  # nodes that follow from the champion, not from the experiment
KEPT = 50  # judgements in the history


@dataclass(frozen=True)
class State:
    """One judgement. A model is {id, attempt, digest, stage, kind, path}."""

    judged: str  # when, UTC
    verdict: str  # promoted | kept (it is the champion already) | refused
    stage: str
    candidate: dict[str, str] | None  # None where a gate stopped the chain before it was built
    against: dict[str, str] | None  # the champion it was compared with
    refused_by: list[str]  # sentences of gates
    run: str
    because: str | None  # why a person promoted it whatever the gates said
    nodes: dict[str, dict[str, str]]  # name -> {id, own, about} of everything that was judged
    gates: str  # digest of all gates
    rows: dict[str, list[str]] = field(default_factory=dict, repr=False)  # feedback set -> digests of its rows then

    @property
    def in_use(self) -> dict[str, str] | None:
        """The model that was the champion after this judgement."""
        return self.against if self.verdict == "refused" else self.candidate


def folder(store: Store, experiment: str) -> Path:
    return store.root / "retrain" / experiment


def read_state(store: Store, experiment: str) -> State | None:
    """The last judgement; None before the first. StoreError for a file that is none."""
    home = folder(store, experiment)
    if not (home / "state.json").exists():
        return None
    try:
        plain = read_json(home / "state.json")
        return State(**plain["last"], rows=read_json(home / "rows.json"))
    except (KeyError, TypeError, OSError, StoreError) as error:
        raise StoreError(f"{home} is damaged ({error}); delete the folder: the next call judges anew") from error


def write_state(store: Store, experiment: str, state: State) -> None:
    """Keep a judgement; `history` in the file has those before it, the newest first."""
    home = folder(store, experiment)
    home.mkdir(parents=True, exist_ok=True)
    file = home / "state.json"
    history = read_json(file)["history"] if file.exists() else []
    last = {key: value for key, value in asdict(state).items() if key != "rows"}
    entry = {key: last[key] for key in ("judged", "verdict", "stage", "candidate", "against", "because", "run")}
    write_json(home / "rows.json", state.rows)
    write_json(file, {"experiment": experiment, "last": last, "history": [entry, *history][:KEPT]})


def model(store: Store, stored: Stored | None) -> dict[str, str] | None:
    """How the state names a model."""
    if stored is None:
        return None
    return {**stored.reference(), "stage": stored.stage, "kind": stored.kind, "path": store.relative(stored.path)}


def marks(plan: Plan) -> dict[str, dict[str, str]]:
    """name -> {id, own, about}: what it is, what of that is not its inputs', and whether it is base, data or config."""
    nodes = {name: node for name, node in plan.nodes.items() if name not in MEASURED}
    found = {}
    for name, node in nodes.items():
        outside = {key: value for key, value in node.payload["data"].items() if key not in node.data}
        own = artifact_id({**node.payload, "inputs": node.inputs, "data": {**node.data, **outside}})
        about = "base" if name == "base" else "data" if name in plan.experiment.data else "config"
        found[name] = {"id": node.id, "own": own, "about": about}
    return found


def gates_digest(experiment: Experiment) -> str:
    return artifact_id({name: asdict(gate) for name, gate in experiment.gates.items()})


def changes(state: State, plan: Plan) -> dict[str, list[str]]:
    """base | data | config -> names of what is not what was judged last; empty where all of it is the same."""
    now, then = marks(plan), state.nodes
    differing = [name for name in {**then, **now} if then.get(name, {}).get("id") != now.get(name, {}).get("id")]
    first = [name for name in differing if _own(then, name) != _own(now, name)] or differing
    found: dict[str, list[str]] = {}
    for name in first:
        found.setdefault({**then, **now}[name]["about"], []).append(name)
    if state.gates != gates_digest(plan.experiment):
        found.setdefault("config", []).append("gates")
    return found


def _own(nodes: Mapping[str, Mapping[str, str]], name: str) -> str | None:
    return nodes[name]["own"] if name in nodes else None
