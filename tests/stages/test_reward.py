"""`reward`: trained on the input policy, published with its head, normalised, measured on held-out pairs, resumable."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

from pipeline.errors import ConfigError, DataError, StageFailed
from pipeline.registry import kind
from pipeline.schema import PeftConfig, Runtime
from stages.data import artifact
from stages.models.chain import Chain, load_policy
from stages.models.chat import answer_ids, prompt_ids
from stages.reward import Normalise, Reward, Votes, member_seed
from stages.rewards.model import read_members, score


def results(made):
    """(summary.json, the rows of items.parquet)."""
    folder = made.artifact.path / "results"
    return json.loads((folder / "summary.json").read_text()), parquet.read_table(folder / "items.parquet").to_pylist()


def files(made):
    """Every published file but the manifest; the artifact's own name is not content."""
    return {
        str(path.relative_to(made.artifact.path)): path.read_bytes().replace(made.artifact.id.encode(), b"ID")
        for path in made.artifact.path.rglob("*") if path.is_file() and path.name != "manifest.json"
    }  # fmt: skip


def sequences(tokenizer, rows, side):
    return [prompt_ids(tokenizer, row["prompt"]) + answer_ids(tokenizer, row[side]) for row in rows]


# -- what comes out -----------------------------------------------------------------------------------------------
def test_it_learns_the_rule_and_says_how_well(reward):
    assert reward.metrics["heldout_accuracy"] > 0.9 and reward.metrics["brier"] < 0.1
    assert reward.metrics["first_loss"] > reward.metrics["final_loss"]
    assert {"ece", "length_correlation", "spread", "steps"} <= reward.metrics.keys()


def test_what_is_published(reward, domain):
    assert set(files(reward)) == {
        "history.jsonl", "history_1.jsonl", "model/model.json", "results/summary.json", "results/items.parquet",
        *(f"model/adapter_{number}/{name}" for number in (0, 1)
          for name in ("adapter_config.json", "adapter_model.safetensors", "score.safetensors")),
    }  # fmt: skip
    chain, upstream = Chain.read(reward.artifact), Chain.read(domain.artifact)
    assert chain.adapters == upstream.adapters and chain.base == upstream.base
    for number in (0, 1):
        folder = reward.artifact.path / "model" / f"adapter_{number}"
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == chain.base["artifact"] and config["modules_to_save"] is None
        assert all(".lora_" in name for name in load_file(folder / "adapter_model.safetensors"))
        assert load_file(folder / "score.safetensors")["score.weight"].shape == (1, 64)
    assert Reward.produces == "reward"


