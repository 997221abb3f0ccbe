"""`dpo`: the reference is the input policy with its whole chain, pairs are counted, and a falling answer is told."""

import json

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ConfigError, DataError
from stages.dpo import Dpo
from stages.models.chain import base_model, load_policy
from stages.models.chat import answer_ids, encode, prompt_ids
from stages.training.arguments import CHOICES


@pytest.fixture
def trainers(monkeypatch):
    """The DPO trainers that were made."""
    from trl import DPOTrainer

    made = []
    real = DPOTrainer.train

    def train(self, *args, **kwargs):
        made.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(DPOTrainer, "train", train)
    return made


def peft_stack(base, *upstream):
    """The input policy by PEFT alone: the independent reference."""
    from peft import PeftModel

    folders = [item.path / "model" / "adapter" for item in upstream]
    model = PeftModel.from_pretrained(base_model(base.path / "model", "cpu"), folders[0], adapter_name="a0")
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{number}")
    model.base_model.set_adapter([f"a{number}" for number in range(len(folders))])
    return model.eval()


def log_probability(model, prompt, answer):
    """log p(answer | prompt), summed, by full logits."""
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None]).sum())


def references(trainer, model):
    """(recorded, expected) reference log-probabilities of every pair."""
    for row in trainer.train_dataset:
        for side in ("chosen", "rejected"):
            expected = log_probability(model, row["prompt_ids"], row[f"{side}_ids"])
            yield row[f"ref_{side}_logps"], expected


def test_reference_is_the_input_policy_with_its_two_adapters(bench, base, sft, domain, pair_data, trainers):
    """The libraries' trap: the reference of a stack of adapters is the bare base."""
    bench.train("dpo", domain.artifact, {"train": pair_data}, train={"precompute_ref_log_probs": True})
    (trainer,) = trainers
    whole = peft_stack(base, sft.artifact, domain.artifact)
    found = list(references(trainer, whole))
    assert len(found) == 24
    for recorded, expected in found:
        assert recorded == pytest.approx(expected, abs=2e-4)
    for wrong in (base_model(base.path / "model", "cpu"), peft_stack(base, sft.artifact)):
        assert max(abs(recorded - expected) for recorded, expected in references(trainer, wrong)) > 0.1


def test_reference_computed_on_the_fly_is_the_same(bench, domain, pair_data):
    made = [
        bench.train("dpo", domain.artifact, {"train": pair_data}, train={"precompute_ref_log_probs": before})
        for before in (True, False)
    ]
    for name in ("first_loss", "final_loss", "reward_margins"):
        assert made[0].metrics[name] == pytest.approx(made[1].metrics[name], abs=1e-4)


