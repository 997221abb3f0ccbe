"""Stage kinds: `@register` makes one known, entry points of the group `journeyman.stages` make packages known."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.schema import StageConfig, Suite

if TYPE_CHECKING:
    from pipeline.context import Artifact, Context, Measured

GROUP = "journeyman.stages"
WARM = "warm"  # the module of a package that imports its heavy libraries, for the fork server only


class Stage:
    """One step of the chain. Subclasses import heavy libraries inside the methods that need them."""

    version: ClassVar[int] = 1  # part of the id: raise it when the same config must give another result
    consumes: ClassVar[dict[str, str]] = {}  # input role -> what it must be: model | reward | measurable
    produces: ClassVar[str] = "model"  # model | prompted | reward | data | findings | results
    parallel: ClassVar[bool] = (
        False  # whether several processes can build one artifact together (runtime.num_processes)
    )

    def fingerprints(self, config: Any) -> dict[str, str]:
        """Content outside the store that the stage will read: name -> digest or pinned revision. No heavy imports."""
        return {}

    def needs(self, config: Any) -> dict[str, str]:
        """Input role -> what it must be: `consumes`, and what this config asks for beyond it."""
        return self.consumes

    def expand(self, name: str, config: Any, stages: "Mapping[str, StageConfig]") -> "dict[str, StageConfig]":
        """The stages that the stage `name` of an experiment stands for, in order; the last one keeps its name."""
        return {name: config}

    def contract(self, config: Any) -> dict[str, Any] | None:
        """Fields of the kind `contract` for the check of its data before anything is trained; None: there is none."""
        return None

    def measures(self, config: Any) -> list[str]:
        """Roles of the data sets on whose held-out part the stage measures what it made: no stage may train on that."""
        return []

    def suites(self, config: Any, suites: "Mapping[str, Suite]") -> list[str]:
        """Those of the experiment's suites on which the model that it makes is measured."""
        return list(suites)

    def items(self, name: str, suite: Suite) -> dict[str, Any] | None:
        """The configuration of the data set that makes the items of the suite; None: the suite names its data set."""
        return None

    def preview(self, config: Any, tokenizer: Any, sets: Mapping[str, Any]) -> dict[str, Any]:
        """What would be trained on: `mixture` and counts as in the manifest. `sets`: role -> data set."""
        return {}

    def inspect(self, path: str, settings: Mapping[str, str]) -> Any:
        """What the kind would make of a user's file: has `exit_code`, `lines()` for people and `json()`."""
        raise ConfigError("this kind of stage reads no files")

    def row_digests(self, config: Any) -> set[str]:
        """What stands for the content of each row that a data set of this config has now; it need not be built."""
        raise ConfigError("this kind of data set cannot count its rows; take it out of retrain.feedback.data")

    def drift(self, config: Any, trained: "Sequence[Artifact]") -> dict[str, dict[str, float]]:
        """Feature -> {psi, chance}: rows of this config, a sample of production, against the sets trained on."""
        raise ConfigError("this kind of data set cannot be compared; take it out of retrain.drift.sample")

    def diagnose(
        self, of: "Measured", sets: "Mapping[str, Artifact]", curve: "Mapping[float, Measured]"
    ) -> dict[str, Any]:
        """What fails in an evaluation, and whether more data or other data would help, as JSON (docs/diagnosis.md).

        `sets`: name -> data set that the model was trained on. `curve`: share of its last stage's data -> the same
        model trained on no more than that.
        """
        raise ConfigError("this kind of stage leaves no results to diagnose")

    def validate(self, config: Any) -> None:
        """Raise ConfigError for what cannot work. Runs in a child process before the first stage starts."""

    def run(self, ctx: "Context") -> dict[str, float]:
        """Read `ctx.inputs` and `ctx.data`, write under `ctx.out`, return the metrics for the manifest."""
        raise NotImplementedError


@dataclass(frozen=True)
class Kind:
    name: str
    config: type[StageConfig]
    stage: type[Stage]


_kinds: dict[str, Kind] = {}


def register(name: str, *, config: type[StageConfig]) -> Callable[[type[Stage]], type[Stage]]:
    """Class decorator: the stage class becomes the kind `name`, configured by the dataclass `config`."""

    def add(stage: type[Stage]) -> type[Stage]:
        known = _kinds.get(name)
        if known is not None and known.stage.__module__ != stage.__module__:
            raise ConfigError(f"stage kind '{name}' is registered by {known.stage.__module__} and {stage.__module__}")
        _kinds[name] = Kind(name, config, stage)
        return stage

    return add


def load_kinds() -> dict[str, Kind]:
    """Import what the entry points name, once; return all kinds. A failing one names its distribution.

    An entry point names a module, or a package: then every module in it, so that a new file there is a new stage.
    """
    for point in entry_points(group=GROUP):
        try:
            _import_modules(point.load())
        except ConfigError:
            raise
        except Exception as error:  # whatever a module's top level can do
            dist = point.dist.name if point.dist else "?"
            text = f"stage plug-in '{point.name}' of distribution '{dist}' cannot be imported"
            raise ConfigError(f"{text}: {type(error).__name__}: {error}") from error
    return dict(_kinds)


def _import_modules(loaded: Any) -> None:
    for module in pkgutil.iter_modules(getattr(loaded, "__path__", [])):
        if not module.ispkg and module.name != WARM:
            importlib.import_module(f"{loaded.__name__}.{module.name}")


def kind(name: str) -> Kind:
    """The kind called `name`; ConfigError with the known names otherwise."""
    if name not in _kinds:
        load_kinds()
    if name not in _kinds:
        raise ConfigError(f"unknown stage kind '{name}'; known: {', '.join(sorted(_kinds))}")
    return _kinds[name]
