"""A reward model that was trained on the toy, and the pairs behind it: a rule that a toy can learn."""

import json

import pytest


@pytest.fixture(scope="session")
def yes_rows(rows):
    """yes_rows(start, stop): pairs whose chosen answer begins with yes and whose rejected one with no."""

    def make(start, stop):
        return [
            {**row, "chosen": f"yes {row['chosen']}", "rejected": f"no {row['rejected']}", "cluster": f"c{i}",
             "slices": {"part": ("even", "odd")[i % 2]}}
            for i, row in enumerate(rows.pairs(stop)) if i >= start
        ]  # fmt: skip

    return make


@pytest.fixture(scope="session")
def yes_data(bench, yes_rows):
    """24 of these to train on, 16 held out."""
    return with_heldout(bench.data("judged", yes_rows(0, 24)), yes_rows(24, 40))


def with_heldout(made, rows):
    (made.path / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture(scope="session")
def train_reward(bench, domain, yes_data):
    """train_reward(policy=, data=, ckpt=, **settings): the stage on a chain of two adapters, quick by default."""
    from stages.reward import Normalise

    def make(policy=None, data=None, ckpt=None, **settings):
        quick = {"normalise": Normalise(count=8, max_new_tokens=8), "train": {"num_train_epochs": 4}}
        config = bench.config("reward", **{**quick, **settings})
        inputs = {"policy": policy or domain.artifact}
        return bench.run(bench.context("reward", config, inputs, data or {"train": yes_data}, ckpt))

    return make


@pytest.fixture(scope="session")
def reward(train_reward):
    """Two members."""
    return train_reward(ensemble=2)
