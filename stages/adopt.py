"""`adopt`: an adapter that was trained elsewhere becomes an artifact, and with it the newest link of a chain."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.fingerprint import digest_file
from pipeline.registry import Stage, register
from pipeline.schema import NOT_IDENTITY, Runtime, StageConfig
from stages.models.chain import PEFT_PREFIX, Chain, extend, load_tokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PLAIN = {  # settings of PEFT that make more of an adapter than B A x, and what they are without effect
    "use_dora": (False, None), "bias": ("none",), "modules_to_save": (None, []), "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None), "layer_replication": (None,), "fan_in_fan_out": (False, None),
    "trainable_token_indices": (None,), "target_parameters": (None, []), "lora_bias": (False, None),
}  # fmt: skip
OTHER_BASE = ("pissa", "olora", "loftq", "corda")  # initialisations that change the weights below the adapter


@dataclass
class AdoptConfig(StageConfig):
    folder: str = field(default=MISSING, metadata=NOT_IDENTITY)  # in PEFT's format; its content is part of the id


@register("adopt", config=AdoptConfig)
class Adopt(Stage):
    """Takes a LoRA adapter as it is, once its layers fit the model that it is to stand on.

    The artifact is of its own kind: its manifest says where the weights came from, and nothing of how they were made.
    """

    consumes: ClassVar[dict[str, str]] = {"policy": "model"}

    def fingerprints(self, config: AdoptConfig) -> dict[str, str]:
        return {f"file:{name}": digest_file(path) for name, path in _files(config.folder).items()}

    def validate(self, config: AdoptConfig) -> None:
        if config.data:
            raise ConfigError("an adopted adapter is not trained: it takes no `data`")
        if config.runtime != Runtime(stall_minutes=config.runtime.stall_minutes):
            raise ConfigError("nothing is computed here: of `runtime` it takes `stall_minutes` alone")
        check_plain(_adapter_config(config.folder))

    def run(self, ctx: Context) -> dict[str, float]:
        source, settings = Path(ctx.config.folder), _adapter_config(ctx.config.folder)
        chain = Chain.read(ctx.inputs["policy"])
        known = {**ctx.lineage, ctx.inputs["policy"].id: ctx.inputs["policy"]}
        base = known[chain.base["artifact"]].path / "model"
        parameters = fits(source / WEIGHTS, base, settings)
        ctx.record("adopted", _provenance(ctx, settings, _template_differs(source, base)))
        folder = ctx.out / "model" / "adapter"
        folder.mkdir(parents=True)
        shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
        own = {**settings, "base_model_name_or_path": chain.base["artifact"], "inference_mode": True}
        (folder / CONFIG).write_text(json.dumps(own, indent=2, sort_keys=True) + "\n")
        extend(chain, ctx.stage, ctx.id, folder, "lora", settings["r"]).write(ctx.out / "model")
        return {"parameters": float(parameters), "rank": float(settings["r"])}


def _files(folder: str) -> dict[str, Path]:
    """What is read of the folder; ConfigError where it is no adapter."""
    place = Path(folder).expanduser()
    if (place / "config.json").is_file() and not (place / CONFIG).is_file():
        raise ConfigError(f"folder={folder}: a whole model, not an adapter; give it as model.source={folder}")
    missing = [name for name in (CONFIG, WEIGHTS) if not (place / name).is_file()]
    if missing:
        hint = "; pickles (.bin) are not read: save the adapter anew, with safetensors" if _pickled(place) else ""
        raise ConfigError(f"folder={folder}: {' and '.join(missing)} of PEFT's format not there{hint}")
    return {name: place / name for name in (CONFIG, WEIGHTS, *TOKENIZER) if (place / name).is_file()}


def _pickled(place: Path) -> bool:
    return (place / "adapter_model.bin").is_file()


def _adapter_config(folder: str) -> dict[str, Any]:
    path = _files(folder)[CONFIG]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("r"), int):
        raise ConfigError(f"{path}: no adapter's configuration: `r`, its rank, is missing")
    return found


def check_plain(settings: Mapping[str, Any]) -> None:
    """ConfigError unless the adapter adds B A x to linear layers and does nothing else."""
    if settings.get("peft_type") != "LORA":
        raise ConfigError(f"{CONFIG}: peft_type={settings.get('peft_type')}; this version stacks LoRA only")
    for name, allowed in PLAIN.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise ConfigError(
                f"{CONFIG}: {name}={settings[name]}; this version stacks plain LoRA only. Merge it into its base and "
                "give the result as model.source"
            )
    start = str(settings.get("init_lora_weights", "")).lower()
    if start.startswith(OTHER_BASE):
        raise ConfigError(
            f"{CONFIG}: init_lora_weights={start}: it was trained on changed base weights. Convert it to plain LoRA "
            "first (PEFT's `path_initial_model_for_weight_conversion`)"
        )


def fits(weights: Path, base: Path, settings: Mapping[str, Any]) -> int:
    """Parameters of the adapter; ConfigError unless every pair of its matrices fits a layer of the base."""
    layers, found = _shapes(*sorted(base.glob("*.safetensors"))), _shapes(weights)
    if odd := [name for name in found if not name.endswith((".lora_A.weight", ".lora_B.weight"))]:
        raise ConfigError(f"{weights}: holds more than LoRA matrices: {', '.join(odd[:3])}")
    names = sorted({name.rsplit(".lora_", 1)[0] for name in found})
    if not names:
        raise ConfigError(f"{weights}: holds no LoRA matrices")
    for name in names:
        a, b = found.get(f"{name}.lora_A.weight", []), found.get(f"{name}.lora_B.weight", [])
        layer = layers.get(f"{name.removeprefix(PEFT_PREFIX)}.weight")
        if layer is None:
            raise ConfigError(
                f"{weights}: the base has no layer {name.removeprefix(PEFT_PREFIX)}; another model's adapter"
            )
        if [b[:1], a[1:], a[:1], b[1:]] != [layer[:1], layer[1:], [settings["r"]], [settings["r"]]]:
            raise ConfigError(
                f"{weights}: {name}: matrices {b} and {a} of rank {settings['r']} do not fit a layer {layer}"
            )
    return sum(rows * columns for rows, columns in found.values())


def _shapes(*files: Path) -> dict[str, list[int]]:
    """Tensor -> shape, from the headers alone."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for file in files:
        try:
            with safe_open(file, framework="np") as tensors:
                found |= {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ConfigError(f"{file}: no safetensors file ({error})") from error
    return found


def _template_differs(source: Path, base: Path) -> bool | None:
    """Whether it was trained with another chat template; None if it does not say. ConfigError for other tokens."""
    from stages.models.chat import template_digest

    if not (source / "tokenizer.json").is_file():
        return None
    own, ours = load_tokenizer(source), load_tokenizer(base)
    if own.get_vocab() != ours.get_vocab():
        raise ConfigError(f"{source}: its tokenizer has other tokens than the base's; it was trained on another model")
    return bool(own.chat_template) and template_digest(own) != template_digest(ours)


def _provenance(ctx: Context, settings: Mapping[str, Any], other_template: bool | None) -> dict[str, Any]:
    """What the manifest says of where the weights came from; what nobody can check is said aloud."""
    base = settings.get("base_model_name_or_path")
    ctx.log(f"adopted as it is; its own configuration says that it was trained on {base!r}, which cannot be checked")
    if other_template:
        ctx.log("warning: it was trained with another chat template than the base's; its answers will suffer")
    return {
        "folder": ctx.config.folder,
        "trained_on": base,
        "peft_version": settings.get("peft_version"),
        "template_differs": other_template,
    }
