"""A base model with 4-bit weights (`peft: qlora`): quantized once, kept in the store's cache, loaded by every stage.

Linear layers are quantized; embeddings, norms and the output head are left alone. It is done on the CPU on every
machine, so what comes out depends on the base alone. Dettmers et al. 2023, arXiv 2305.14314.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Artifact
from pipeline.errors import ConfigError
from pipeline.fingerprint import sha256

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

RECORD = "quantization.json"  # beside the weights: what they were made from, and the sha256 of every file
GIB = 2**30


@dataclass(frozen=True)
class Settings:
    """How weights are quantized: in blocks of 64, whose scales are quantized once more when `double`."""

    quant_type: str = "nf4"
    double: bool = True


QLORA = Settings()  # part of what the method's name means: another choice would need another name


def require_library() -> None:
    """ConfigError unless bitsandbytes can be imported."""
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # a broken installation raises whatever its loader raises
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"peft.method=qlora needs bitsandbytes, and it cannot be imported ({why}). `make setup` installs it; "
            "or use peft.method=lora"
        ) from None


def load_quantized(base: Artifact, device: str, cache: Path | None, settings: Settings = QLORA) -> "PreTrainedModel":
    """The base artifact's model in 4 bits, in eval mode, without gradients; `cache` None quantizes it in memory."""
    require_library()
    import bitsandbytes

    from stages.models.linear4bit import adopt

    if cache is None:
        model = _quantize(base.path / "model", settings).to(device)
    else:
        model = _from_pretrained(stored(base, cache, settings), device)
    _forget(model)
    for layer in model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            adopt(layer, compute_dtype(model.dtype, device))
    return model.eval().requires_grad_(False)


def compute_dtype(stored: "torch.dtype", device: str) -> "torch.dtype":
    """In which products are computed: a 16-bit base's own dtype; for a float32 one bfloat16 on a GPU, float32 else."""
    import torch

    if stored != torch.float32:
        return stored
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


# -- on disk ------------------------------------------------------------------------------------------------------
def quantized_key(base: Artifact, settings: Settings = QLORA) -> str:
    """What decides the quantized weights, as 16 hex digits: the base's content, the settings, the library's version."""
    return hashlib.sha256(json.dumps(_origin(base, settings), sort_keys=True).encode()).hexdigest()[:16]


def _origin(base: Artifact, settings: Settings) -> dict[str, Any]:
    return {"base": base.digest, "settings": asdict(settings), "bitsandbytes": version("bitsandbytes")}


def stored(base: Artifact, cache: Path, settings: Settings = QLORA) -> Path:
    """The folder of the quantized base, made now if it is not there. A damaged one is made anew, and that is said."""
    folder = cache / "quantized" / quantized_key(base, settings)
    if folder.is_dir():
        if (fault := _fault(folder)) is None:
            return folder
        print(f"the quantized base {folder} is damaged ({fault}); it is made anew", file=sys.stderr)
    part = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed and had this number
    part.mkdir(parents=True)
    try:
        _quantize(base.path / "model", settings).save_pretrained(part)
        record = {**_origin(base, settings), "files": {path.name: sha256(path) for path in sorted(part.iterdir())}}
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        _put(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _put(part: Path, folder: Path) -> None:
    """Rename `part` to `folder`, unless another stage has put a sound one there meanwhile."""
    while True:
        try:
            os.rename(part, folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _fault(folder) is None:
            return
        damaged = part.with_name(f"{part.name}-damaged")
        with suppress(FileNotFoundError):  # another stage was faster
            os.rename(folder, damaged)
        shutil.rmtree(damaged, ignore_errors=True)


def _fault(folder: Path) -> str | None:
    """What is wrong with a stored base, or None."""
    try:
        files = json.loads((folder / RECORD).read_text())["files"]
        wrong = [name for name, digest in files.items() if sha256(folder / name) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(wrong)} not as written" if wrong else None


def _quantize(folder: Path, settings: Settings) -> "PreTrainedModel":
    from transformers import BitsAndBytesConfig

    wanted = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=settings.quant_type, bnb_4bit_use_double_quant=settings.double
    )
    return _from_pretrained(folder, "cpu", quantization_config=wanted)


def _from_pretrained(folder: Path, device: str, **settings: Any) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", attn_implementation="sdpa", local_files_only=True, device_map={"": device}, **settings
    )


def _forget(model: "PreTrainedModel") -> None:
    """Take the library's marks off the model.

    Where TRL sees them it turns the adapter to bfloat16, where PEFT does it copies every output. Adapters are to be
    the same on a quantized base as on any other.
    """
    model.hf_quantizer, model.is_quantized, model.is_loaded_in_4bit = None, False, False
    del model.quantization_method, model.config.quantization_config


# -- dense weights ------------------------------------------------------------------------------------------------
def dense_weight(layer: "torch.nn.Module") -> "torch.Tensor":
    """The weight (out, in) that a linear layer multiplies by, dequantized if it has 4 bits; not for writing.

    Frozen adapters that `chain.attach` adds by a hook (the layer's `chain_a` and `chain_b`) are not in it. TypeError
    for a layer that is neither torch.nn.Linear nor of this module.
    """
    import torch

    if hasattr(layer, "dense_weight"):
        return layer.dense_weight()
    if not isinstance(layer, torch.nn.Linear) or not layer.weight.is_floating_point():
        raise TypeError(f"{type(layer).__name__} has no dense weight")
    return layer.weight


def keep_dense(model: "torch.nn.Module", gib: float) -> int:
    """Keep the dense weights of as many quantized layers as fit into `gib` GiB; returns how many. Saves time only."""
    left, kept = gib * GIB, 0
    for layer in model.modules():
        if not hasattr(layer, "dense_weight"):
            continue
        size = layer.in_features * layer.out_features * layer.compute_dtype.itemsize
        if size <= left:
            layer.keep()
            left, kept = left - size, kept + 1
    return kept
