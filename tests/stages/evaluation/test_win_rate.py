"""Win rate: verdicts of judges in both positions, mirrored sides, ties, lengths, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline.context import Artifact
from pipeline.errors import ConfigError, DataError
from stages.evaluation import judge, win_rate
from stages.evaluation.judge import Written, by_model, by_reward, likelihoods, preferred, question, said
from stages.evaluation.measurement import Others
from stages.evaluation.win_rate import WinRate, WinRateParams

ROWS = [
    {"id": f"i{k}", "prompt": [{"role": "user", "content": text}], "cluster": f"c{k // 2}"}
    for k, text in enumerate(["Which licence is this?", "May I sell it?", "Must I give the source code?", "Who?"])
]
OWN = [Written(text, len(text.split())) for text in ("MIT.", "Yes, you may sell it.", "Yes.", "Nobody knows.")]
OTHER = [Written(text, len(text.split())) for text in ("It is the MIT licence.", "No.", "Yes.", "You.")]


def artifact(name):
    return Artifact(name, "sft", name, None, f"digest of {name}")


@pytest.fixture
def measured(policy, tmp_path, monkeypatch):
    """measured(judge, own, other): items and details, `judge` from the questions to log-likelihoods of the letters."""

    def run(judging, own=OWN, other=OTHER, names=("model", "start", "judge"), **params):
        written = {"model": own, "start": other}
        monkeypatch.setattr(win_rate, "written", lambda opened, *_: written[opened.name])
        monkeypatch.setattr(win_rate, "is_reward", lambda artifact: False)
        monkeypatch.setattr(judge, "likelihoods", lambda judge, rows, asked, *_: [judging(text) for text in asked])
        model, start, judging_model = map(artifact, names)

        def opened(one):
            return SimpleNamespace(name=one.id, device="cpu", writes="cpu")

        others = Others(model, judging_model, start, opened, tmp_path / f"{len(list(tmp_path.iterdir()))}")
        asked = WinRateParams(**params)
        items = WinRate().run_beside(SimpleNamespace(name="model", device="cpu", writes="cpu"), ROWS, asked, 0, others)
        return items, WinRate().details(items, asked)

    return run


def always_a(question):
    return [-0.1, -3.0, -5.0]


def longer(question):
    """Prefers the longer answer wherever it stands, the more so the longer it is; nothing is a tie."""
    first, second = (question.split(f"[Answer {k}]\n")[1].split("\n\n")[0] for k in "AB")
    lead = float(len(first) - len(second)) / 10
    return [lead, -lead, -20.0]


# -- positions ----------------------------------------------------------------------------------------------------
def test_a_judge_that_always_says_a_makes_every_item_a_tie_and_its_bias_is_told(measured):
    items, details = measured(always_a)
    assert [item.score for item in items] == [0.5] * 4
    assert details["metrics"]["positions_agree"]["value"] == 0
    assert details["metrics"]["prefers_first"]["value"] == 1
    assert "otherwise on 3 of 3 items when the answers change places" in " ".join(details["remarks"])
    assert "stands first gets 100%" in " ".join(details["remarks"])


def test_a_judge_without_a_bias_says_who_wins(measured):
    items, details = measured(longer)
    assert [item.score for item in items] == [0.0, 1.0, 0.5, 1.0]  # the third answers are the same
    assert details["metrics"]["positions_agree"] == {**details["metrics"]["positions_agree"], "value": 1.0, "n": 3}
    assert details["metrics"]["prefers_first"]["value"] == 0.5
    assert (details["metrics"]["wins"]["value"], details["metrics"]["ties"]["value"]) == (0.5, 0.25)
    assert items[2].values["same"] == 1 and "1 of 4 answers are the same on both sides" in details["remarks"][0]


@pytest.mark.parametrize("judging", [always_a, longer, lambda text: [-1.0, -1.5 - len(text) % 3, -1.2]])
def test_changing_sides_mirrors_every_item(measured, judging):
    items, _ = measured(judging)
    mirrored, _ = measured(judging, own=OTHER, other=OWN)
    assert [item.score for item in items] == [1 - item.score for item in mirrored]
    chances = [[item.values["probability"] for item in each] for each in (items, mirrored)]
    assert chances[0] == pytest.approx([1 - p for p in chances[1]])


def test_both_answers_are_shown_in_both_places_with_the_whole_conversation():
    asked = []
    row = {"prompt": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                      {"role": "user", "content": "Which?"}]}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "likelihoods", lambda judge, rows, texts, *_: asked.extend(texts) or [[0, 0]] * 2)
        (verdict,) = by_model(None, [row], OWN[:1], OTHER[:1], "it is right", False, 0)
    first, second = asked
    assert first == question(row, OWN[0], OTHER[0], "it is right", False)
    assert second == question(row, OTHER[0], OWN[0], "it is right", False)
    assert "User: Hello\n\nAssistant: Hi\n\nUser: Which?" in first and "What counts: it is right." in first
    assert verdict.score == 0.5  # letters that are alike are no verdict


@pytest.mark.parametrize(
    ("likely", "verdict"),
    [([-1, -2, -3], 1.0), ([-2, -1, -3], 0.0), ([-2, -3, -1], 0.5), ([-1, -1, -3], 0.5), ([-1, -2], 1.0)],
)
def test_the_likeliest_letter_is_the_verdict(likely, verdict):
    assert said(likely) == verdict


def test_the_probability_is_that_of_the_letters_with_half_of_a_tie():
    likely = np.log([0.2, 0.1, 0.1])
    assert preferred(likely) == pytest.approx((0.2 + 0.05) / 0.4)


def test_likelihoods_are_those_of_one_plain_pass(policy, reference):
    from stages.models.chat import encode, prompt_ids

    texts, replies = ["Which licence is this?", "Who?"], ["You must", "Keep"]
    found = likelihoods(policy, ROWS[:2], texts, replies, 0)
    for text, values in zip(texts, found, strict=True):
        prompt = prompt_ids(policy.tokenizer, [{"role": "user", "content": text}])
        plain = [sum(reference(policy, prompt, encode(policy.tokenizer, reply))) for reply in replies]
        assert values == pytest.approx(plain, abs=1e-5)


def test_what_a_judge_cannot_read_is_said(capped, policy):
    limit = capped.model.config.max_position_embeddings
    rows = [{"id": "long", "prompt": ROWS[0]["prompt"]}]
    judging = replace(capped, tokenizer=policy.tokenizer)
    with pytest.raises(DataError, match=f"judge: item long takes .* tokens, the model reads at most {limit}"):
        likelihoods(judging, rows, ["keep " * limit], ["A"], 0)


# -- reward models ------------------------------------------------------------------------------------------------
def test_a_reward_model_prefers_what_it_scores_higher(bench, reward, yes_rows):
    from stages.models.chain import load_policy

    judging, rows = reward.artifact, yes_rows(24, 40)
    others = Others(judging, judging, None, lambda one: load_policy(one, bench.made, device="cpu"), bench.root)
    sides = [[Written(row[side], 5) for row in rows] for side in ("chosen", "rejected")]
    found = by_reward(others, rows, *sides, 0.0, 0)
    assert all(v.score == float(v.values["reward"] > v.values["reward_other"]) for v in found)
    assert np.mean([v.score for v in found]) > 0.8  # it was trained to tell yes from no
    mirrored = by_reward(others, rows, *sides[::-1], 0.0, 0)
    assert [v.score for v in mirrored] == [1 - v.score for v in found]
    assert [v.probability for v in mirrored] == pytest.approx([1 - v.probability for v in found], abs=1e-6)
    assert {v.score for v in by_reward(others, rows, *sides, 1e9, 0)} == {0.5}


def test_a_cut_answer_is_scored_without_an_end(bench, reward, monkeypatch):
    from stages.models.chain import load_policy
    from stages.rewards import model as reward_model

    seen = []
    plain = reward_model.score
    monkeypatch.setattr(reward_model, "score", lambda *words: seen.extend(words[2]) or plain(*words))
    judging = reward.artifact
    others = Others(judging, judging, None, lambda one: load_policy(one, bench.made, device="cpu"), bench.root)
    by_reward(others, ROWS[:1], [Written("keep notice", 2)], [Written("keep notice", 2, ended=False)], 0.0, 0)
    assert seen[0][:-1] == seen[1]


# -- what stands beside the number ----------------------------------------------------------------------------------
def test_length_is_told(measured):
    items, details = measured(longer)
    lead = [own.tokens - other.tokens for own, other in zip(OWN, OTHER, strict=True)]
    rho = spearmanr([item.values["probability"] for item in items], lead).statistic
    assert details["metrics"]["length_correlation"]["value"] == pytest.approx(rho)
    assert "The longer answer tends to win" in details["remarks"][-1]
    assert details["metrics"]["tokens"]["value"] == np.mean([own.tokens for own in OWN])


def test_examples_are_lost_and_won_answers_side_by_side(measured):
    _, details = measured(longer)
    assert [example["title"] for example in details["examples"]] == ["i0: lost", "i1: won", "i3: won"]
    own, other = details["examples"][0]["rows"]
    assert (own["answer"], other["answer"]) == (OWN[0].text, OTHER[0].text)
    assert (own["score"], other["score"]) == (0.0, 1.0)


def test_a_judge_that_judges_itself_is_told(measured):
    told = [
        " ".join(measured(longer, names=("model", "start", judging))[1]["remarks"])
        for judging in ("model", "start", "judge")
    ]
    assert "The judge is the measured model itself" in told[0]
    assert "The judge is the model on the other side" in told[1]
    assert "The judge is" not in told[2]


def test_cut_answers_are_counted(measured):
    _, details = measured(longer, own=[Written("So", 9, ended=False), *OWN[1:]])
    assert "Cut at max_new_tokens, without an end: 1 of the model's answers, 0 others." in details["remarks"]


# -- whose answers ------------------------------------------------------------------------------------------------
def test_the_other_side_may_stand_in_the_data(policy, tmp_path, monkeypatch):
    rows = [{**row, "chosen": f" {other.text} "} for row, other in zip(ROWS, OTHER, strict=True)]
    monkeypatch.setattr(win_rate, "written", lambda *_: OWN)
    monkeypatch.setattr(win_rate, "is_reward", lambda artifact: False)
    monkeypatch.setattr(judge, "likelihoods", lambda judge, rows, asked, *_: [longer(text) for text in asked])
    others = Others(artifact("m"), artifact("j"), None, lambda one: policy, tmp_path)
    items = WinRate().run_beside(policy, rows, WinRateParams(reference="chosen"), 0, others)
    assert [item.reference for item in items] == [other.text for other in OTHER]
    assert [item.score for item in items] == [0.0, 1.0, 0.5, 1.0]


def test_answers_are_written_once_and_shared(policy, tmp_path, monkeypatch):
    opened, written = [], win_rate.written
    counted = []
    monkeypatch.setattr(win_rate, "written", lambda *words: counted.append(1) or written(*words))
    monkeypatch.setattr(win_rate, "is_reward", lambda artifact: False)
    asked = WinRateParams(max_new_tokens=4)
    for own in ("sft", "dpo"):
        others = Others(artifact(own), artifact("start"), artifact("start"),
                        lambda one: opened.append(one.id) or policy, tmp_path)  # fmt: skip
        first = WinRate().run_beside(policy, ROWS, asked, 0, others)
    assert len(counted) == 3 and opened == ["start"]  # equal answers: no judge is loaded
    for file in (tmp_path / "answers").rglob("*.json"):
        file.write_text(file.read_text().replace("false", "true").replace("[", "[ ", 1))
    assert WinRate().run_beside(policy, ROWS, asked, 0, others) == first  # a damaged file is written anew
    assert len(counted) == 5
    WinRate().run_beside(policy, ROWS, asked, 0, replace(others, forced=True))
    assert len(counted) == 7  # `--force` asks for answers anew


# -- what is refused ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("named", "params", "message"),
    [
        ((None, "base"), {}, "judge: missing; name the stage of a reward model"),
        (("rm", None), {}, "against: give this .* or params.reference"),
        (("rm", "base"), {"reference": "chosen"}, "one of the two"),
    ],
)
def test_a_suite_names_a_judge_and_one_other_side(named, params, message):
    with pytest.raises(ConfigError, match=message):
        WinRate().check_others(WinRateParams(**params), *named)


def test_an_item_without_its_reference_is_named():
    asked = WinRateParams(reference="chosen")
    WinRate().check({**ROWS[0], "chosen": "MIT."}, asked)
    for broken in ({}, {"chosen": " "}, {"chosen": 3}):
        with pytest.raises(DataError, match="item i0: `chosen` is no text"):
            WinRate().check({**ROWS[0], **broken}, asked)
