"""What a model folder from elsewhere may hold: weights as safetensors, plain settings, no code, no way to other files.

All of it is looked at before the library opens the folder; only headers and JSON are read.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.names import is_plain

LARGEST_JSON = 2**28  # bytes of a tokenizer.json, the largest of them
CODE = ("auto_map", "custom_pipelines", "custom_generate")
KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")


def check_folder(folder: Path, trust_remote_code: bool) -> None:
    """ConfigError for what runs code, leads out of the folder, or would take memory that the weights do not fill."""
    for file in sorted(folder.glob("*")):
        _check_link(file, folder)
        if file.suffix == ".json" and file.stat().st_size > LARGEST_JSON:
            raise _refused(file, f"{file.stat().st_size} bytes; at most {LARGEST_JSON} are read")
    if (folder / "adapter_config.json").exists():
        raise _refused(folder / "adapter_config.json", "an adapter, whose base lies elsewhere; merge the two")
    config = _json(folder / "config.json")
    _check_settings(folder / "config.json", config, trust_remote_code)
    if (folder / "tokenizer_config.json").is_file():
        file = folder / "tokenizer_config.json"
        _check_settings(file, _json(file), trust_remote_code)
    _check_shards(folder)
    _check_sizes(folder, config)


def _check_link(file: Path, folder: Path) -> None:
    """A link may lead to the blobs of the hub's cache, of which a snapshot is made, and nowhere else."""
    home = folder.resolve()
    allowed = home.parents[1] if home.parent.name == "snapshots" and len(home.parents) > 1 else home
    if file.is_symlink() and not file.resolve().is_relative_to(allowed):
        raise _refused(file, f"is a link to {file.resolve()}, outside the folder; copy the file")


def _check_settings(file: Path, settings: dict[str, Any], trust_remote_code: bool) -> None:
    for key in CODE:
        if settings.get(key) and not trust_remote_code:
            raise _refused(
                file, f"'{key}' names Python code that comes with the model; model.trust_remote_code=true runs it"
            )
    for key in KERNELS:
        if "/" in str(settings.get(key) or ""):
            raise _refused(file, f"'{key}: {settings[key]}' would load code from the hub; take the key out")


def _check_shards(folder: Path) -> None:
    for file in folder.glob("*.index.json"):
        names = set((_json(file).get("weight_map") or {}).values())
        for name in sorted(map(str, names)):
            if not is_plain(name) or "/" in name or not (folder / name).is_file():
                raise _refused(file, f"names {name!r}, which is no file of the folder")


def _check_sizes(folder: Path, config: dict[str, Any]) -> None:
    """The headers are whole, and config.json does not promise a model that the weights cannot fill."""
    tensors: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= _tensors(file)
    inner = config.get("text_config") or config
    layers, width = inner.get("num_hidden_layers") or 0, inner.get("hidden_size") or 0
    vocabulary = inner.get("vocab_size") or 0
    if not all(isinstance(number, int) and number >= 0 for number in (layers, width, vocabulary)):
        raise _refused(folder / "config.json", "num_hidden_layers, hidden_size and vocab_size are whole numbers")
    if layers > len(tensors) or width * vocabulary > sum(tensors.values()):
        raise _refused(
            folder / "config.json",
            f"{layers} layers of width {width} and {vocabulary} words are more than its weights hold "
            f"({len(tensors)} tensors, {sum(tensors.values())} numbers)",
        )


def _tensors(file: Path) -> dict[str, int]:
    """Name -> number of elements, from the header, which the library checks against the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as weights:
            return {name: _product(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _refused(file, f"is no whole safetensors file ({error}); get it again") from error


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(file, f"is no readable JSON ({str(error)[:120]})") from error
    if not isinstance(found, dict):
        raise _refused(file, "is no JSON object")
    return found


def _refused(file: Path, why: str) -> ConfigError:
    return ConfigError(f"model.source: {file}: {why}")
