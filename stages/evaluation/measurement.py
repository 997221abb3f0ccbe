"""What every measurement is: a dataclass of params, the fields its items need, a metric, and `run`.

A new measurement is one file with a subclass of `Measurement` and one line in `stages.evaluation.MEASUREMENTS`.
Nothing here or at the top of a measurement's file imports torch: suites are validated without loading it.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.context import Artifact
from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from stages.models.chain import Policy

Row = dict[str, Any]
PROMPT_SHOWN = 2000  # characters of a prompt or a text kept in the results


@dataclass
class Scored:
    """One item's result. The suite's metric is the mean of `score` weighted by `weight`."""

    item: str
    cluster: str
    score: float
    weight: float = 1.0
    slices: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    answer: str = ""
    reference: str = ""
    baselines: dict[str, float] = field(default_factory=dict)  # rule of thumb -> its score on this item
    values: dict[str, float] = field(default_factory=dict)  # further numbers of the item: confidence, a looser score


@dataclass(frozen=True)
class Others:
    """What a suite reads beside the measured model. `open` loads a model artifact as the measured one was loaded."""

    own: Artifact  # the measured model
    judge: Artifact | None  # of the suite's `judge`
    against: Artifact | None  # of the suite's `against`
    open: Callable[[Artifact], "Policy"]
    cache: Path  # of the store; see `Context.cache`
    forced: bool = False  # see `Context.forced`


class Measurement:
    """How one kind of suite is measured. Stateless: everything comes with the call."""

    params: ClassVar[type]
    fields: ClassVar[tuple[str, ...]] = ()  # what every item must have beside its id
    brings_items: ClassVar[bool] = False  # its params say where items come from, so a suite of it names no data set

    def metric(self, params: Any) -> tuple[str, bool]:
        """Name of the suite's metric, and whether higher is better."""
        raise NotImplementedError

    def items(self, params: Any) -> dict[str, Any]:
        """Of a measurement that brings its items: the configuration of the data set that makes them."""
        raise NotImplementedError

    def select(self, rows: list[Row], params: Any) -> list[Row]:
        """The rows of the data set that this suite is about."""
        return rows

    def check(self, row: Row, params: Any) -> None:
        """Raise DataError for an item that cannot be measured."""

    def check_others(self, params: Any, judge: str | None, against: str | None) -> None:
        """Raise ConfigError where the suite names a judge or an opponent that nothing reads, or lacks one."""
        for key, name in (("judge", judge), ("against", against)):
            if name is not None:
                raise ConfigError(f"{key}={name}: this measurement reads no other model; take it out")

    def unit(self, row: Row, params: Any) -> str:
        """What a suite's `limit` counts: rows of one unit are taken together."""
        return str(row["id"])

    def run(self, policy: "Policy", rows: list[Row], params: Any, micro_batch: int) -> list[Scored]:
        """Results in the order of `rows`. `micro_batch`: items in one forward pass, 0 = what fits a token budget."""
        raise NotImplementedError

    def run_beside(
        self, policy: "Policy", rows: list[Row], params: Any, micro_batch: int, others: Others
    ) -> list[Scored]:
        """`run` of a measurement that reads the suite's `judge` or `against`; the others do not override it."""
        return self.run(policy, rows, params, micro_batch)

    def details(self, items: list[Scored], params: Any) -> dict[str, Any]:
        """What the summary keeps beside the metric, as JSON. The report knows these keys, each of them optional:

        - `metrics`: {name: {"value", "low", "high", "n"}}, further numbers of the suite
        - `reliability`: {"bins": [{"confidence", "accuracy", "n"}], "ece", "brier"}
        - `risk`: [{"coverage", "risk", "threshold"}], the selective-risk curve
        - `examples`: [{"title", "rows": [{"prompt", "answer", "score"}]}], shown side by side
        - `remarks`: sentences for a person
        - `routing`: which confidence sends an answer to a person (`routing.py`); also written to `routing.json`
        """
        return {}


def scored(row: Row, score: float, **more: Any) -> Scored:
    """A result with what every row has: id, cluster, slices, baselines and the prompt as text."""
    return Scored(
        item=str(row["id"]),
        cluster=str(row.get("cluster", row["id"])),
        score=score,
        **{
            "slices": {**({"task": row["task"]} if "task" in row else {}), **row.get("slices", {})},
            "baselines": row.get("baselines", {}),
            "prompt": shown(row.get("prompt", [])),
            **more,
        },
    )


def shown(messages: list[dict[str, str]]) -> str:
    """A prompt for people: the message itself, or one paragraph for each turn."""
    if len(messages) == 1:
        return messages[0]["content"][:PROMPT_SHOWN]
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)[:PROMPT_SHOWN]


def read_params(kind: type, given: dict[str, Any], where: str) -> Any:
    """`given` as the dataclass `kind`; ConfigError names the wrong key, under `where`."""
    known = {f.name: f for f in dataclasses.fields(kind)}
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
            raise ConfigError(f"{where}.{name}: no such parameter; {hint}")
        _check_value(known[name], value, f"{where}.{name}")
    try:
        return kind(**given)
    except ConfigError as error:  # of values that do not go together
        raise ConfigError(f"{where}.{error}") from None


def _check_value(known: dataclasses.Field, value: Any, where: str) -> None:
    accepted = (int, float) if known.type is float else known.type
    if not isinstance(value, accepted) or (isinstance(value, bool) and known.type is not bool):
        raise ConfigError(
            f"{where}={value!r}: expected {getattr(known.type, '__name__', known.type)}, got {type(value).__name__}"
        )
    options = known.metadata.get("options")
    if options and value not in options:
        near = get_close_matches(str(value), options, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where}={value}: choose one of {', '.join(options)}{hint}")
    if "least" in known.metadata and value < known.metadata["least"]:
        raise ConfigError(f"{where}={value}: at least {known.metadata['least']}")


def heldout(folder: Path, name: str) -> list[Row]:
    """The held-out rows of the prepared data set `name`; DataError when it has none."""
    path = folder / "data" / "heldout.jsonl"
    if not path.is_file():
        raise DataError(f"data set '{name}' has no held-out part to evaluate on ({path.name} is missing)")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def option(default: str, *options: str) -> Any:
    """A dataclass field that takes one of `options`."""
    return field(default=default, metadata={"options": options})


def at_least(least: float, default: float) -> Any:
    """A dataclass field that takes a number of at least `least`."""
    return field(default=default, metadata={"least": least})
