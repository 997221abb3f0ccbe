"""`base`: import the start model into the store once, as safetensors, with its tokenizer and template."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from pipeline.schema import ModelConfig, StageConfig
from stages.models import sources
from stages.models.chain import base_chain, file_digest

TEMPLATES = Path(__file__).parent / "models" / "templates"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass
class BaseConfig(StageConfig):
    model: ModelConfig = field(default_factory=ModelConfig)


@register("base", config=BaseConfig)
class Base(Stage):
    """Reads the model from its source in the configured dtype; every later stage loads it from the artifact."""

    def fingerprints(self, config: BaseConfig) -> dict[str, str]:
        found = {"model": sources.fingerprint(config.model)}
        if config.model.chat_template:
            found["chat_template"] = file_digest(_template(config.model.chat_template))
        return found

    def validate(self, config: BaseConfig) -> None:
        if config.model.dtype not in DTYPES:
            raise ConfigError(f"model.dtype={config.model.dtype!r}: use one of {', '.join(DTYPES)}")
        if sources.scheme(config.model.source) == "hub":
            name = config.model.source.partition(":")[2]
            sources.hub_folder(name, sources.hub_commit(name, config.model.revision))

    def run(self, ctx: Context) -> dict[str, float]:
        model, tokenizer = sources.load(ctx.config.model)
        ctx.record("chat_template", {"own": bool(tokenizer.chat_template)})  # whether it came with one
        if ctx.config.model.chat_template:
            tokenizer.chat_template = _template(ctx.config.model.chat_template).read_text(encoding="utf-8")
        if not tokenizer.chat_template:
            raise ConfigError("the model has no chat template; set model.chat_template to a .jinja file")
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"{ctx.config.model.source} has no EOS token, so no answer could ever end")
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        folder = ctx.out / "model"
        model.config._name_or_path = ctx.id  # the artifact, never a path of this machine
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        base_chain(ctx.id, ctx.config.model.source, folder).write(folder)
        return {"parameters": float(sum(p.numel() for p in model.parameters()))}


def _template(name: str) -> Path:
    """A template of the project's own by its name, or a .jinja file."""
    own = TEMPLATES / f"{name}.jinja"
    path = own if own.is_file() else Path(name).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in TEMPLATES.glob("*.jinja")))
        raise ConfigError(f"model.chat_template={name}: no such file, and no template of that name (known: {known})")
    return path
