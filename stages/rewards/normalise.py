"""The answers that earn 0 on average: without them a reward has no zero, because only differences are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from stages.models.chain import Policy

ANSWERS = ("policy", "chosen")


@dataclass
class Normalise:
    """Which answers earn 0 on average, with a standard deviation of 1."""

    answers: str = "policy"  # policy: what the input policy writes to training prompts; chosen: the training set's own
    count: int = 64  # answers
    max_new_tokens: int = 64  # of an answer that the policy writes; a longer one is cut, and ended there


def check(asked: Normalise) -> None:
    """ConfigError for settings that cannot work."""
    if asked.answers not in ANSWERS:
        raise ConfigError(f"normalise.answers={asked.answers}: use one of {', '.join(ANSWERS)}")
    if asked.count < 2:
        raise ConfigError(f"normalise.count={asked.count}: a mean and a scale need 2 answers or more")
    if asked.max_new_tokens < 1:
        raise ConfigError(f"normalise.max_new_tokens={asked.max_new_tokens}: at least 1")


def usual_answers(
    policy: Policy, prompts: Sequence[list[int]], chosen: Sequence[list[int]], asked: Normalise, seed: int
) -> tuple[list[list[int]], dict[str, Any]]:
    """Sequences of prompt and answer, EOS included, and what the artifact says of them.

    `prompts` and `chosen`: of each training pair, as token ids.
    """
    if asked.answers == "chosen":
        usual = [prompt + answer for prompt, answer in zip(prompts, chosen, strict=True)][: asked.count]
        said: dict[str, Any] = {"answers": "chosen answers of the training set"}
    else:
        usual, cut = _written(policy, prompts, asked, seed)
        said = {"answers": "answers of the input policy, drawn at temperature 1, to prompts of the training set",
                "cut": cut, "max_new_tokens": asked.max_new_tokens}  # fmt: skip
    return usual, {**said, "count": len(usual), "reward": "(raw - mean) / scale", "scale": "standard deviation of raw"}


def _written(policy: Policy, prompts: Sequence[list[int]], asked: Normalise, seed: int) -> tuple[list[list[int]], int]:
    """The policy's answers, equally many to each of as many prompts as it takes; and how many of them were cut."""
    from stages.kernels.rollout import Sampling, rollout

    different = [list(ids) for ids in dict.fromkeys(map(tuple, prompts))][: asked.count]
    samples = -(-asked.count // len(different))
    answers = rollout(policy, different, Sampling(asked.max_new_tokens, samples=samples, seed=seed))[: asked.count]
    eos = policy.tokenizer.eos_token_id
    usual = [different[i // samples] + answer.ids + [eos] for i, answer in enumerate(answers)]
    return usual, sum(not answer.ended for answer in answers)
