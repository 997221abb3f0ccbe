"""A module to stand in for vLLM where there is none: the same calls, computed by Transformers and PEFT in float32.

It knows nothing of the policy: it computes with the folders that it was given, one answer at a time, without a cache.
`taken` is how the engine can hold other weights than it was told: "adapter": it leaves LoRA out, "twice": it adds it
doubly, "first": it goes on with the first one that it loaded.
"""

import sys
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import torch

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    logprobs: int | None = None
    detokenize: bool = True


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class Completion:
    token_ids: list[int]
    logprobs: list[dict]
    finish_reason: str
    stop_reason: int | None = None


@dataclass
class LLM:
    model: str
    dtype: str = "auto"
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.92
    generation_config: str = "auto"
    logprobs_mode: str = "raw_logprobs"
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    taken: str = ""
    requests: list = field(default_factory=list)
    removed: list = field(default_factory=list)

    def __post_init__(self):
        from transformers import AutoModelForCausalLM

        assert self.max_lora_rank in RANKS and self.logprobs_mode == "raw_logprobs" and self.max_loras == 1
        torch.manual_seed(0)  # as vLLM does, in the process of its caller
        self.net = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32).eval()
        self.llm_engine = SimpleNamespace(remove_lora=lambda number: self.removed.append(number) or True)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        net = self._with(lora_request)
        return [
            SimpleNamespace(outputs=[self._completed(net, prompt["prompt_token_ids"], params)])
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]

    def _with(self, request):
        """The base with the adapter that PEFT reads from the request's folder."""
        if request is None or self.taken == "adapter":
            return self.net
        assert self.enable_lora
        if request not in self.requests:
            self.requests.append(request)
            self._load(request)
        return self.adapted

    def _load(self, request):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        if self.taken == "first" and len(self.requests) > 1:
            return
        base = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        self.adapted = PeftModel.from_pretrained(base, request.lora_path).eval()
        config = self.adapted.peft_config["default"]
        assert config.r <= self.max_lora_rank
        if self.taken == "twice":
            for name, parameter in self.adapted.named_parameters():
                parameter.data.mul_(2 if "lora_B" in name else 1)

    @torch.no_grad()
    def _completed(self, net, prompt, params):
        generator, written, told = torch.Generator().manual_seed(params.seed), [], []
        while len(written) < params.max_tokens:
            logits = net(torch.tensor([prompt + written])).logits[0, -1].float()
            token = self._drawn(logits, params, generator)
            told.append({token: SimpleNamespace(logprob=float(logits.log_softmax(0)[token]))})
            written.append(token)
            if token in params.stop_token_ids:
                return Completion(written, told, "stop", token)
        return Completion(written, told, "length")

    def _drawn(self, logits, params, generator):
        if params.temperature == 0:
            return int(logits.argmax())
        logits = logits / params.temperature
        if params.top_k:
            logits = logits.where(logits >= logits.topk(params.top_k).values[-1], float("-inf"))
        assert params.top_p == 1
        return int(torch.multinomial(logits.softmax(0), 1, generator=generator))


def install(monkeypatch, taken=""):
    """Make `import vllm` find this one, and let float32 and a machine without a GPU pass; what was started is told."""
    from stages.kernels import agreement, vllm

    started = []

    def start(**settings):
        started.append(LLM(**settings, taken=taken))
        return started[-1]

    module, lora = ModuleType("vllm"), ModuleType("vllm.lora")
    module.__spec__ = ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams, module.__version__ = start, SamplingParams, "0"
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = LoRARequest
    for name, made in {"vllm": module, "vllm.lora": lora, "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setattr(vllm, "_gpu", lambda: True)
    monkeypatch.setattr(vllm, "DTYPES", ("float32", *vllm.DTYPES))
    monkeypatch.setattr(agreement, "ROUNDING", 1e-3)
    vllm._engine.cache_clear()
    return started
