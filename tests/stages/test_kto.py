"""`kto`: answers labelled good or bad, one by one or as pairs; TRL's loss and KL against the paper's formula."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ConfigError, DataError
from pipeline.schema import Runtime
from stages.kto import Kto, Labelled, _dataset
from stages.models.chain import base_model
from stages.models.chat import answer_ids, prompt_ids


def labelled(rows, count, good=lambda i: i % 2 == 0):
    """`count` answers to prompts of their own, every second one good."""
    return [
        {"id": f"l{i}", "prompt": pair["prompt"], "completion": pair["chosen"], "label": good(i)}
        for i, pair in enumerate(rows.pairs(count))
    ]


@pytest.fixture(scope="module")
def label_data(bench, rows):
    return bench.data("labels", labelled(rows, 12))


@pytest.fixture
def trainers(monkeypatch):
    """The KTO trainers that were made."""
    from trl import KTOTrainer

    made = []
    real = KTOTrainer.train

    def train(self, *args, **kwargs):
        made.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(KTOTrainer, "train", train)
    return made


def moved(bench, domain, rows, **train):
    """A trainer whose policy has left its reference."""
    from stages import kto
    from stages.training import run

    config = bench.config("kto", batch_size=len(rows), train={"precompute_ref_log_probs": True, **train})
    ctx = bench.context("kto", config, {"policy": domain.artifact}, {"train": bench.data("labels", rows)})
    policy = run.open_policy(ctx)
    trainer = kto._trainer(ctx, policy, kto._answers(ctx, policy))
    generator = torch.Generator().manual_seed(0)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator) / 10
    return trainer


def log_ratio(model, prompt, answer):
    """log pi(answer|prompt) - log pi_ref(answer|prompt), by full logits."""

    def log_p():
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None]).sum())

    with torch.no_grad():
        now = log_p()
        with model.disable_adapter():
            return now - log_p()


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_the_loss_is_the_papers(bench, domain, rows, loss):
    """Ethayarajh et al. 2024, equations 5 to 7: z is the mean log-ratio of mismatched answers, never below 0."""
    beta, desirable, undesirable = 0.3, 1.5, 0.5
    trainer = moved(bench, domain, labelled(rows, 5), loss_type=loss, beta=beta, desirable_weight=desirable,
                    undesirable_weight=undesirable)  # fmt: skip
    data = list(trainer.train_dataset)
    trainer.model.train()
    found = float(trainer.compute_loss(trainer.model, trainer.data_collator(data)))
    z = 0.0
    if loss == "kto":
        answers = [row["completion_ids"] for row in data]
        mixed = [log_ratio(trainer.model, row["prompt_ids"], answers[i - 1]) for i, row in enumerate(data)]
        z = max(0.0, sum(mixed) / len(mixed))
    losses = []
    for row in data:
        ratio = log_ratio(trainer.model, row["prompt_ids"], row["completion_ids"])
        value, weight = (ratio - z, desirable) if row["label"] else (z - ratio, undesirable)
        losses.append(weight * (1 - torch.sigmoid(torch.tensor(beta * value))))
    assert found == pytest.approx(float(sum(losses) / len(losses)), rel=1e-4)
    assert {row["label"] for row in data} == {True, False}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_one_step_is_trls_own(bench, domain, label_data, loss, before):
    """The adapter after one step of plain gradient descent with the fast step and with TRL's."""
    train = {"loss_type": loss, "optim": "sgd", "max_steps": 1, "precompute_ref_log_probs": before}
    fast, trl = (
        bench.train("kto", domain.artifact, {"train": label_data}, train=train, step=step) for step in ("fast", "trl")
    )
    assert fast.sections["training"]["step"].startswith("fast")
    ours, theirs = (load_file(made.artifact.path / "model" / "adapter" / "adapter_model.safetensors")
                    for made in (fast, trl))  # fmt: skip
    moved = {name: value for name, value in theirs.items() if "lora_B" in name}
    assert max(float(value.abs().max()) for value in moved.values()) > 1e-6, "nothing was trained"
    for name, value in moved.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-7)


def test_the_reference_is_the_input_policy(bench, base, sft, domain, label_data, trainers):
    from peft import PeftModel

    bench.train("kto", domain.artifact, {"train": label_data}, train={"precompute_ref_log_probs": True})
    whole = PeftModel.from_pretrained(
        base_model(base.path / "model", "cpu"), sft.artifact.path / "model" / "adapter", adapter_name="a0"
    )
    whole.load_adapter(domain.artifact.path / "model" / "adapter", adapter_name="a1")
    whole.base_model.set_adapter(["a0", "a1"])
    whole.eval()
    for row in trainers[0].train_dataset:
        for answer, number in (("completion_ids", "ref_logps"), ("KL_completion_ids", "ref_KL_logps")):
            ids = torch.tensor([row["prompt_ids"] + row[answer]])
            with torch.no_grad():
                logits = whole(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1]
            wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(row[answer])[:, None]).sum()
            assert row[number] == pytest.approx(float(wanted), abs=2e-4)


def test_the_loss_starts_at_half_and_falls(bench, domain, label_data):
    train = {"num_train_epochs": 15, "precompute_ref_log_probs": True, "beta": 0.5, "learning_rate": 0.01}
    made = bench.train("kto", domain.artifact, {"train": label_data}, batch_size=12, train=train)
    assert made.metrics["first_loss"] == pytest.approx(0.5, abs=1e-3)
    assert made.metrics["final_loss"] < 0.48 and made.metrics["reward_margins"] > 0
    assert [probe["name"] for probe in made.sections["probes"]][-3:] == [
        "starts_at_input", "reference_is_input", "loss_is_half",
    ]  # fmt: skip
    assert "alarms" not in made.sections


