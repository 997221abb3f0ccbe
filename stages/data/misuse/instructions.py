"""`domain_text_as_instructions`: documents cut into "prompts", with what came next as their answers.

Tuning on such rows teaches a model to go on with texts, not to do what it is asked. `docs/misuse.md` says how a row is
judged, on what the threshold was fitted and how often the verdict is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stages.data.findings import Finding, Located, seen
from stages.data.misuse.exchanges import Exchange, exchange, without_shared_opening


@dataclass
class InstructionsConfig:
    """When a set of chats counts as cut documents."""

    max_share: float = 0.3  # of conversations that may look like pieces of a text
    fewest_rows: int = 10  # below this many conversations nothing is said
    shared_opening: float = 0.3  # share of prompts from which on a common opening is one instruction for all of them
    most_exchanges: float = 0.6  # a conversation is cut where this share of its exchanges is


@dataclass(frozen=True)
class Judged:
    """A conversation and the exchanges in it."""

    located: Located
    exchanges: list[Exchange]

    def cut(self, most: float) -> bool:
        return sum(each.cut for each in self.exchanges) > most * len(self.exchanges)


def domain_text_as_instructions(rows: Sequence[Located], config: InstructionsConfig) -> Finding | None:
    """An error where more than `max_share` of the chat rows are two pieces of a text rather than a request and a reply.

    None where they are fewer, or too few rows to tell.
    """
    judged = judge(rows, config)
    cut = [each for each in judged if each.cut(config.most_exchanges)]
    if len(judged) < config.fewest_rows or len(cut) <= config.max_share * len(judged):
        return None
    return Finding(
        "error",
        "domain_text_as_instructions",
        len(cut),
        len(judged),
        f"{len(cut)} of {len(judged)} conversations are documents cut in two: the prompt asks nothing and the answer "
        "goes on with the text. A model tuned on them learns to continue texts, not to follow instructions",
        "Give these documents to the `domain` stage (a data set of format `text`), and tune `sft` on requests with "
        "answers; to teach the documents' content there, write questions about it",
        seen((each.located, f"{each.exchanges[0].prompt} → {each.exchanges[0].answer}") for each in cut),
        shares(judged, config),
    )


def judge(rows: Sequence[Located], config: InstructionsConfig) -> list[Judged]:
    """Every row's exchanges, an instruction that most rows share taken out: it tells nothing about a row."""
    pairs = [(located, pair) for located in rows for pair in _pairs(located.row["messages"])]
    prompts = without_shared_opening([prompt for _, (prompt, _) in pairs], config.shared_opening)
    found: dict[int, Judged] = {}
    for prompt, (located, (_, answer)) in zip(prompts, pairs, strict=True):
        found.setdefault(id(located), Judged(located, [])).exchanges.append(exchange(prompt, answer))
    return list(found.values())


def shares(judged: Sequence[Judged], config: InstructionsConfig) -> dict[str, float]:
    """What the verdict rests on: shares of conversations (`cut`) and of exchanges (the rest)."""
    every = [exchange for each in judged for exchange in each.exchanges]
    features = ("asks", "faces", "broken", "english")
    found = {name: sum(getattr(each, name) for each in every) / max(1, len(every)) for name in features}
    cut = sum(each.cut(config.most_exchanges) for each in judged) / max(1, len(judged))
    return {"cut": round(cut, 4), **{name: round(share, 4) for name, share in found.items()}}


def _pairs(messages: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    """(prompt, answer) of a conversation; a system turn is left out."""
    said = [turn for turn in messages if turn["role"] in ("user", "assistant")]
    return [
        (asked["content"], answered["content"])
        for asked, answered in pairwise(said)
        if (asked["role"], answered["role"]) == ("user", "assistant")
    ]
