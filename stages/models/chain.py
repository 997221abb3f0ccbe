"""A model as a base and an ordered chain of adapters: written as `model.json`, loaded with every adapter active.

Frozen upstream adapters are not PEFT adapters of the loaded model. They become part of its linear layers, below
whatever PEFT wraps around the layer later. So the one PEFT adapter of a training stage is its own, and "adapter off"
means exactly the input policy, never the bare base.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Artifact
from pipeline.errors import StoreError
from pipeline.names import inside
from stages.models.adapters import QUANTIZED
from stages.models.chat import prompt_ids, special_tokens, template_digest, tokenizer_digest
from stages.models.prompting import Messages, Prompting
from stages.models.quantization import keep_dense, load_quantized, quantized_key

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.kernels.vllm import Engine

PEFT_PREFIX = "base_model.model."


@dataclass
class AdapterRef:
    """One link of the chain. `digest` is the sha256 of its weights file."""

    stage: str
    artifact: str
    digest: str
    method: str
    r: int
    path: str = "model/adapter"  # inside the artifact


@dataclass
class Chain:
    """What `model.json` says: a base artifact and adapters in the order in which they were trained."""

    base: dict[str, str]  # artifact, digest (of the weights), source
    adapters: list[AdapterRef] = field(default_factory=list)
    heads: dict[str, Any] = field(default_factory=dict)
    tokenizer_digest: str = ""
    template_digest: str = ""
    special_tokens: dict[str, int | None] = field(default_factory=dict)
    schema: int = 1

    @classmethod
    def read(cls, artifact: Artifact) -> "Chain":
        file = artifact.path / "model" / "model.json"
        try:
            raw = json.loads(file.read_text())
            chain = cls(**{**raw, "adapters": [AdapterRef(**adapter) for adapter in raw["adapters"]]})
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{file} is damaged ({error}); rebuild with --force {artifact.stage}") from error
        for ref in chain.adapters:
            inside(artifact.path, ref.path, str(file))
        return chain

    @property
    def newest_method(self) -> str | None:
        return self.adapters[-1].method if self.adapters else None

    def write(self, folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")


@dataclass
class Policy:
    """A loaded model with its chain active."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    chain: Chain
    device: str
    quantized: str | None = None  # what decides the 4-bit weights of its base; None: the base as it is
    prompting: Prompting = field(default_factory=Prompting)  # what stands before every prompt; of a baseline only
    engine: "Engine | None" = None  # that writes its answers; None: the model itself
    scales: tuple[float, ...] = ()  # of the chain's adapters that are in the model; their digests are of weights alone

    @property
    def writes(self) -> str:
        """Where its answers are written. Those of two places may differ."""
        return self.device if self.engine is None else f"{self.device}, vllm"

    def asked(self, messages: Messages) -> list[int]:
        """Token ids of the conversation as this model is asked it, up to where its answer starts."""
        return prompt_ids(self.tokenizer, self.prompting.around(messages))


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def resolve_device(name: str) -> str:
    """`auto` is cuda where there is one, else cpu."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def base_model(folder: Path, device: str) -> "PreTrainedModel":
    """The base's weights in their stored dtype, in eval mode, without gradients."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", attn_implementation="sdpa", local_files_only=True, trust_remote_code=False
    )
    return model.to(device).eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_policy(
    artifact: Artifact,
    lineage: dict[str, Artifact],
    *,
    device: str,
    method: str | None = None,
    cache: Path | None = None,
    dequant_cache_gib: float = 0.0,
    links: int | None = None,
) -> Policy:
    """The model artifact ready to run: base once, every adapter of its chain active, eval mode, no gradients.

    `method` is that of the adapter to be trained on top; without one the chain's newest adapter counts. It decides
    whether the base has 4-bit weights: those are stored below `cache`, and `dequant_cache_gib` of them kept dense.
    `links`: only so many adapters of the chain, for a caller who adds the others itself (`stages.models.roles`).
    Raises StoreError when a link is missing or its weights are not those that the chain was trained on.
    """
    chain = Chain.read(artifact)
    known = {**lineage, artifact.id: artifact}
    device = resolve_device(device)
    base = _link(known, chain.base["artifact"])
    folder = base.path / "model"
    quantized = (method or chain.newest_method) in QUANTIZED
    model = load_quantized(base, device, cache) if quantized else base_model(folder, device)
    tokenizer = load_tokenizer(folder)
    if tokenizer_digest(tokenizer) != chain.tokenizer_digest or template_digest(tokenizer) != chain.template_digest:
        raise StoreError(f"{artifact.stage}: the tokenizer or chat template of {folder} is not the recorded one")
    below = [adapter_weights(_link(known, ref.artifact), ref, chain.base["artifact"]) for ref in chain.adapters[:links]]
    attach(model, below)
    keep_dense(model, dequant_cache_gib)
    prompting, scales = Prompting.read(artifact.path / "model"), tuple(adapter.scale for adapter in below)
    key = quantized_key(base) if quantized else None
    return Policy(model, tokenizer, chain, device, key, prompting, scales=scales)


