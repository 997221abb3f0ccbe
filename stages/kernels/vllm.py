"""Answers by vLLM on a GPU, in the form of `stages.kernels.rollout`.

vLLM gets the base's folder and one LoRA: what the policy has on at that moment, rank beside rank, so that any chain is
one adapter. What an answer tells are the policy's own log-probabilities, with which vLLM's must agree
(`stages.kernels.agreement`).
"""

import gc
import importlib.util
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import torch
from torch import Tensor

from pipeline.context import Context
from pipeline.errors import ConfigError, StageFailed
from pipeline.schema import Runtime
from stages.kernels.agreement import Spread, own_view
from stages.kernels.lora import switched_on
from stages.kernels.prefill import Ids
from stages.kernels.rollout import Answer, Sampling, Stopped, end_tokens
from stages.models.chain import PEFT_PREFIX, Policy, file_digest

ENGINES = ("own", "vllm")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes as max_lora_rank
DTYPES = ("float16", "bfloat16")  # its LoRA kernels take no other
COLDEST = 0.01  # it raises temperatures between 0 and this one
SHARE = 0.4  # of the GPU's memory that it takes; plans for the policy's own passes are made with the rest
Factors = dict[str, tuple[Tensor, Tensor]]  # linear layer -> A (r, in) and B (out, r) with the scale in it


@dataclass
class Engine:
    """vLLM on the base in `folder`; it starts with the first answers, and again where more rank is needed."""

    folder: str
    dtype: str
    llm: Any = None
    rank: int = -1  # that it has room for; 0: without LoRA
    spreads: list[Spread] = field(default_factory=list)  # of every rollout so far
    lora: Any = None  # the request that names what was loaded last
    digest: str = ""  # of its weights
    loaded: int = 0  # adapters so far: each has a number and a name of its own, by which vLLM caches keys and values
    place: TemporaryDirectory = field(default_factory=TemporaryDirectory)

    def rollout(
        self, policy: Policy, prompts: list[Ids], sampling: Sampling, micro_batch: int, stopped: Stopped | None,
        numbers: Sequence[int],
    ) -> list[Answer]:  # fmt: skip
        """As `stages.kernels.rollout.rollout`. StageFailed where vLLM's log-probabilities are not the policy's."""
        check_policy(policy, sampling)
        lora = self._load(switched_on(policy.model))
        asked = [prompt for prompt in prompts for _ in range(sampling.samples)]
        drawn = [number * sampling.samples + sample for number in numbers for sample in range(sampling.samples)]
        params = [_params(sampling, number, end_tokens(policy)) for number in drawn]
        inputs = [{"prompt_token_ids": prompt} for prompt in asked]
        with self._failing("write these answers"), _randomness_kept():
            outputs = self.llm.generate(inputs, params, use_tqdm=False, lora_request=lora)
        answers = [_answer(output.outputs[0], sampling.max_new_tokens, stopped) for output in outputs]
        self.spreads.append(own_view(policy, asked, answers, sampling.temperature or 1.0, micro_batch))
        return answers

    def record(self, ctx: Context) -> None:
        """Say in the manifest who wrote the stage's answers, and how far that was from the policy."""
        if not self.spreads:
            return
        import vllm

        gap, largest = (max(getattr(spread, name) for spread in self.spreads) for name in ("mean", "largest"))
        ctx.record("engine", {"name": "vllm", "version": vllm.__version__, "gap": gap, "largest": largest})
        ctx.log(f"answers by vLLM: at most {gap:.3g} nats a token from the policy's own log-probabilities")

    def _load(self, layers: Factors) -> Any:
        """What `generate` is to name for these adapters; None for the bare base."""
        rank = max((len(a) for a, _ in layers.values()), default=0)
        if rank > RANKS[-1]:
            raise ConfigError(
                f"engine=vllm: the adapters of the chain have {rank} ranks together, vLLM takes at most {RANKS[-1]}; "
                "use engine=own, or adapters of lower peft.r"
            )
        if rank > self.rank:
            self._start(next(room for room in (0, *RANKS) if room >= rank))
        if not layers:
            return None
        folder = write_lora(Path(self.place.name) / str(self.loaded + 1), layers, rank)
        digest = file_digest(folder / "adapter_model.safetensors")
        if self.lora is None or digest != self.digest:
            self._replace(folder, digest)
        return self.lora

    def _replace(self, folder: Path, digest: str) -> None:
        from vllm.lora.request import LoRARequest

        if self.lora is not None:
            self.llm.llm_engine.remove_lora(self.lora.lora_int_id)
            shutil.rmtree(self.lora.lora_path)
        self.loaded, self.digest = self.loaded + 1, digest
        self.lora = LoRARequest(f"adapters_{self.loaded}", self.loaded, str(folder))

    def _start(self, rank: int) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # a process of its own would outlive a killed stage
        from vllm import LLM

        self.llm = self.lora = None
        gc.collect()
        torch.cuda.empty_cache()
        lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank} if rank else {}
        with self._failing(f"start with {SHARE:.0%} of the GPU's memory"), _randomness_kept():
            self.llm = LLM(
                model=self.folder, dtype=self.dtype, max_model_len=-1, gpu_memory_utilization=SHARE,
                generation_config="vllm", logprobs_mode="raw_logprobs", **lora,
            )  # fmt: skip
        self.rank = rank

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """StageFailed for what vLLM says that it cannot do."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            raise StageFailed(
                f"engine=vllm: vLLM did not {what}, on {self.folder}: {error}. Use engine=own where the model or its "
                "adapters do not suit vLLM"
            ) from error


# -- what cannot work ---------------------------------------------------------------------------------------------
def check_engine(engine: str, runtime: Runtime, method: str = "", where: str = "engine") -> None:
    """ConfigError unless `engine` can write answers here. `method`: of the stage's adapter, if it trains one."""
    if engine not in ENGINES:
        raise ConfigError(f"{where}={engine}: use one of {', '.join(ENGINES)}")
    if engine == "own":
        return
    if runtime.num_processes > 1:
        raise ConfigError(
            f"{where}=vllm: vLLM writes in one process, and runtime.num_processes={runtime.num_processes}; set it to 1"
        )
    if method == "qlora":
        raise ConfigError(f"{where}=vllm: vLLM would not compute with the 4-bit weights of peft.method=qlora; use own")
    if runtime.device == "cpu" or not _gpu():
        raise ConfigError(f"{where}=vllm needs a CUDA device, and there is none here (runtime.device); use own")
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"{where}=vllm: no vLLM here; pip install 'journeyman[vllm]' (docs/ppo.md#vllm), or use own")


