"""Simulated votes: as accurate as they are said to be, on pairs whose better answer stands on either side."""

import pytest

from pipeline.errors import ConfigError
from stages.data import builders
from stages.data.legal.simulated import accuracies, voted
from stages.rewards.votes import dawid_skene

ROWS = [
    {"id": f"p{i}", "prompt": "Hi", "chosen": f"good {i}", "rejected": f"bad {i}", "task": "t", "tags": ["legal"]}
    for i in range(2000)
]
FIVE = accuracies(5, 0.95, 0.6)


def made(**settings):
    return list(voted(ROWS, FIVE, **{"each": 3, "ties": 0.1, "seed": 1, **settings}))


def test_accuracies_are_spread_evenly_and_names_say_that_nobody_voted():
    assert list(FIVE) == [f"simulated_{number}" for number in range(1, 6)]
    assert list(FIVE.values()) == pytest.approx([0.95, 0.8625, 0.775, 0.6875, 0.6])
    assert accuracies(1, 0.9, 0.5) == {"simulated_1": 0.9}


def test_each_votes_as_its_accuracy_says_and_the_model_of_annotators_finds_it():
    rows = made(each=5, ties=0.0)
    for name, accuracy in FIVE.items():
        good = [row[v["prefers"]].startswith("good") for row in rows for v in row["votes"] if v["by"] == name]
        assert sum(good) / len(good) == pytest.approx(accuracy, abs=0.03)
    found = dawid_skene([row["votes"] for row in rows])
    assert {name: (found.right_a[name] + found.right_b[name]) / 2 for name in FIVE} == pytest.approx(FIVE, abs=0.04)


def test_sides_ties_and_numbers_of_votes():
    rows = made()
    assert sum(row["a"].startswith("good") for row in rows) == pytest.approx(1000, abs=70)
    votes = [vote for row in rows for vote in row["votes"]]
    assert len(votes) == 6000 and sum(vote["prefers"] == "tie" for vote in votes) == pytest.approx(600, abs=80)
    assert all(len({vote["by"] for vote in row["votes"]}) == 3 for row in rows)
    assert all({row["a"], row["b"]} == {f"good {row['id'][1:]}", f"bad {row['id'][1:]}"} for row in rows)
    assert all(row["task"] == "t" and "chosen" not in row and "rejected" not in row for row in rows)


def test_a_row_is_judged_the_same_wherever_it_stands():
    assert made()[7] == next(voted(ROWS[7:8], FIVE, 3, 0.1, 1)) != next(voted(ROWS[7:8], FIVE, 3, 0.1, 2))


def test_the_builder_judges_the_pairs_of_legal_pairs():
    pairs, votes = (builders.find(name) for name in ("legal_pairs", "legal_votes"))
    limits = {"legal": 6, "general": 6, "safety": 6}
    judged = list(votes.build(builders.parse_options(votes, {**limits, "each": 2}), 5))
    known = {row["id"]: row for row in pairs.build(builders.parse_options(pairs, limits), 5)}
    assert {row["id"] for row in judged} == known.keys()
    for row in judged:
        assert {row["a"], row["b"]} == {known[row["id"]]["chosen"], known[row["id"]]["rejected"]}
        assert len(row["votes"]) == 2 and row["votes"][0]["by"].startswith("simulated_")
    assert votes.attribution.startswith("The votes are simulated: no person has judged these pairs.")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"each": 6}, "each must be from 1 to annotators=5, not 6"), ({"best": 1.5}, "best must be from 0 to 1, not 1.5")],
)
def test_options_that_cannot_work_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        builders.parse_options(builders.find("legal_votes"), options)
