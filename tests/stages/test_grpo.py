"""`grpo`: arguments that its losses would pass over are refused; what it has in common with rloo is in test_online."""

import pytest

from pipeline.errors import ConfigError
from stages.grpo import Grpo

REWARD = {"terms": {"short": {"kind": "length", "free": 4}}}


def config(bench, **changes):
    train = {"num_generations": 4, "max_completion_length": 5, **changes.pop("train", {})}
    return bench.config("grpo", data={"train": "d"}, reward=REWARD, batch_size=8, train=train, **changes)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"loss_type": "ppo"}, r"train\.loss_type='ppo': known are grpo"),
        ({"sapo_temperature_pos": 2.0}, r"sapo_temperature_pos is read with train\.loss_type=sapo only"),
        ({"loss_type": "sapo", "vespo_k_pos": 1.0}, r"vespo_k_pos is read with train\.loss_type=vespo only"),
        ({"entropy_target": 0.5}, r"entropy_target is read with train\.use_adaptive_entropy=true only"),
        ({"entropy_coef": 0.01}, r"entropy_coef needs the gradient of the entropy.*set step: trl"),
        ({"importance_sampling_level": "sequence"}, r"importance_sampling_level=sequence: the loss dapo adds up"),
        ({"loss_type": "luspo"}, r"luspo is defined with train\.importance_sampling_level=sequence"),
        ({"cast_lm_head_to_fp32": True}, r"cast_lm_head_to_fp32 is not yours to set"),
    ],
)
def test_what_a_loss_would_pass_over_is_refused(bench, train, message):
    with pytest.raises(ConfigError, match=message):
        Grpo().validate(config(bench, train=train))


@pytest.mark.parametrize(
    ("train", "step"),
    [
        ({"loss_type": "grpo", "importance_sampling_level": "sequence"}, "fast"),
        ({"loss_type": "sapo", "sapo_temperature_pos": 2.0}, "fast"),
        ({"entropy_coef": 0.01}, "trl"),
    ],
)
def test_what_a_loss_reads_is_allowed(bench, train, step):
    Grpo().validate(config(bench, train=train, step=step))


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo"])
def test_every_loss_takes_a_step(bench, base, rows, loss):
    level = {"importance_sampling_level": "sequence"} if loss == "luspo" else {}
    train = {"loss_type": loss, "num_generations": 4, "max_completion_length": 5, "max_steps": 1, **level}
    data = {"train": bench.data("prompts", rows.pairs(4))}
    made = bench.train("grpo", base, data, reward=REWARD, batch_size=8, train=train)
    assert made.metrics["steps"] == 1 and made.sections["training"]["step"].startswith("fast")