def _gpu() -> bool:
    return torch.cuda.is_available()


def check_policy(policy: Policy, sampling: Sampling) -> None:
    """ConfigError for a model or a sampling that vLLM would not take as it is."""
    if policy.quantized:
        raise ConfigError("engine=vllm: the model has 4-bit weights, with which vLLM would not compute alike; use own")
    if policy.model.get_output_embeddings() is None:
        raise ConfigError(f"engine=vllm: {type(policy.model).__name__} is a classifier and writes nothing")
    if dtype_of(policy) not in DTYPES:
        raise ConfigError(
            f"engine=vllm: the base is stored in {dtype_of(policy)}, and vLLM's LoRA kernels compute in 16 bits; set "
            "model.dtype=bfloat16, or use own"
        )
    if 0 < sampling.temperature < COLDEST:
        raise ConfigError(f"temperature={sampling.temperature}: vLLM takes 0 for greedy answers, or {COLDEST} and more")


def dtype_of(policy: Policy) -> str:
    return str(policy.model.dtype).removeprefix("torch.")


# -- opening ------------------------------------------------------------------------------------------------------
def answered_by(policy: Policy, engine: str) -> Policy:
    """The policy, whose answers are written by `engine` from now on."""
    if engine == "vllm":
        policy.engine = _engine(str(policy.model.name_or_path), dtype_of(policy))
    return policy


def measured(policy: Policy) -> dict[str, float]:
    """How far the engine was from the policy in the last rollout, for the log; nothing of the model's own answers."""
    if policy.engine is None:
        return {}
    return {"engine_gap": policy.engine.spreads[-1].mean, "engine_gap_max": policy.engine.spreads[-1].largest}


@lru_cache(maxsize=1)
def _engine(folder: str, dtype: str) -> Engine:
    """One for all models on a base: they differ by their adapters."""
    return Engine(folder, dtype)


@contextmanager
def _randomness_kept() -> Iterator[None]:
    """vLLM seeds and uses the generators of the process that it runs in."""
    states = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield
    random.setstate(states[0])
    numpy.random.set_state(states[1])


def write_lora(folder: Path, layers: Factors, rank: int) -> Path:
    """The factors as an adapter in PEFT's format with scale 1, all of them filled up with zeros to `rank`."""
    from safetensors.torch import save_file
    from torch.nn.functional import pad

    tensors = {}
    for name, (a, b) in layers.items():
        tensors[f"{PEFT_PREFIX}{name}.lora_A.weight"] = pad(a, (0, 0, 0, rank - len(a))).contiguous()
        tensors[f"{PEFT_PREFIX}{name}.lora_B.weight"] = pad(b, (0, rank - b.shape[1])).contiguous()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none",
              "target_modules": sorted(layers)}  # fmt: skip
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


# -- asking and reading -------------------------------------------------------------------------------------------
def _params(sampling: Sampling, number: int, ends: set[int]) -> Any:
    """Of one answer: its random stream depends on the seed and on its number alone."""
    from vllm import SamplingParams

    return SamplingParams(
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens, stop_token_ids=sorted(ends), ignore_eos=True, logprobs=0, detokenize=False,
        seed=int(numpy.random.SeedSequence([sampling.seed, number]).generate_state(1)[0]),
    )  # fmt: skip


def _answer(written: Any, most: int, stopped: Stopped | None) -> Answer:
    """One answer with the engine's log-probabilities. vLLM asks no function whether it is complete: it is cut here.

    StageFailed for one that vLLM gave up before its end and its `most` tokens.
    """
    tokens = list(written.token_ids)
    if written.finish_reason != "stop" and len(tokens) < most:
        raise StageFailed(
            f"engine=vllm: an answer ended after {len(tokens)} of {most} tokens ({written.finish_reason}): the GPU "
            "has no room for the keys and values of so many. Lower the length of answers, or use engine=own"
        )
    log_probs = [told[token].logprob for token, told in zip(tokens, written.logprobs, strict=True)]
    end = tokens.pop() if written.finish_reason == "stop" else None
    for length in range(1, len(tokens) + 1) if stopped else ():
        if stopped(tokens[:length]):
            return Answer(tokens[:length], log_probs[:length])
    return Answer(tokens, log_probs, end)
