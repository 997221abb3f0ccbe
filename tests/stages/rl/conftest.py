"""A learner on a model of two small layers, and rewards that a test writes itself."""

from types import SimpleNamespace

import pytest
import torch
from kernel_toys import ids, net, tokenizer
from peft import LoraConfig, get_peft_model

from pipeline.schema import PeftConfig
from stages.kernels.step import install
from stages.models.chain import Policy
from stages.models.roles import Roles
from stages.ppo import PpoConfig
from stages.rewards.combined import Parts
from stages.rl.actor import Actor, ValueHead
from stages.rl.config import PpoTrain, Rollouts
from stages.rl.ppo import Ppo, trained_parameters


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Rewarded:
    """A reward that is a function of the ids of an answer and of its prompt."""

    def __init__(self, of_answer):
        self.of_answer, self.seen = of_answer, []

    def __call__(self, rows, prompts, answers, texts, ended, learn=True):
        self.seen.append(answers)
        total = torch.tensor([float(self.of_answer(a, p)) for a, p in zip(answers, prompts, strict=True)])
        return Parts(total, {"own": total}, {})

    def state(self):
        return {}

    def load(self, state):
        assert state == {}


@pytest.fixture
def make_learner():
    """make_learner(of_answer, fast=True, dtype=..., seed=0, prompts=..., rollout={}, batch_size=4, **train)"""

    def make(
        of_answer=lambda ids, _: len(ids) / 8, *, fast=True, dtype=torch.float32, seed=0, prompts=None, rollout=None,
        batch_size=4, micro_batch=3, value_adapter=False, architecture="llama", large=4, **train,
    ):  # fmt: skip
        model = net(architecture, dtype, large=large)
        prompts = prompts or [ids(900 + i, 5 + i % 7) for i in range(8)]
        torch.manual_seed(seed)
        adapter = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        wrapped = get_peft_model(model, adapter, autocast_adapter_dtype=dtype != torch.float64)
        policy = Policy(model, tokenizer(), None, "cpu")
        roles = Roles(policy, wrapped, {"reference": (), "policy": ("default",)})
        if dtype == torch.float64:
            wrapped.to(dtype)
        roles.switch("policy")
        if fast:
            assert install(model, "fast").startswith("fast")
        if value_adapter:
            roles.add_trained("value", None, adapter)
            roles.adapters["value"] = ("value",)
        model.eval()
        config = PpoConfig(
            kind="ppo", batch_size=batch_size, seed=seed, peft=PeftConfig(r=4, alpha=8.0),
            rollout=Rollouts(**{"max_new_tokens": 6, **(rollout or {})}),
            train=PpoTrain(**{"minibatches": 2, "num_ppo_epochs": 2, "learning_rate": 1e-2, **train}),
        )  # fmt: skip
        actor = Actor(roles, ValueHead(model.config.hidden_size, dtype, "cpu"), fast, config.rollout.temperature)
        parameters = [p for _, p in trained_parameters(actor)]
        optimizer = torch.optim.AdamW(parameters, lr=config.train.learning_rate, weight_decay=0.0, eps=1e-5)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        rows = [{"id": str(i), "prompt": [{"role": "user", "content": "?"}]} for i in range(len(prompts))]
        return Ppo(
            actor, Rewarded(of_answer), None, optimizer, scheduler, config, rows, prompts, micro_batch,
            config.train.kl_coef,
        )  # fmt: skip

    return make


@pytest.fixture
def plain():
    """The reference: log-probabilities, entropies and values of one answer by a plain forward pass."""

    def see(learner, prompt, answer, role="policy"):
        model = learner.actor.roles.policy.model
        with learner.actor.roles.playing(role):
            output = model(torch.tensor([prompt + answer]), output_hidden_states=True, use_cache=False)
        at = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
        log_p = torch.log_softmax(output.logits[0, at].to(learner.actor.value_head.weight.dtype), -1)
        chosen = log_p.gather(1, torch.tensor(answer)[:, None])[:, 0]
        values = learner.actor.value_head(output.hidden_states[-1][0, at])
        return SimpleNamespace(log_probs=chosen, entropy=-(log_p.exp() * log_p).sum(-1), values=values)

    return see
