"""Production: a known shift of topic, length, language or task is told, the missing topics are named; none is not."""

from coverage_rows import PLACES, chat, ordinary
from test_subtopics import texts

from stages.data.coverage.asked import asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.survey import coverage
from stages.data.findings import Located

CONFIG = CoverageConfig()
USUAL = ["kitchen", "garden", "music"]


def chats(prompts):
    return [chat(i, prompt) for i, prompt in enumerate(prompts)]


def prompts(said):
    return [Located({"prompt": [{"role": "user", "content": p}]}, "live.jsonl", i) for i, p in enumerate(said, 1)]


def gap(training, production, stage="sft", config=CONFIG):
    found = coverage(asked(training, stage), stage, config, production).findings
    return next((finding for finding in found if finding.code == "production_gap"), None)


def test_missing_topics_are_named_with_shares_and_examples_of_production():
    live = texts(USUAL, 200, 2) + texts(["billing"], 60, 3)
    found = gap(chats(texts(USUAL, 500, 1)), prompts(live))
    assert found.level == "warning" and "invoice" in found.message and "0.0 % instead of 23.1 %" in found.message
    assert "115 on '" in found.remedy and "airport" not in found.message
    assert found.examples[0].file == "live.jsonl" and found.examples[0].line > 200
    assert found.detail["subtopics"][0]["production"] == 0.2308


def test_the_same_mixture_is_not_told():
    for seed in range(4):
        assert gap(chats(texts(USUAL, 400, seed)), prompts(texts(USUAL, 150, seed + 9))) is None
    assert gap(chats(ordinary(400)[:250]), prompts(ordinary(400)[250:])) is None


def test_a_small_sample_is_not_judged():
    assert gap(chats(texts(USUAL, 400, 1)), prompts(texts(["billing"], 49, 2))) is None
    assert gap(chats(texts(USUAL, 400, 1)), prompts(texts(["billing"], 50, 2))) is not None


def test_length_task_and_language_are_told():
    long = [f"{p} It is for a friend who asked me {'and asked again ' * 9}about it." for p in texts(USUAL, 150, 5)]
    found = gap(chats(texts(USUAL, 400, 1)), prompts(long))
    assert found.detail["features"]["length"]["psi"] > 1 and "length (PSI" in found.message
    orders = [f"Translate into French: {p}" for p in texts(USUAL, 150, 5)]
    assert "task type (PSI" in gap(chats(texts(USUAL, 400, 1)), prompts(orders)).message
    german = [f"Können Sie mir bitte sagen, wie ich in {place} eine Wohnung finde?" for place in PLACES * 10]
    assert "language (PSI" in gap(chats(texts(USUAL, 400, 1)), prompts(german)).message


def test_documents_are_held_against_documents():
    def documents(said, file):
        return [Located({"text": " ".join(said[i : i + 3])}, file, i) for i in range(0, len(said), 3)]

    ours, theirs = texts(USUAL, 900, 1), texts(USUAL, 450, 2) + texts(["travel"], 150, 3)
    found = gap(documents(ours, "ours"), documents(theirs, "live"), "domain")
    assert "luggage" in found.message and set(found.detail["features"]) == {"length", "language", "topic"}
    assert gap(documents(ours, "ours"), documents(texts(USUAL, 400, 7), "live"), "domain") is None


def test_thresholds_are_used():
    live = prompts(texts(USUAL, 200, 2) + texts(["billing"], 60, 3))
    loose = CoverageConfig(psi=9, topic=0.5)
    assert gap(chats(texts(USUAL, 500, 1)), live, config=loose) is None
    only_topics = gap(chats(texts(USUAL, 500, 1)), live, config=CoverageConfig(psi=9))
    assert only_topics.message.startswith("Subtopics of production")
    assert gap(chats(texts(USUAL, 500, 1)), live, config=CoverageConfig(topic=0.5)).message.startswith(
        "The data differs"
    )


def test_the_same_every_time():
    ours, live = chats(texts(USUAL, 300, 1)), prompts(texts([*USUAL, "billing"], 120, 2))
    assert coverage(asked(ours, "sft"), "sft", CONFIG, live) == coverage(asked(ours, "sft"), "sft", CONFIG, live)
