"""Triggers: what asks for training. A trigger says when; what is trained then follows from ids alone, as in a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.context import Artifact
from pipeline.fingerprint import digest_code
from pipeline.identity import artifact_id, canonical
from pipeline.manifest import read_json, write_json
from pipeline.planner import Plan
from pipeline.registry import kind
from pipeline.retraining.state import State, changes
from pipeline.store import Store, Stored

DAY = 86400.0
LISTED = 5  # names that a sentence spells out


@dataclass(frozen=True)
class Trigger:
    """One reason to train, whether or not it holds now. `value` reaches `threshold` where it does."""

    name: str  # first | champion | base | config | data | feedback | drift | days
    fired: bool
    said: str
    value: float | None = None
    threshold: float | None = None


@dataclass
class Situation:
    """Where retraining stands before it starts. `champion`: the model in use, `state`: what was judged last."""

    plan: Plan
    store: Store
    stage: str
    champion: Stored | None
    state: State | None
    rows: dict[str, list[str]] = field(default_factory=dict)  # feedback set -> digests of its rows now
    triggers: list[Trigger] = field(default_factory=list)

    @property
    def changed(self) -> dict[str, list[str]]:
        """As `state.changes`; everything is new where nothing was judged."""
        return changes(self.state, self.plan) if self.state else {}

    @property
    def settled(self) -> bool:
        """Whether this very model was judged already, against the champion of now."""
        if self.state is None or self.state.stage != self.stage or self.changed:
            return False
        return self._champion_stands()

    def _champion_stands(self) -> bool:
        then = self.state.in_use if self.state else None
        return (then or {}).get("path") == (self.store.relative(self.champion.path) if self.champion else None)

    @property
    def fired(self) -> list[Trigger]:
        return [trigger for trigger in self.triggers if trigger.fired]

    def look(self) -> "Situation":
        """Ask every trigger; DataError where feedback or a sample of production cannot be read."""
        self.triggers = [*_of_judgement(self), *_of_changes(self), *_feedback(self), *_drift(self), *_days(self)]
        return self


def _of_judgement(case: Situation) -> Iterator[Trigger]:
    if case.state is None:
        known = "there is a champion, but no model was judged against it here" if case.champion else "no champion yet"
        yield Trigger("first", True, known)
    elif not case._champion_stands():
        yield Trigger("champion", True, "the pin names another model than after the last judgement")
    elif case.state.stage != case.stage:
        yield Trigger("champion", True, f"{case.stage} is to be promoted, judged was {case.state.stage}")


def _of_changes(case: Situation) -> Iterator[Trigger]:
    """Changes since the last judgement; feedback sets are counted by rows instead."""
    if case.state is None:
        return
    asked = case.plan.experiment.retrain
    for about in asked.on:
        names = [name for name in case.changed.get(about, []) if name not in asked.feedback.data]
        said = f"{', '.join(names[:LISTED])}{' ...' if len(names) > LISTED else ''} changed" if names else "unchanged"
        yield Trigger(about, bool(names), said, float(len(names)), 1.0)


def _feedback(case: Situation) -> Iterator[Trigger]:
    """New rows since a model was last judged: rows of a content that was not there then."""
    asked = case.plan.experiment.retrain.feedback
    if not asked.data:
        return
    new = {name: len(_count(case, name)) for name in asked.data}
    if case.state is None:
        return
    total = sum(new.values())
    each = f" ({', '.join(f'{name} {count}' for name, count in new.items())})" if len(new) > 1 else ""
    said = f"{total} new rows since {case.state.judged[:16]}{each}, of {asked.rows} that are asked for"
    yield Trigger("feedback", total >= asked.rows, said, float(total), float(asked.rows))


def _count(case: Situation, name: str) -> set[str]:
    """Digests of the set's new rows; all of its rows are noted for the next time."""
    then, state = set(case.state.rows.get(name, [])) if case.state else set(), case.state
    node = case.plan.nodes.get(name)
    if state and node and name in state.rows and state.nodes.get(name, {}).get("id") == node.id:
        case.rows[name] = state.rows[name]
        return set()
    config = case.plan.experiment.data[name]
    now = kind(config.kind).stage().row_digests(config)
    case.rows[name] = sorted(now)
    return now - then


def _drift(case: Situation) -> Iterator[Trigger]:
    """The largest shift of a feature that is more than chance between production and what the champion learned from."""
    asked = case.plan.experiment.retrain.drift
    if not asked.sample or case.champion is None:
        return
    found = _measured(case, asked.sample, trained_on(case.store, case.champion))
    if not found:
        yield Trigger("drift", False, f"{asked.sample} and the champion's data have nothing to compare", 0.0, asked.psi)
        return
    feature, most = max(found.items(), key=lambda item: (_beyond(item[1], asked.psi), item[1]["psi"]))
    shown = ", ".join(f"{name} {value['psi']:.2f}" for name, value in found.items())
    said = f"PSI of {feature} is {most['psi']:.2f} (chance: {most['chance']:.2f}), asked is {asked.psi:g}; {shown}"
    yield Trigger("drift", _beyond(most, asked.psi), said, most["psi"], asked.psi)


def _beyond(shift: dict[str, float], least: float) -> bool:
    return shift["psi"] >= max(least, shift["chance"])


def trained_on(store: Store, champion: Stored) -> list[Artifact]:
    """The data sets that the champion and the models before it were trained on."""
    made: dict[str, Artifact] = {}
    for model in (champion, *store.models_before(champion)):
        for role, item in model.manifest["inputs"].items():
            if role.startswith("data."):
                for path in store.root.glob(f"artifacts/*/{item['id']}/{item['attempt']}"):
                    made[item["id"]] = store.read(path).artifact()
    return list(made.values())


def _measured(case: Situation, sample: str, trained: Sequence[Artifact]) -> dict[str, Any]:
    """feature -> {psi, chance}; remembered for as long as neither side changes."""
    config = case.plan.experiment.data[sample]
    stage = kind(config.kind).stage()
    sides = {
        "sample": [canonical(config), stage.fingerprints(config)], "trained": [one.digest for one in trained],
        "code": digest_code(type(stage).__module__),
    }  # fmt: skip
    memory = case.store.cache / "drift" / f"{artifact_id(sides)}.json"
    if memory.exists():
        return dict(read_json(memory))
    found = stage.drift(config, trained)
    memory.parent.mkdir(parents=True, exist_ok=True)
    write_json(memory, found)
    return found


def _days(case: Situation) -> Iterator[Trigger]:
    asked = case.plan.experiment.retrain.days
    if not asked or case.state is None:
        return
    age = (datetime.now(UTC) - datetime.fromisoformat(case.state.judged)).total_seconds() / DAY
    waits = sum(map(len, case.changed.values()))
    said = (
        f"{age:.1f} days since the last judgement, of {asked:g}; {waits} change{' waits' if waits == 1 else 's wait'}"
    )
    yield Trigger("days", age >= asked and waits > 0, said, age, asked)