def test_the_usual_answers_earn_nothing_on_average_and_the_scale_is_stated(train_reward, yes_data, tokenizer):
    made = train_reward(normalise=Normalise("chosen", count=12), train={"max_steps": 3})
    (member,) = read_members(made.artifact)
    said = Chain.read(made.artifact).heads["reward"]["normalisation"]
    assert said["answers"] == "chosen answers of the training set" and said["count"] == 12
    policy = load_policy(made.artifact, made.ctx.lineage, device="cpu")
    (raw,) = score(policy, [member], sequences(tokenizer, artifact.rows(yes_data), "chosen"))
    kept = sorted(raw.tolist())  # the 12 are those that come first in the shuffled order
    assert min(kept) <= member.mean <= max(kept) and member.scale > 0
    whole = train_reward(normalise=Normalise("chosen", count=24), train={"max_steps": 3})
    (member,) = read_members(whole.artifact)
    rewards = member.reward(score(policy, [member], sequences(tokenizer, artifact.rows(yes_data), "chosen"))[0])
    assert float(rewards.mean()) == pytest.approx(0, abs=1e-4)
    assert float(rewards.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_answers_of_the_input_policy_are_usual_by_default(reward):
    said = Chain.read(reward.artifact).heads["reward"]["normalisation"]
    assert said["answers"].startswith("answers of the input policy") and said["count"] == 8
    assert said["max_new_tokens"] == 8 and 0 <= said["cut"] <= 8


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_scores_without_a_scale_are_a_failure(train_reward, monkeypatch, value):
    monkeypatch.setattr("stages.reward.raw_scores", lambda trunk, weight, ids: torch.full((len(ids),), value))
    with pytest.raises(StageFailed, match=r"8 answers that rewards are normalised on get scores without a scale"):
        train_reward(train={"max_steps": 1})


# -- what is measured ---------------------------------------------------------------------------------------------
def test_held_out_results_are_those_of_the_published_files_asked_by_the_policy_itself(reward, yes_data, tokenizer):
    """The stage scores with PEFT's layers and the fast step; here hooks on a freshly loaded chain do it."""
    rows = artifact.rows(yes_data, "heldout")
    policy = load_policy(reward.artifact, reward.ctx.lineage, device="cpu")
    members = read_members(reward.artifact)
    chosen, rejected = (score(policy, members, sequences(tokenizer, rows, side)) for side in ("chosen", "rejected"))
    _, items = results(reward)
    probability = torch.sigmoid(chosen - rejected).mean(0)
    assert [item["probability"] for item in items] == pytest.approx(probability.tolist(), abs=1e-4)
    rewards = torch.stack([member.reward(raw) for member, raw in zip(members, chosen, strict=True)])
    assert [item["reward_chosen"] for item in items] == pytest.approx(rewards.mean(0).tolist(), abs=1e-3)
    assert [item["spread_chosen"] for item in items] == pytest.approx(rewards.std(0).tolist(), abs=1e-3)
    assert [item["item"] for item in items] == [row["id"] for row in rows]


def test_accuracy_has_intervals_overall_and_by_slice(reward):
    summary, items = results(reward)
    accuracy = summary["accuracy"]
    right = np.mean([item["probability"] > 0.5 for item in items])
    assert accuracy["value"] == reward.metrics["heldout_accuracy"] == pytest.approx(right)
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["n"] == 16
    assert {name: part["n"] for name, part in accuracy["slices"].items()} == {"part=even": 8, "part=odd": 8}
    assert summary["members"] == 2 and summary["spread"] == reward.metrics["spread"] > 0


def test_another_set_can_be_held_out(train_reward, bench, yes_data, yes_rows):
    other = bench.data("other", [])
    (other.path / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in yes_rows(50, 53)))
    made = train_reward(data={"train": yes_data, "heldout": other}, train={"max_steps": 1})
    assert [item["item"] for item in results(made)[1]] == ["p50", "p51", "p52"]


def test_without_held_out_rows_it_says_where_to_get_some_before_anything_is_trained(train_reward, bench, yes_rows):
    data = bench.data("alone", yes_rows(0, 4))
    (data.path / "data" / "heldout.jsonl").write_text("")
    with pytest.raises(
        DataError, match=r"set data\.alone\.holdout, or name another set under the stage's data\.heldout"
    ):
        train_reward(data={"train": data})
    config = bench.config("reward", data={"train": "alone"})
    with pytest.raises(DataError, match=r"data set alone has no held-out rows"):
        Reward().preview(config, None, {"train": data})
    assert Reward().preview(bench.config("reward", data={"train": "a", "heldout": "b"}), None, {"train": data}) == {}


