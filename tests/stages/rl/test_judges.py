"""Reward models as judges: on the policy's base its ids are theirs, on another base they read the text."""

import json
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.registry import kind
from pipeline.schema import ModelConfig, PeftConfig, Runtime
from stages.models.chain import Chain, load_policy
from stages.models.chat import answer_ids, encode, prompt_ids
from stages.rewards.model import read_members, score
from stages.rl import judges

ANSWERS = ["the licence allows you", "keep notice", "share this work"]


@pytest.fixture(scope="module")
def foreign_base(bench, base, tmp_path_factory):
    """The same weights under a tokenizer that gives every word another id."""
    from transformers import PreTrainedTokenizerFast

    from stages.models.sources import toy

    model, tokenizer = toy()
    folder = tmp_path_factory.mktemp("foreign")
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    special = set(tokenizer.all_special_ids)
    plain = sorted(id_ for id_ in described["model"]["vocab"].values() if id_ not in special)
    other = dict(zip(plain, reversed(plain), strict=True))
    described["model"]["vocab"] = {word: other.get(i, i) for word, i in described["model"]["vocab"].items()}
    from tokenizers import Tokenizer

    swapped = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)), eos_token=tokenizer.eos_token,
        bos_token=tokenizer.bos_token, pad_token=tokenizer.pad_token, chat_template=tokenizer.chat_template,
    )  # fmt: skip
    model.save_pretrained(folder)
    swapped.save_pretrained(folder)
    config = kind("base").config(kind="base", model=ModelConfig(source=str(folder)))
    return bench.run(bench.context("foreign", config, {}, {})).artifact


@pytest.fixture(scope="module")
def foreign_reward(bench, foreign_base, rows):
    """A reward model on that base."""
    held = bench.data("held", rows.pairs(4))
    (held.path / "data" / "heldout.jsonl").write_text((held.path / "data" / "train.jsonl").read_text())
    return bench.train("reward", foreign_base, {"train": bench.data("pairs", rows.pairs(8)), "heldout": held}).artifact


@pytest.fixture
def opened(bench, base, foreign_reward, rows):
    """opened(rerender) -> roles, the reward, and rows to score answers to."""

    def make(rerender):
        mapping = {"terms": {"helpful": {"kind": "model"}}, "rerender": rerender}
        config = SimpleNamespace(peft=PeftConfig(r=4), runtime=Runtime(threads=1, device="cpu"), seed=0)
        ctx = bench.context("ppo", config, {"policy": base, "reward": foreign_reward}, {})
        roles = judges.open_shared(ctx, {"reward": judges.read(mapping)})
        asked = rows.pairs(3)
        return roles, judges.read_reward(ctx, roles, mapping, asked), asked

    return make


def ids_of(tokenizer, rows):
    return [prompt_ids(tokenizer, row["prompt"]) for row in rows], [answer_ids(tokenizer, text) for text in ANSWERS]


def test_the_tokenizers_differ(base, foreign_base, bench):
    own, other = (load_policy(artifact, dict(bench.made), device="cpu") for artifact in (base, foreign_base))
    assert Chain.read(base).tokenizer_digest != Chain.read(foreign_base).tokenizer_digest
    assert encode(own.tokenizer, ANSWERS[0]) != encode(other.tokenizer, ANSWERS[0])
    assert other.tokenizer.decode(encode(other.tokenizer, ANSWERS[0])) == ANSWERS[0]


def test_a_reward_model_with_another_tokenizer_is_refused(opened):
    with pytest.raises(ConfigError, match=r"reward.terms.helpful: .* another tokenizer .* Set reward.rerender=true"):
        opened(rerender=False)


def test_rerendered_it_scores_what_the_text_says_and_the_policys_ids_would_say_something_else(
    opened, bench, foreign_reward
):
    roles, reward, asked = opened(rerender=True)
    prompts, answers = ids_of(roles.policy.tokenizer, asked)
    found = reward(asked, prompts, answers, ANSWERS, [True] * 3).total
    alone, members = load_policy(foreign_reward, dict(bench.made), device="cpu"), read_members(foreign_reward)

    def scored(prompts, answers):
        raw = score(alone, members, [p + a for p, a in zip(prompts, answers, strict=True)])
        return members[0].reward(raw[0])

    assert torch.allclose(found, scored(*ids_of(alone.tokenizer, asked)), atol=1e-5)
    mistaken = scored(prompts, answers)  # the policy's ids, read by the other vocabulary
    assert not torch.allclose(found, mistaken, atol=1e-2)


def test_an_answer_that_was_cut_is_not_ended_by_rendering(opened):
    roles, reward, asked = opened(rerender=True)
    prompts, answers = ids_of(roles.policy.tokenizer, asked)
    whole = reward(asked, prompts, answers, ANSWERS, [True] * 3).total
    cut = reward(asked, prompts, [ids[:-1] for ids in answers], ANSWERS, [False] * 3).total
    assert not torch.allclose(whole, cut, atol=1e-4)
