"""`domain_text_as_instructions`: documents cut into "prompts", with what came next as their answers.

Tuning on such rows teaches a model to go on with texts, not to do what it is asked. `docs/misuse.md` says how a row is
judged, on what the threshold was fitted and how often the verdict is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stages.data.contract.view import share
from stages.data.findings import Finding, Located, seen
from stages.data.misuse.config import InstructionsConfig
from stages.data.misuse.exchanges import Exchange, exchange, transforms, without_shared_ends

SEAM = 70  # letters before a cut that an example shows


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
        f"{share(len(cut), len(judged))} conversations are documents cut in two: the prompt asks nothing and the "
        "answer goes on with the text. A model tuned on them learns to continue texts, not to follow instructions.",
        "Give these documents to the `domain` stage (a data set of format `text`), and tune `sft` on requests with "
        "answers; to teach the documents' content there, write questions about it.",
        seen((each.located, _seam(each.exchanges[0])) for each in cut),
        shares(judged, config),
    )


def _seam(cut: Exchange) -> str:
    """Where the text was cut."""
    prompt = " ".join(cut.prompt.split())
    return f"{'…' if len(prompt) > SEAM else ''}{prompt[-SEAM:]} → {cut.answer}"


def judge(rows: Sequence[Located], config: InstructionsConfig) -> list[Judged]:
    """Every row's exchanges, without an opening or ending that many prompts share and that asks for nothing."""
    kept = rows[:: -(-len(rows) // config.most_rows)] if len(rows) > config.most_rows else rows
    pairs = [(located, pair) for located in kept for pair in _pairs(located.row["messages"])]
    prompts = without_shared_ends([prompt for _, (prompt, _) in pairs], config.shared_opening)
    found: dict[int, Judged] = {}
    for prompt, (located, (_, answer)) in zip(prompts, pairs, strict=True):
        told = transforms(_system(located.row["messages"]))
        found.setdefault(id(located), Judged(located, [])).exchanges.append(exchange(prompt, answer, told))
    return list(found.values())


def shares(judged: Sequence[Judged], config: InstructionsConfig) -> dict[str, float]:
    """What the verdict rests on: shares of conversations (`cut`) and of exchanges (the rest)."""
    every = [exchange for each in judged for exchange in each.exchanges]
    features = ("asks", "faces", "broken", "english")
    found = {name: sum(getattr(each, name) for each in every) / max(1, len(every)) for name in features}
    cut = sum(each.cut(config.most_exchanges) for each in judged) / max(1, len(judged))
    return {"cut": round(cut, 4), **{name: round(share, 4) for name, share in found.items()}}


def _system(messages: Sequence[dict[str, str]]) -> str:
    return messages[0]["content"] if messages[0]["role"] == "system" else ""


def _pairs(messages: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    """(prompt, answer) of a conversation; system turns, tools and their calls are left out."""
    said = [turn for turn in messages if turn["role"] in ("user", "assistant") and turn.get("content")]
    return [
        (asked["content"], answered["content"])
        for asked, answered in pairwise(said)
        if (asked["role"], answered["role"]) == ("user", "assistant")
    ]