def test_loss_starts_at_log_2_and_falls(bench, domain, pair_data):
    made = bench.train("dpo", domain.artifact, {"train": pair_data}, train={"num_train_epochs": 4})
    assert made.metrics["first_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert made.metrics["final_loss"] < 0.65 and made.metrics["reward_margins"] > 0


def test_beta_arrives_in_the_trainer(bench, domain, pair_data, trainers):
    for beta in (0.1, 0.7):
        bench.train("dpo", domain.artifact, {"train": pair_data}, train={"beta": beta, "max_steps": 1})
    assert [trainer.beta for trainer in trainers] == [0.1, 0.7]


def test_pairs_are_rendered_as_generation_meets_them_and_end_in_eos(bench, domain, pair_data, trainers, tokenizer):
    from stages.data import artifact

    bench.train("dpo", domain.artifact, {"train": pair_data}, train={"max_steps": 1})
    rows = {tuple(encode(tokenizer, row["chosen"])): row for row in artifact.rows(pair_data)}
    for row in trainers[0].train_dataset:
        source = rows[tuple(row["chosen_ids"][:-1])]
        assert row["prompt_ids"] == prompt_ids(tokenizer, source["prompt"])
        for side in ("chosen", "rejected"):
            assert row[f"{side}_ids"] == answer_ids(tokenizer, source[side])


def test_counts_of_what_is_too_long_or_equal(bench, base, rows):
    def pair(name, prompt, chosen, rejected):
        return {"id": name, "prompt": [{"role": "user", "content": prompt}], "chosen": chosen, "rejected": rejected}

    odd = [
        pair("equal", "May I copy it?", "Yes.", "Yes."),
        pair("long prompt", "copy the work " * 60, "Yes.", "No."),
        pair("long answer", "May I?", "Yes.", "no way " * 60),
    ]
    recorded = bench.train("dpo", base, {"train": bench.data("pairs", [*rows.pairs(5), *odd])}).sections["data"]
    assert recorded["rejected_because"] == {"longer than max_length": 2, "chosen equals rejected": 1}
    assert (recorded["rows_kept"], recorded["rows_rejected"], recorded["rows_available"]) == (5, 3, 8)


def test_when_no_pair_is_left_the_data_is_refused(bench, base, rows):
    with pytest.raises(DataError, match=r"0 rows of pairs"):
        bench.train("dpo", base, {"train": bench.data("pairs", rows.pairs(3))}, max_length=8)


def test_max_pairs_draws_under_the_seed(bench, base, pair_data, trainers):
    def drawn(**settings):
        made = bench.train("dpo", base, {"train": pair_data}, max_pairs=4, train={"max_steps": 1}, **settings)
        assert made.sections["data"]["rows_kept"] == 4
        return sorted(map(tuple, trainers[-1].train_dataset["chosen_ids"]))

    assert drawn() == drawn() != drawn(seed=5)


def test_alarm_when_the_chosen_answers_fall(bench, domain, pair_data, monkeypatch):
    from stages import dpo as module

    ctx = bench.context("dpo", bench.config("dpo"), {}, {})

    def trainer(*rewards):
        logged = [
            {"rewards/chosen": value, "rewards/margins": 1.0, "rewards/accuracies": 1.0, "loss": 0.5}
            for value in rewards
        ]
        return type("T", (), {"state": type("S", (), {"log_history": logged})})

    assert module._alarms(ctx, trainer(-1, -1, -1, 0.5))["reward_chosen"] == 0.5  # the last quarter counts
    assert "alarms" not in ctx.sections
    assert module._alarms(ctx, trainer(1, 1, 1, -0.5))["reward_chosen"] == -0.5
    (alarm,) = ctx.sections["alarms"]
    assert alarm["name"] == "chosen_probability_fell" and "train.beta" in alarm["detail"]


def test_the_alarm_fires_in_a_run_and_says_what_to_change(bench, domain, pair_data):
    """apo_down makes the chosen answers less probable by design."""
    made = bench.train("dpo", domain.artifact, {"train": pair_data}, train={"loss_type": "apo_down"})
    (alarm,) = made.sections["alarms"]
    assert made.metrics["reward_chosen"] < 0 and alarm["name"] == "chosen_probability_fell"
    for advice in ("raise train.beta", "lower the learning rate", "train.loss_type=[sigmoid,sft]"):
        assert advice in alarm["detail"]


SMOOTHED = {"exo_pair": 0.05, "robust": 0.1, "aot": 0.1, "aot_unpaired": 0.1}


@pytest.mark.parametrize("loss", CHOICES["DPOConfig", "loss_type"])
def test_one_step_of_every_loss_is_trls_own(bench, domain, pair_data, loss):
    """The adapter after one step of plain gradient descent, which scales no small difference up as Adam does."""
    train = {"loss_type": [loss], "label_smoothing": SMOOTHED.get(loss, 0.0), "optim": "sgd", "max_steps": 1}
    fast, trl = (
        bench.train("dpo", domain.artifact, {"train": pair_data}, train=train, step=step) for step in ("fast", "trl")
    )
    assert fast.sections["training"]["step"].startswith("fast")
    assert trl.sections["training"]["step"] == "trl (asked for)"
    assert fast.metrics["first_loss"] == pytest.approx(trl.metrics["first_loss"], rel=1e-5)
    ours, theirs = (load_file(made.artifact.path / "model" / "adapter" / "adapter_model.safetensors")
                    for made in (fast, trl))  # fmt: skip
    moved = {name: value for name, value in theirs.items() if "lora_B" in name}
    assert max(float(value.abs().max()) for value in moved.values()) > 1e-6, "nothing was trained"
    for name, value in moved.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-7)


def test_recorded_reward_is_the_change_of_the_log_probability(bench, base, sft, domain, pair_data, trainers):
    """The number that the alarm watches, against log p before and after, for a run whose last step saw all pairs."""
    train = {"max_steps": 6, "learning_rate": 0.05, "precompute_ref_log_probs": True}
    made = bench.train("dpo", domain.artifact, {"train": pair_data}, batch_size=12, train=train)
    history = [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]
    lineage = {item.id: item for item in (base, sft.artifact, domain.artifact)}
    rows = list(trainers[0].train_dataset)
    after = load_policy(made.artifact, lineage, device="cpu").model
    moved = sum(log_probability(after, r["prompt_ids"], r["chosen_ids"]) - r["ref_chosen_logps"] for r in rows)
    assert 0.1 * moved / len(rows) == pytest.approx(history[-1]["rewards/chosen"], abs=0.5 * abs(moved) / len(rows))
    assert (moved > 0) == (history[-1]["rewards/chosen"] > 0)


@pytest.mark.parametrize(
    ("train", "recorded"),
    [
        ({}, True),
        ({"loss_weights": [2.0]}, False),
        ({"loss_type": ["sigmoid", "sft"]}, False),
        ({"loss_type": ["ipo"]}, False),
    ],
)
def test_log_2_is_expected_of_the_plain_sigmoid_loss_only(bench, domain, pair_data, train, recorded):
    made = bench.train("dpo", domain.artifact, {"train": pair_data}, train={"max_steps": 1, **train})
    assert ("loss_is_log_2" in [probe["name"] for probe in made.sections["probes"]]) is recorded


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {}}, r"data\.train: name the data set of preference pairs"),
        ({"train": {"betta": 0.1}}, r"train\.betta: DPOConfig has no such field; did you mean train\.beta\?"),
        ({"train": {"loss_type": ["dpo"]}}, r"train\.loss_type='dpo': known are sigmoid"),
        ({"train": {"label_smoothing": 0.1}}, r"train\.label_smoothing is not read by the loss sigmoid"),
        ({"train": {"sync_ref_model": True}}, r"train\.sync_ref_model is not yours to set"),
        ({"max_pairs": -1}, r"max_pairs=-1"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(bench, settings, message):
    config = bench.config("dpo", **{"data": {"train": "pairs"}, **settings})
    with pytest.raises(ConfigError, match=message):
        Dpo().validate(config)
    ok = {"loss_type": ["robust"], "label_smoothing": 0.1}
    Dpo().validate(bench.config("dpo", data={"train": "pairs"}, train=ok))