def test_a_prompt_with_another_s_answer_is_cut_like_every_sequence():
    """TRL would cut it anyway; the reference's number is kept under these tokens, whatever `max_length` is."""
    answers = [Labelled([1], [2, 3, 4, 5], True), Labelled([1, 2, 3], [6, 7], False)]
    config = SimpleNamespace(max_length=5, batch_size=2, train={})
    assert _dataset(config, answers)["KL_completion_ids"][:] == [[6, 7], [2, 3]]


def test_a_pair_is_a_good_and_a_bad_answer(bench, base, rows, trainers, tokenizer):
    (pair,) = rows.pairs(1)
    made = bench.train("kto", base, {"train": bench.data("pairs", [pair])}, batch_size=2, train={"max_steps": 1})
    found = {row["label"]: row for row in trainers[0].train_dataset}
    for label, side in ((True, "chosen"), (False, "rejected")):
        assert found[label]["completion_ids"] == answer_ids(tokenizer, pair[side])
        assert found[label]["prompt_ids"] == prompt_ids(tokenizer, pair["prompt"])
    assert found[True]["KL_completion_ids"] == found[False]["completion_ids"]
    data = made.sections["data"]
    assert (data["rows_available"], data["answers_available"], data["rows_kept"], data["good"]) == (1, 2, 2, 1)


def test_a_batch_of_one_answer_is_left_out_where_kl_needs_two(bench, base, rows):
    data = {"train": bench.data("labels", labelled(rows, 9))}
    kept = {
        loss: bench.train("kto", base, data, train={"loss_type": loss, "max_steps": 1}).sections["data"]["rows_kept"]
        for loss in ("kto", "apo_zero_unpaired")
    }
    assert kept == {"kto": 8, "apo_zero_unpaired": 9}


@pytest.mark.parametrize(
    ("good", "weights", "told"),
    [
        (lambda i: i % 4 == 0, {}, r"3 good and 9 bad .* train\.desirable_weight between 3 and 4"),
        (lambda i: i % 4 == 0, {"desirable_weight": 3.0}, None),
        (lambda i: i % 4 == 0, {"undesirable_weight": 0.3}, None),
        (lambda i: True, {}, r"12 good and 0 bad .*add answers of the other label"),
    ],
)
def test_an_alarm_where_one_label_outweighs_the_other(bench, base, rows, good, weights, told):
    import re

    data = {"train": bench.data("labels", labelled(rows, 12, good))}
    made = bench.train("kto", base, data, train={"max_steps": 1, **weights})
    alarms = {alarm["name"]: alarm["detail"] for alarm in made.sections.get("alarms", [])}
    assert bool(alarms.get("labels_out_of_balance")) is bool(told)
    assert not told or re.search(told, alarms["labels_out_of_balance"])


def test_an_alarm_where_good_answers_become_less_likely(bench, domain, rows):
    """Nearly all the weight on pushing down the bad one of two answers that say the same."""
    pairs = [{**pair, "rejected": pair["chosen"] + " too"} for pair in rows.pairs(8)]
    train = {"undesirable_weight": 50.0, "desirable_weight": 0.02, "num_train_epochs": 3}
    made = bench.train("kto", domain.artifact, {"train": bench.data("pairs", pairs)}, train=train)
    alarms = {alarm["name"]: alarm["detail"] for alarm in made.sections["alarms"]}
    assert made.metrics["reward_chosen"] < 0 and "train.desirable_weight" in alarms["chosen_probability_fell"]


def test_max_rows_draws_under_the_seed(bench, base, label_data, trainers):
    def drawn(**settings):
        bench.train("kto", base, {"train": label_data}, max_rows=4, train={"max_steps": 1}, **settings)
        return sorted(map(tuple, trainers[-1].train_dataset["completion_ids"]))

    assert len(drawn()) == 4 and drawn() == drawn() != drawn(seed=5)


def test_when_nothing_is_left_the_data_is_refused(bench, base, label_data):
    with pytest.raises(DataError, match=r"0 rows of labels"):
        bench.train("kto", base, {"train": label_data}, max_length=8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {}}, r"data\.train: name the data set of labelled answers"),
        ({"max_rows": -1}, r"max_rows=-1"),
        ({"batch_size": 1}, r"batch_size=1: the KL of the loss kto"),
        ({"runtime": Runtime(micro_batch=2)}, r"KL estimate of the loss kto depends on which rows"),
        ({"train": {"loss_type": "bco"}}, r"train\.loss_type='bco': known are kto, apo_zero_unpaired"),
        ({"train": {"beta": 0.0}}, r"train\.beta=0\.0"),
        ({"train": {"undesirable_weight": -1.0}}, r"train\.undesirable_weight=-1\.0"),
        ({"train": {"train_sampling_strategy": "random"}}, r"train_sampling_strategy: the order of rows follows"),
        ({"train": {"precompute_ref_batch_size": 2}}, r"precompute_ref_batch_size is not read"),
        ({"train": {"sync_ref_model": True}}, r"sync_ref_model is not yours"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(bench, settings, message):
    config = bench.config("kto", **{"data": {"train": "labels"}, **settings})
    with pytest.raises(ConfigError, match=message):
        Kto().validate(config)
    Kto().validate(bench.config("kto", data={"train": "labels"}))
