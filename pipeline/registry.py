"""Stage kinds: `@register` makes one known, entry points of the group `journeyman.stages` make packages known."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.schema import StageConfig

if TYPE_CHECKING:
    from pipeline.context import Context

GROUP = "journeyman.stages"


class Stage:
    """One step of the chain. Subclasses import heavy libraries inside the methods that need them."""

    version: ClassVar[int] = 1  # part of the id: raise it when the same config must give another result
    consumes: ClassVar[dict[str, str]] = {}  # input role -> what it must be: model
    produces: ClassVar[str] = "model"  # model | data | results

    def fingerprints(self, config: Any) -> dict[str, str]:
        """Content outside the store that the stage will read: name -> digest or pinned revision. No heavy imports."""
        return {}

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
    """Import every module named by the entry points once; return all kinds. A failing one names its distribution."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except ImportError as error:
            dist = point.dist.name if point.dist else "?"
            text = f"stage plug-in '{point.name}' of distribution '{dist}' cannot be imported: {error}"
            raise ConfigError(text) from error
    return dict(_kinds)


def kind(name: str) -> Kind:
    """The kind called `name`; ConfigError with the known names otherwise."""
    if name not in _kinds:
        load_kinds()
    if name not in _kinds:
        raise ConfigError(f"unknown stage kind '{name}'; known: {', '.join(sorted(_kinds))}")
    return _kinds[name]