# -- votes --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def vote_data(bench, yes_rows):
    """The same pairs as votes of three annotators, the third of whom is always wrong."""

    def votes(row, i):
        sides = {"a": row["chosen"], "b": row["rejected"]} if i % 2 else {"a": row["rejected"], "b": row["chosen"]}
        good = "a" if i % 2 else "b"
        cast = [("ann", good, 3), ("bob", "tie" if i % 5 == 0 else good, 1), ("eve", "ab"[good == "a"], 2)]
        asked = {key: value for key, value in row.items() if key not in ("chosen", "rejected")}
        return {**asked, **sides, "votes": [{"by": by, "prefers": side, "strength": s} for by, side, s in cast]}

    made = bench.data("votes", [votes(row, i) for i, row in enumerate(yes_rows(0, 24))])
    held = [votes(row, i) for i, row in enumerate(yes_rows(24, 40))]
    (made.path / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    return made


def judged_columns(monkeypatch, run):
    """target, margin and weight of every pair, as the trainer was given them."""
    from stages.rewards import trainer

    seen, real = [], trainer.as_dataset
    monkeypatch.setattr(trainer, "as_dataset", lambda pairs, said: seen.append(said) or real(pairs, said))
    made = run()
    return made, np.array(seen[0])


def test_votes_become_targets_margins_and_weights(train_reward, vote_data, monkeypatch):
    asked = Votes(targets="share", smoothing=0.1, weights="confidence", margins=[0.5, 1.0, 2.0])
    made, columns = judged_columns(
        monkeypatch, lambda: train_reward(data={"train": vote_data}, votes=asked, train={"max_steps": 1})
    )
    target, margin, weight = columns.T
    clear, tied = 0.9 * 2 / 3 + 0.1 / 3, 0.5
    assert set(target.round(6)) == {round(clear, 6), tied}
    assert set(margin.round(6)) == {
        round((2 + 0.5 - 1) / 3, 6),
        round((2 - 1) / 3, 6),
    } and weight.mean() == pytest.approx(1)
    assert set(weight[target == tied]) == {0}
    assert made.sections["annotators"]["eve"]["right"] < 0.1 < 0.9 < made.sections["annotators"]["ann"]["right"]


def test_who_is_always_wrong_is_found_out(train_reward, vote_data, monkeypatch):
    _, columns = judged_columns(
        monkeypatch,
        lambda: train_reward(data={"train": vote_data}, votes=Votes(targets="dawid_skene"), train={"max_steps": 1}),
    )
    assert columns[:, 0].min() > 0.95


def test_ties_have_no_place_among_hard_targets(train_reward, vote_data):
    for targets, left_out in (("hard", 5), ("share", 0)):
        made = train_reward(data={"train": vote_data}, votes=Votes(targets=targets), train={"max_steps": 1})
        assert made.sections["data"]["rejected_because"]["tied"] == left_out
        assert made.sections["data"]["rows_kept"] == 24 - left_out


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ({"targets": "hard"}, r"0 rows of ties are left to train on \(4 left out: tied\)"),
        ({"weights": "confidence"}, r"ties: the votes on every pair are tied, so with votes\.weights=confidence none"),
    ],
)
def test_where_every_pair_is_tied_that_is_what_is_told(train_reward, bench, rows, vote_data, votes, message):
    ballot = [{"by": "x", "prefers": "a"}, {"by": "y", "prefers": "b"}]
    ties = [{"id": r["id"], "prompt": r["prompt"], "a": r["chosen"], "b": r["rejected"], "votes": ballot}
            for r in rows.pairs(4)]  # fmt: skip
    with pytest.raises(DataError, match=message):
        train_reward(data={"train": bench.data("ties", ties), "heldout": vote_data}, votes=Votes(**votes))


def test_tied_held_out_pairs_count_in_the_calibration_only(train_reward, vote_data):
    summary, items = results(train_reward(data={"train": vote_data}, train={"max_steps": 1}))
    assert summary["tied"] == 4 and summary["accuracy"]["n"] == 12 and len(items) == 16
    assert sum(part["n"] for part in summary["calibration"]["bins"]) == 16


# -- pairs --------------------------------------------------------------------------------------------------------
def test_counts_of_what_is_too_long_or_equal(train_reward, bench, yes_rows):
    def pair(name, chosen, rejected):
        return {"id": name, "prompt": [{"role": "user", "content": "May I?"}], "chosen": chosen, "rejected": rejected}

    odd = [pair("equal", "Yes.", "Yes."), pair("long", "Yes.", "no way " * 60)]
    data = bench.data("odd", [*yes_rows(0, 5), *odd])
    (data.path / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in yes_rows(5, 7)))
    found = train_reward(data={"train": data}, train={"max_steps": 1}).sections["data"]
    assert found["rejected_because"] == {"longer than max_length": 1, "chosen equals rejected": 1, "tied": 0}
    assert (found["rows_kept"], found["rows_rejected"], found["rows_available"]) == (5, 2, 7)


