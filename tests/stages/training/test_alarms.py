"""Alarms: they add up, and one looks at the end of a training."""

import pytest

from stages.training.alarms import implicit_rewards, sound


@pytest.fixture
def ctx(bench):
    return bench.context("x", None, {}, {})


def history(*rewards):
    return [{"loss": 0.5}, *({"rewards/chosen": value, "rewards/margins": 1.0} for value in rewards)]


def test_alarms_stand_beside_each_other(ctx):
    sound(ctx, "one", "do this")
    sound(ctx, "two", "do that")
    assert [alarm["name"] for alarm in ctx.sections["alarms"]] == ["one", "two"]


def test_the_last_quarter_counts(ctx):
    assert implicit_rewards(ctx, history(-1, -1, -1, 0.5), ("chosen", "margins"), "") == {
        "reward_chosen": 0.5, "reward_margins": 1.0,
    }  # fmt: skip
    assert "alarms" not in ctx.sections
    assert implicit_rewards(ctx, history(1, 1, 1, -0.5), ("chosen",), "raise beta")["reward_chosen"] == -0.5
    (alarm,) = ctx.sections["alarms"]
    assert alarm["name"] == "chosen_probability_fell" and alarm["detail"].endswith("(mean reward -0.500); raise beta")


def test_of_a_run_that_logged_nothing_nothing_is_said(ctx):
    assert implicit_rewards(ctx, [{"loss": 0.5}], ("chosen",), "") == {} and "alarms" not in ctx.sections
