"""The kind `baseline`: what stands before a prompt, where examples come from, and who may read such a model."""

import json

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.registry import kind
from pipeline.schema import Suite
from stages.models.chain import load_policy
from stages.models.chat import prompt_ids
from stages.models.prompting import Prompting

QUESTION = [{"role": "user", "content": "Which licence is this?"}]


def example(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def config(**settings):
    if settings.get("examples"):
        settings = {"data": {"examples": "chat"}, **settings}
    return kind("baseline").config(kind="baseline", **settings)


@pytest.fixture(scope="session")
def build(bench):
    def make(model, source=None, **settings):
        data = {"examples": source} if source else {}
        return bench.run(bench.context("told", config(**settings), {"model": model}, data))

    return make


def test_system_text_and_glossary_stand_in_one_system_turn(build, base, bench):
    made = build(base, system="Be brief.", glossary={"MIT": "a permissive licence", "GPL": "copyleft"})
    policy = load_policy(made.artifact, dict(bench.made), device="cpu")
    told = {"role": "system", "content": "Be brief.\n\nMIT: a permissive licence\nGPL: copyleft"}
    assert policy.asked(QUESTION) == prompt_ids(policy.tokenizer, [told, *QUESTION])


def test_a_model_without_a_prompt_is_asked_as_before(base, bench):
    policy = load_policy(base, dict(bench.made), device="cpu")
    assert policy.asked(QUESTION) == prompt_ids(policy.tokenizer, QUESTION)


def test_a_prompt_can_stand_before_a_trained_model(build, sft, bench):
    policy = load_policy(build(sft.artifact, system="Be brief.").artifact, dict(bench.made), device="cpu")
    assert [link.stage for link in policy.chain.adapters] == ["sft"] and policy.prompting.system == "Be brief."


def test_examples_are_training_rows_and_never_held_out_ones(build, base, bench, rows):
    source = bench.data("chat", rows.chat(3))
    (source.path / "data" / "heldout.jsonl").write_text(json.dumps(rows.chat(1, start=500)[0]) + "\n")
    made = build(base, source, examples=3)
    shown = Prompting.read(made.artifact.path / "model").examples
    assert sorted(map(str, shown)) == sorted(str(row["messages"]) for row in rows.chat(3))


def test_the_same_seed_shows_the_same_examples(build, base, chat_data):
    shown = [Prompting.read(build(base, chat_data, examples=2, seed=s).artifact.path / "model") for s in (1, 1, 2)]
    assert shown[0] == shown[1] != shown[2]


def test_similar_examples_are_those_like_the_question_the_most_alike_last():
    pool = [example("red apple pie", "a"), example("blue car", "b"), example("red apple", "c")]
    turns = Prompting("", pool, 2).around([{"role": "user", "content": "a red apple"}])
    assert [turn["content"] for turn in turns[:4:2]] == ["red apple pie", "red apple"]


def test_a_system_turn_of_the_item_follows_the_baseline_s():
    turns = Prompting("Be brief.").around([{"role": "system", "content": "You are a clerk."}, *QUESTION])
    assert turns == [{"role": "system", "content": "Be brief.\n\nYou are a clerk."}, *QUESTION]


def test_rows_that_are_too_long_are_counted_or_refused(build, base, bench, rows):
    long = {"id": "long", "messages": example("a " * 400, "b")}
    source = bench.data("chat", [*rows.chat(3), long])
    assert build(base, source, examples=2, max_tokens=200).sections["data"]["rows_too_long"] == 1
    with pytest.raises(DataError, match="raise max_tokens or lower examples"):
        build(base, source, examples=4, max_tokens=400)


def test_perplexity_is_left_out_because_no_prompt_changes_it():
    suites = {"text": Suite("perplexity", "d"), "quiz": Suite("choice", "d"), "free": Suite("generate", "d")}
    stage = kind("baseline").stage()
    assert stage.suites(config(system="s"), suites) == ["quiz", "free"]
    assert stage.suites(config(system="s", suites=["quiz"]), suites) == ["quiz"]
    with pytest.raises(ConfigError, match="text asks nothing"):
        stage.suites(config(system="s", suites=["text"]), suites)
    with pytest.raises(ConfigError, match="no suite 'quizz'"):
        stage.suites(config(system="s", suites=["quizz"]), suites)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "give system, glossary or examples"),
        ({"examples": 2, "choose": "best"}, "seed or similar"),
        ({"system": "s", "tags": ["legal"]}, "set `examples`"),
        ({"system": "s", "data": {"examples": "d"}}, "data.examples"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, word):
    with pytest.raises(ConfigError, match=word):
        kind("baseline").stage().validate(config(**settings))