def _link(known: dict[str, Artifact], artifact_id: str) -> Artifact:
    if artifact_id not in known:
        raise StoreError(f"the model chain names artifact {artifact_id}, which is not upstream of this stage")
    return known[artifact_id]


@dataclass
class AdapterWeights:
    """A frozen LoRA: module name -> (A of shape (r, in), B of shape (out, r) with the scaling in it)."""

    ref: AdapterRef
    layers: dict[str, tuple["torch.Tensor", "torch.Tensor"]]
    scale: float = 1.0  # that the adapter's own rank and settings give


def adapter_weights(artifact: Artifact, ref: AdapterRef, base: str) -> AdapterWeights:
    """Read one adapter in PEFT's own format; StoreError unless it is the recorded one and made for the base `base`."""
    from safetensors.torch import load_file

    folder = inside(artifact.path, ref.path, f"{artifact.path}/model/model.json")
    weights = folder / "adapter_model.safetensors"
    if file_digest(weights) != ref.digest:
        raise StoreError(
            f"{weights} is not the adapter that the chain was trained on; rebuild with --force {ref.stage}"
        )
    config = json.loads((folder / "adapter_config.json").read_text())
    if (own := config["base_model_name_or_path"]) != base:
        raise StoreError(
            f"{folder}: trained on base {own}, but the chain's base is {base}; rebuild with --force {ref.stage}"
        )
    tensors = load_file(weights)
    names = sorted(key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight"))
    if len(tensors) != 2 * len(names):
        raise StoreError(f"{weights} holds more than LoRA matrices; this version stacks plain LoRA only")
    layers = {}
    for name in names:
        a, b = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
        layers[name.removeprefix(PEFT_PREFIX)] = (a, b * _scale(config, a.shape[0]))
    return AdapterWeights(ref, layers, _scale(config, config["r"]))


def _scale(config: dict[str, Any], rank: int) -> float:
    """What an adapter of this rank is multiplied by (rsLoRA: Kalajdzievski 2023, arXiv 2312.03732)."""
    return float(config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank))


def attach(model: "PreTrainedModel", adapters: list[AdapterWeights]) -> None:
    """Make the frozen adapters part of the model, all ranks of a layer in one pair of matrices.

    Plain float32 layers take them into their weights in memory: equal to rounding, and free in every later pass. Where
    that would lose them (16-bit, quantized or shared weights), a forward hook adds them to the layer's output instead.
    """
    import torch

    modules = dict(model.named_modules())
    names = sorted({name for adapter in adapters for name in adapter.layers})
    if missing := [name for name in names if name not in modules]:
        raise StoreError(f"the chain adapts layers that the base does not have: {', '.join(missing[:3])}")
    embeddings = model.get_input_embeddings().weight  # a head may share them, and they are not adapted with it
    for name in names:
        pairs = [adapter.layers[name] for adapter in adapters if name in adapter.layers]
        module = modules[name]
        device = next(module.parameters()).device
        a, b = torch.cat([a for a, _ in pairs]).to(device), torch.cat([b for _, b in pairs], dim=1).to(device)
        plain = type(module) is torch.nn.Linear and module.weight.dtype == torch.float32
        if plain and module.weight is not embeddings:
            module.weight.data.addmm_(b, a)
            module.chain_folded = True  # the factors are gone; see `stages.kernels.lora.switched_on`
        else:
            module.register_buffer("chain_a", a, persistent=False)
            module.register_buffer("chain_b", b, persistent=False)
            module.register_forward_hook(_add_low_rank)


def _add_low_rank(module: "torch.nn.Module", args: tuple, output: "torch.Tensor") -> "torch.Tensor":
    from torch.nn.functional import linear

    low = linear(args[0].to(module.chain_a.dtype), module.chain_a)
    return output + linear(low, module.chain_b).to(output.dtype)


def base_chain(artifact_id: str, source: str, folder: Path) -> Chain:
    """The chain of a freshly imported base: no adapters yet."""
    tokenizer = load_tokenizer(folder)
    digest = hashlib.sha256("".join(file_digest(path) for path in sorted(folder.glob("*.safetensors"))).encode())
    return Chain(
        base={"artifact": artifact_id, "digest": digest.hexdigest(), "source": source},
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer),
        special_tokens=special_tokens(tokenizer),
    )


def extend(chain: Chain, stage: str, artifact_id: str, folder: Path, method: str, r: int) -> Chain:
    """The chain with the adapter in `folder` as its newest link."""
    ref = AdapterRef(stage, artifact_id, file_digest(folder / "adapter_model.safetensors"), method, r)
    return Chain(**{**vars(chain), "adapters": [*chain.adapters, ref]})