def test_max_pairs_draws_under_the_seed(train_reward):
    made = train_reward(max_pairs=5, train={"max_steps": 1})
    assert made.sections["data"]["rows_kept"] == 5


# -- training -----------------------------------------------------------------------------------------------------
def weights(made, number=0):
    folder = made.artifact.path / "model" / f"adapter_{number}"
    return load_file(folder / "adapter_model.safetensors") | load_file(folder / "score.safetensors")


def test_both_steps_train_the_same_member_up_to_rounding(train_reward):
    fast, plain = (train_reward(step=step, train={"max_steps": 6}) for step in ("fast", "trl"))
    assert fast.sections["training"]["step"].startswith("fast (fused: 14 low-rank layers")
    assert plain.sections["training"]["step"] == "trl (asked for)"
    one, other = weights(fast), weights(plain)
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name] - other[name]).norm() < 2e-3 * other[name].norm(), name


def test_rows_in_one_pass_and_recomputing_change_nothing(train_reward, vote_data):
    """Also where pairs weigh differently: a step's loss is a mean over all its pairs."""
    usual = {"data": {"train": vote_data}, "votes": Votes(weights="count", smoothing=0.1), "train": {"max_steps": 4}}
    one = weights(train_reward(**usual))
    apart = Runtime(threads=1, device="cpu", logging_steps=1, micro_batch=1)
    again = {"max_steps": 4, "gradient_checkpointing": True}
    for changed in ({"runtime": apart}, {"train": again}):
        other = weights(train_reward(**{**usual, **changed}))
        for name in one:
            assert (one[name] - other[name]).norm() < 2e-3 * other[name].norm(), name


def test_members_are_drawn_and_trained_apart(reward, train_reward):
    one, other = weights(reward, 0), weights(reward, 1)
    for name in one:
        assert (one[name] - other[name]).norm() > 0.3 * other[name].norm(), name
    alone = weights(train_reward())
    assert all(torch.equal(one[name], alone[name]) for name in one)  # the first member is that of a stage with one
    assert len({member_seed(42, 0), member_seed(42, 1), member_seed(42, 2), member_seed(43, 1)}) == 4


def test_the_same_config_gives_the_same_bytes(reward, train_reward):
    assert files(train_reward(ensemble=2)) == files(reward)


@pytest.mark.parametrize("killed_in", [0, 1])
def test_resuming_gives_the_bytes_of_an_undisturbed_run(train_reward, tmp_path, killed_in):
    runtime = Runtime(threads=1, device="cpu", save_steps=2, logging_steps=1)
    settings = {"runtime": runtime, "ensemble": 2, "train": {"max_steps": 6}}
    whole = train_reward(**settings)
    shutil.copytree(whole.ctx.ckpt, tmp_path / "ckpt")
    later = tmp_path / "ckpt" / "member_1"
    shutil.rmtree(later / "checkpoint-6" if killed_in else later)
    if not killed_in:
        shutil.rmtree(tmp_path / "ckpt" / "checkpoint-6")
    resumed = train_reward(ckpt=tmp_path / "ckpt", **settings)
    assert resumed.sections["training"]["start_step"] == (10 if killed_in else 4)
    assert resumed.sections["training"]["end_step"] == resumed.sections["training"]["max_steps"] == 12
    assert files(resumed) == files(whole)


def test_every_probe_is_asked_of_every_member(reward):
    probes = reward.sections["probes"]
    assert [probe["name"] for probe in probes] == [
        "template_equals_upstream", "trained_tokens", "one_bos", *["starts_at_input", "eos_is_judged"] * 2,
        "reward_survives_reload",
    ]  # fmt: skip
    assert all(probe["passed"] for probe in probes)
    assert probes[-1]["detail"].endswith("differ from the trained model's by 0")  # in the same batches: not a bit


