"""`journeyman adopt FOLDER`: a checkpoint that was made elsewhere becomes an artifact that stages can start from."""

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.planned import plan_of


def adopt(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    """An adapter becomes the stage `--as NAME` of the experiment, a whole model its base."""
    from pipeline.sweeps.multirun import run_planned

    if not options.names:
        raise ConfigError("adopt FOLDER experiment=NAME [--as STAGE]: a PEFT adapter, or a whole model")
    folder = Path(options.names[0]).expanduser()
    name, words, lines = _whole(folder) if _is_whole(folder) else _adapter(folder, options.stage_name)
    options.until = name
    code, record = run_planned(options, screen, plan_of(options, [*options.overrides, *words]))
    if code == 0:
        for line in lines:
            screen.say(line)
    return code, record


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds a model; ConfigError where it holds neither that nor an adapter."""
    if (folder / "adapter_config.json").is_file():
        return False
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: neither adapter_config.json (an adapter) nor config.json (a model) is there")
    return True


def _whole(folder: Path) -> tuple[str, list[str], list[str]]:
    """The node to build, overrides that describe it, and what to write into an experiment for the same."""
    return "base", [f"model.source={_quoted(folder)}"], ["model:", f"  source: {json.dumps(str(folder))}"]


def _adapter(folder: Path, name: str) -> tuple[str, list[str], list[str]]:
    words = [f"+stage@stages.{name}=adopt", f"stages.{name}.folder={_quoted(folder)}"]
    config = f"{{kind: adopt, inputs: {{policy: base}}, folder: {json.dumps(str(folder))}}}"
    lines = [
        "stages:",
        f"  {name}: {config}",
        f"  NEXT:  # the stage that continues it\n    inputs: {{policy: {name}}}",
    ]
    return name, words, lines


def _quoted(folder: Path) -> str:
    """As a value of an override, whatever characters it has."""
    return "'" + str(folder).replace("\\", "\\\\").replace("'", "\\'") + "'"
