"""A loaded policy as the harness sees a model: log-likelihoods and answers, with the numbers of its own `HFLM`.

Texts become tokens as `HFLM` makes them; scoring and writing are this project's, which read a prompt once for all that
follows it. What is too long loses its beginning, as there, and is counted in `cut`.
"""

from collections import defaultdict
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from pipeline.errors import ConfigError, DataError
from stages.evaluation.forward import continuation_scores
from stages.kernels.prefill import TOKENS_PER_PASS, Ids
from stages.kernels.rollout import Sampling, rollout
from stages.models.chain import Policy

KNOWN = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}  # of `generation_kwargs`
Scored = tuple[float, bool]  # log-likelihood, and whether it is what greedy decoding would write


class PolicyLM(TemplateLM):
    """Answers requests with a policy. `cut`: the prompts that were longer than the model reads."""

    def __init__(self, policy: Policy, micro_batch: int = 0) -> None:
        super().__init__()
        self.policy, self.micro_batch, self.tokenizer = policy, micro_batch, policy.tokenizer
        self.max_length = resolve_max_length(policy.model.config, policy.tokenizer)
        self.cut: set[str] = set()

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that follows nothing: BOS, or EOS where there is none."""
        bos = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if not self.tokenizer.chat_template:
            raise ConfigError("chat_template: the model has none; leave it out, or set model.chat_template")
        return self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )  # fmt: skip

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> Ids:
        """Token ids; with what the tokenizer itself puts before a text, unless the text begins with BOS already."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **special)

    def _loglikelihood_tokens(self, requests: list[tuple[Any, Ids, Ids]], **kwargs: Any) -> list[Scored]:
        """Log-likelihood of each continuation after its context. Equal contexts are read once."""
        fitting = [self._fitting(*request) for request in requests]
        groups = self._groups(fitting)
        contexts = [fitting[same[0]][0] for same in groups]
        continuations = [[fitting[place][1] for place in same] for same in groups]
        scores = continuation_scores(self.policy, contexts, continuations, self.micro_batch)
        found: dict[int, Scored] = {}
        for same, values in zip(groups, scores, strict=True):
            found |= dict(zip(same, values, strict=True))
        return [found[place] for place in range(len(requests))]

    def _groups(self, pairs: list[tuple[Ids, Ids]]) -> list[list[int]]:
        """Places of pairs with the same context, of like length and no more than fit one pass."""
        room = TOKENS_PER_PASS[torch.device(self.policy.device).type]
        groups: list[list[int]] = []
        newest: dict[tuple[int, ...], list[int]] = {}
        for place in sorted(range(len(pairs)), key=lambda i: -len(pairs[i][1])):
            context = tuple(pairs[place][0])
            same = newest.get(context)
            if same is None or (len(same) + 1) * len(pairs[same[0]][1]) > room:
                same = newest[context] = []
                groups.append(same)
            same.append(place)
        return groups

    def _fitting(self, texts: tuple[str, str] | None, context: Ids, continuation: Ids) -> tuple[Ids, Ids]:
        """The end of the context with the continuation, as much as the model reads."""
        if not 0 < len(continuation) <= self.max_length:
            raise DataError(
                f"a continuation of {len(continuation)} tokens cannot be scored: the model reads 1 to {self.max_length}"
            )
        left = self.max_length + 1 - len(continuation)
        if texts and len(context) > left:
            self.cut.add(texts[0])
        return context[-left:], continuation

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, window after window where they are longer than the model reads."""
        owners, windows = [], []
        for owner, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1):
                owners.append(owner)
                windows.append((None, *make_disjoint_window(window)))
        sums = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            sums[owner] += value
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes up to a stop text, its end of turn or `max_gen_toks`; requests of one kind together."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            places[repr(request.args[1])].append(place)
        written = [""] * len(requests)
        for same in places.values():
            prompts = [requests[place].args[0] for place in same]
            for place, answer in zip(same, self._written(prompts, requests[same[0]].args[1]), strict=True):
                written[place] = answer
        return written

    def _written(self, prompts: list[str], settings: dict[str, Any]) -> list[str]:
        kwargs = normalize_gen_kwargs(settings)
        if unknown := sorted(kwargs.keys() - KNOWN):
            raise DataError(f"generation_kwargs.{unknown[0]} is not supported; known: {', '.join(sorted(KNOWN))}")
        stops = handle_stop_sequences(kwargs["until"], self.tokenizer.decode(self.eot_token_id))
        sampling = Sampling(
            kwargs["max_gen_toks"], kwargs.get("temperature", 1.0) if kwargs["do_sample"] else 0.0,
            top_k=kwargs.get("top_k", 0), top_p=kwargs.get("top_p", 1.0),
        )  # fmt: skip
        asked = [self._room(prompt, sampling.max_new_tokens) for prompt in prompts]
        answers = rollout(self.policy, asked, sampling, self.micro_batch, self._stopped(stops))
        texts = [self.tokenizer.decode(answer.ids, skip_special_tokens=True) for answer in answers]
        return [postprocess_generated_text(text, stops, None) for text in texts]

    def _room(self, prompt: str, more: int) -> Ids:
        """The end of the prompt that leaves room for the answer, as token ids."""
        if more >= self.max_length:
            raise DataError(
                f"max_gen_toks={more}: the model reads {self.max_length} tokens, prompt and answer together"
            )
        ids = self.tok_encode(prompt)
        if len(ids) > self.max_length - more:
            self.cut.add(prompt)
        return ids[more - self.max_length :]

    def _stopped(self, stops: list[str]) -> Any:
        """Whether an answer has a stop text near its end, however that was made of tokens."""
        back = max(len(self.tok_encode(stop, add_special_tokens=False)) for stop in stops) + 2

        def stopped(ids: Ids) -> bool:
            end = self.tokenizer.decode(ids[-back:])
            return any(stop and stop in end for stop in stops)

        return stopped