def test_a_head_that_is_not_saved_as_trained_is_a_failure(train_reward, monkeypatch):
    """Users of other tools got a random score layer after reloading (TRL issue 1379)."""
    from stages.rewards import classifier

    real = classifier.save

    def forgetful(model, folder):
        real(model, folder)
        from safetensors.torch import save_file

        save_file({"score.weight": torch.randn(1, 64)}, folder / "score.safetensors")

    monkeypatch.setattr(classifier, "save", forgetful)
    with pytest.raises(StageFailed, match="probe reward_survives_reload failed"):
        train_reward(train={"max_steps": 1})


def test_an_adapter_that_does_not_start_at_zero_is_a_failure(train_reward, monkeypatch):
    from stages.rewards import classifier

    real = classifier.draw

    def dirty(model, seed):
        real(model, seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)

    monkeypatch.setattr(classifier, "draw", dirty)
    with pytest.raises(StageFailed, match="probe starts_at_input failed"):
        train_reward(train={"max_steps": 1})


def test_on_a_base_of_4_bits(train_reward, yes_data, tokenizer):
    made = train_reward(peft=PeftConfig(method="qlora", r=4, alpha=8.0), ensemble=2)
    assert made.metrics["heldout_accuracy"] > 0.9
    members = read_members(made.artifact)
    assert {member.method for member in members} == {"qlora"}
    policy = load_policy(made.artifact, made.ctx.lineage, device="cpu", method="qlora", cache=made.ctx.cache)
    rows = artifact.rows(yes_data, "heldout")
    chosen, rejected = (score(policy, members, sequences(tokenizer, rows, side)) for side in ("chosen", "rejected"))
    found = [item["probability"] for item in results(made)[1]]
    assert found == pytest.approx(torch.sigmoid(chosen - rejected).mean(0).tolist(), abs=1e-3)


# -- what is refused ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "said"),
    [({"ensemble": 0}, r"ensemble=0: a reward model has at least one member"),
     ({"max_pairs": -1}, r"max_pairs=-1"),
     ({"votes": Votes(smoothing=0.7)}, r"votes\.smoothing=0\.7"),
     ({"normalise": Normalise("sft")}, r"normalise\.answers=sft: use one of policy, chosen"),
     ({"normalise": Normalise(count=1)}, r"normalise\.count=1"),
     ({"normalise": Normalise(max_new_tokens=0)}, r"normalise\.max_new_tokens=0"),
     ({"peft": PeftConfig(dropout=0.1)}, r"peft\.dropout=0\.1: TRL's reward trainer switches dropout off"),
     ({"train": {"center_rewards_coefficient": -1.0}}, r"center_rewards_coefficient=-1\.0: it would drive"),
     ({"train": {"beta": 0.1}}, r"train\.beta: RewardConfig has no such field"),
     ({"data": {"train": "p", "test": "q"}}, r"data\.test: kind 'reward' reads no such data set; it reads train, held"),
     ({"data": {}}, r"data\.train: name the data set of preference pairs, votes or rankings")],
)  # fmt: skip
def test_a_config_that_cannot_work_is_refused(bench, settings, said):
    with pytest.raises(ConfigError, match=said):
        Reward().validate(bench.config("reward", **{"data": {"train": "p"}, **settings}))


def test_a_usual_config_is_accepted(bench):
    Reward().validate(bench.config("reward", data={"train": "p"}, train={"center_rewards_coefficient": 0.01}))
    dropout = {"peft": PeftConfig(dropout=0.1), "train": {"disable_dropout": False}}
    Reward().validate(bench.config("reward", data={"train": "p"}, **dropout))
    assert Reward().contract(bench.config("reward", data={"train": "p"}))["stage"] == "reward"
    assert kind("reward").stage is Reward
