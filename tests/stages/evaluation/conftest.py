"""Toy policies for the measurements, and plain references for what they compute."""

import pytest


@pytest.fixture(scope="session")
def policy():
    import torch

    from stages.models.chain import Chain, Policy
    from stages.models.sources import toy

    torch.set_num_threads(1)
    model, tokenizer = toy()
    return Policy(model.double().eval(), tokenizer, Chain(base={}), "cpu")


@pytest.fixture(scope="session")
def capped(policy):
    """An architecture that does something to its logits (soft cap) and looks back 8 tokens in every other layer."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from stages.models.chain import Policy

    torch.manual_seed(1)
    config = Gemma2Config(
        vocab_size=len(policy.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=16,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=8, final_logit_softcapping=0.5,
        attn_implementation="eager", eos_token_id=2, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return Policy(Gemma2ForCausalLM(config).eval(), policy.tokenizer, policy.chain, "cpu")


@pytest.fixture(scope="session")
def reference():
    """reference(policy, prompt ids, answer ids) -> log-probability of every answer token, one plain full pass."""
    import torch

    @torch.inference_mode()
    def log_probs(policy, prompt, answer):
        logits = policy.model(torch.tensor([[*prompt, *answer]])).logits[0].float()
        rows = logits.log_softmax(dim=-1)[len(prompt) - 1 : -1]
        return [rows[k, token].item() for k, token in enumerate(answer)]

    return log_probs


QUESTIONS = [
    "Which licence is this?",
    "May I sell it?",
    "Which category does this licence belong to, and what must I do when I distribute the work?",
    "Who?",
    "Which licence asks that the source code goes with the program?",
]


@pytest.fixture
def questions():
    return [{"id": f"q{k}", "prompt": [{"role": "user", "content": text}]} for k, text in enumerate(QUESTIONS)]
