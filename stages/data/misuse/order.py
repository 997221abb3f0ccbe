"""`stage_order`: domain training on a start that was never tuned to follow instructions.

Whether a start was tuned is asked of the model itself. With its chat template, a tuned model finds a fitting answer far
likelier after its own request than after another, and ends its turn where the answer is complete. A bare model may know
the answer, but it has never learned where a turn ends. `docs/misuse.md` has what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from statistics import median
from typing import TYPE_CHECKING

from pipeline.context import Artifact
from stages.data.findings import Finding

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REQUESTS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is 2 + 2?", "2 + 2 equals 4."),
    ("How many days are there in a week?", "There are seven days in a week."),
    ("Say hello in French.", 'Hello in French is "Bonjour".'),
    ("Name a colour of the rainbow.", "One colour of the rainbow is red."),
    ("Which animal barks?", "The dog is the animal that barks."),
    ("What do bees make?", "Bees make honey from the nectar of flowers."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
)
OTHER = 3  # places further on stands the request that an answer does not fit
FITS = 0.5  # nats for each token by which an answer is likelier after its own request
ENDS = 0.02  # probability of the turn's end after a complete answer; tuned models are near 0.3, bare ones below 0.0001
LIKELIER = 10.0  # times as likely must the turn's end be there as in the middle of the answer


@dataclass(frozen=True)
class Probe:
    """What a model does with simple requests; medians over `REQUESTS`."""

    fits: float  # nats for each token of the answer, after its own request less after another
    ends: float  # probability of the turn's end after the complete answer
    midway: float  # the highest probability of it at any earlier place

    @property
    def tuned(self) -> bool:
        return self.fits >= FITS and self.ends >= max(ENDS, LIKELIER * self.midway)


def stage_order(after: Sequence[str], start: Artifact) -> Finding | None:
    """An error for `domain` training where no `sft` came before and the start, a base artifact, was never tuned.

    `after`: kinds of the stages whose policy it continues. The model is loaded, for some seconds, only without `sft`.
    """
    if "sft" in after:
        return None
    found = probe_start(start)
    if found.tuned:
        return None
    own = start.manifest().get("chat_template", {}).get("own")
    template = {True: "came with the model", False: "was put on by `model.chat_template`"}.get(
        own, "is the recorded one"
    )
    return Finding(
        "error",
        "stage_order",
        1,
        1,
        "The stage trains on documents, no `sft` stage comes before it, and its start does not follow instructions: "
        f"with the chat template, which {template}, it ends a complete answer with a probability of {found.ends:.2g}, "
        f"and an answer is {found.fits:.1f} nats a token likelier after its own request than after another. The risk: "
        "a model that has only ever continued texts learns to continue the domain's, and answers no question about it.",
        "Put an `sft` stage before this one, or start from an instruction-tuned model with the template it was tuned "
        "with (leave `model.chat_template` empty to use its own).",
        detail={
            "after": list(after),
            "own_template": own,
            "fits": found.fits,
            "ends": found.ends,
            "midway": found.midway,
        },
    )


def probe_start(start: Artifact) -> Probe:
    """Load the base and ask it."""
    from stages.models.chain import base_model, load_tokenizer, resolve_device

    folder = start.path / "model"
    return probe(base_model(folder, resolve_device("auto")), load_tokenizer(folder))


def probe(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Probe:
    """Ask the model; its weights and the tokenizer's chat template decide, nothing is sampled."""
    fits, ends, midway = [], [], []
    for place, (request, answer) in enumerate(REQUESTS):
        own = _after(model, tokenizer, request, answer)
        other = _after(model, tokenizer, REQUESTS[(place + OTHER) % len(REQUESTS)][0], answer)
        fits.append(own.answer - other.answer)
        ends.append(own.ends[-1])
        midway.append(max(own.ends[:-2]))  # before the last mark of punctuation, where an answer may well end
    return Probe(round(median(fits), 3), round(exp(median(ends)), 6), round(exp(median(midway)), 6))


@dataclass(frozen=True)
class Read:
    """Log-probabilities after a request: the answer's tokens, their mean; the turn's end, before each and after all."""

    answer: float
    ends: list[float]


def _after(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", request: str, answer: str) -> Read:
    import torch

    from stages.models.chat import encode, prompt_ids

    prompt, said = prompt_ids(tokenizer, [{"role": "user", "content": request}]), encode(tokenizer, answer)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + said], device=model.device)).logits[0, len(prompt) - 1 :]
    logs = logits.float().log_softmax(-1)
    tokens = torch.tensor(said, device=logs.device)
    likely = logs[:-1].gather(1, tokens[:, None]).mean()
    return Read(likely.item(), _ends(logs, _end_ids(tokenizer, request, answer)))


def _ends(logs: "torch.Tensor", ids: list[int]) -> list[float]:
    return logs[:, ids].logsumexp(-1).tolist()


def _end_ids(tokenizer: "PreTrainedTokenizerBase", request: str, answer: str) -> list[int]:
    """EOS, and the special token that the template itself writes after an answer, where it is another."""
    from stages.models.chat import encode, render

    turns = [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
    _, _, rest = render(tokenizer, turns, generation_prompt=False).rpartition(answer)
    added = tokenizer.added_tokens_decoder
    after = [token for token in encode(tokenizer, rest)[:1] if token in added and added[token].special]
    return list({tokenizer.eos_token_id, *after})
