"""The sets that `legal` trains on: what each is made from, and its options.

The work is in the modules beside this one, imported when a set is built, so that this file stays cheap to import.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.data.builders import builder
from stages.data.legal.credits import CHATS, FACTS, LICENCES, credit
from stages.data.legal.licences import SPLIT, known_side
from stages.data.legal.talk import AUTHORED
from stages.data.legal.wording import PROMPTS
from stages.data.split import interleave

SIMULATED = "The votes are simulated: no person has judged these pairs."


@dataclass
class DomainOptions:
    """`legal_domain`."""

    max_words: int = 220  # of one piece of text
    notices: int = 600  # licence notices mixed in


@builder(
    "legal_domain",
    format="text",
    options=DomainOptions,
    packages=LICENCES,
    files=(SPLIT,),
    attribution=credit(*LICENCES),
)
def legal_domain(options: DomainOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Texts of the licences for training, in pieces, and notices of such licences."""
    from stages.data.legal import texts

    yield from texts.domain(options.max_words, options.notices, seed)


@dataclass
class SftOptions:
    """`legal_sft`: how many rows of each part at most; 0 = all there are."""

    legal: int = 0
    general: int = 0
    safety: int = 0
    asked: float = 0.6  # share of a limited `legal` for categories of excerpts and for rules, half each; 0.0 = natural

    def __post_init__(self) -> None:
        if not 0 <= self.asked < 1:
            raise ValueError(f"asked must be 0 or more and below 1, not {self.asked}")


@builder(
    "legal_sft",
    format="chat",
    options=SftOptions,
    packages=FACTS,
    files=(SPLIT, PROMPTS, AUTHORED / "general_train.jsonl", AUTHORED / "safety_train.jsonl"),
    version=2,
    attribution=credit(*FACTS, "authored"),
)
def legal_sft(options: SftOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Questions and answers about licences, general instructions, refusals and their benign look-alikes."""
    from stages.data.legal import questions

    yield from interleave(
        [
            questions.legal_chats(options.legal, options.asked, seed),
            questions.authored_chats("general_train", "general", options.general, seed),
            questions.authored_chats("safety_train", "safety", options.safety, seed),
        ],
        seed,
    )


@dataclass
class PairOptions:
    """`legal_pairs`: how many pairs of each part at most; 0 = all there are."""

    legal: int = 0
    general: int = 0
    safety: int = 0


@builder(
    "legal_pairs",
    format="preference",
    options=PairOptions,
    packages=FACTS,
    files=(SPLIT, PROMPTS, AUTHORED / "general_pairs.jsonl", AUTHORED / "safety_pairs.jsonl"),
    version=2,
    attribution=credit(*FACTS, "authored"),
)
def legal_pairs(options: PairOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Label-true against label-false answers, and authored pairs: better and worse help, refusing and complying."""
    from stages.data.legal import questions

    yield from interleave(
        [
            questions.legal_pairs(options.legal, seed),
            questions.authored_pairs("general_pairs", "general", options.general, seed),
            questions.authored_pairs("safety_pairs", "safety", options.safety, seed),
        ],
        seed,
    )


@dataclass
class VoteOptions(PairOptions):
    """`legal_votes`: these pairs, and how they are judged."""

    annotators: int = 5
    each: int = 3  # votes on one pair
    best: float = 0.95  # how often the best annotator prefers the better answer
    worst: float = 0.6  # how often the worst one does; the others are evenly spread between
    ties: float = 0.05  # share of votes that see no difference

    def __post_init__(self) -> None:
        if not 1 <= self.each <= self.annotators:
            raise ValueError(f"each must be from 1 to annotators={self.annotators}, not {self.each}")
        for name in ("best", "worst", "ties"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")


@builder(
    "legal_votes",
    format="votes",
    options=VoteOptions,
    packages=FACTS,
    files=(SPLIT, PROMPTS, AUTHORED / "general_pairs.jsonl", AUTHORED / "safety_pairs.jsonl"),
    attribution=f"{SIMULATED}\n\n{credit(*FACTS, 'authored')}",
)
def legal_votes(options: VoteOptions, seed: int) -> Iterator[dict[str, Any]]:
    """The pairs of `legal_pairs` as votes of simulated annotators of known accuracy."""
    from stages.data.legal import simulated

    accuracy = simulated.accuracies(options.annotators, options.best, options.worst)
    yield from simulated.voted(legal_pairs(options, seed), accuracy, options.each, options.ties, seed)


@dataclass
class TalkOptions:
    """`legal_general_text`."""

    split: str = "train"  # train | heldout | dev
    max_words: int = 120  # of one chat; it is cut after a whole exchange
    count: int = 600  # chats

    def __post_init__(self) -> None:
        known_side(self.split)


@builder("legal_general_text", format="chat", options=TalkOptions, packages=CHATS, attribution=credit(*CHATS))
def legal_general_text(options: TalkOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Human small talk of four turns or more, for rehearsal."""
    from stages.data.legal import talk

    yield from talk.sample(options.split, options.max_words, options.count, seed)


@dataclass
class CheckedOptions:
    """`legal_checked`: how many prompts of each part at most; 0 = all there are."""

    split: str = "train"  # train | heldout | dev
    general: int = 0
    safety: int = 0

    def __post_init__(self) -> None:
        known_side(self.split)


@builder(
    "legal_checked",
    format="generate",
    options=CheckedOptions,
    packages=(),
    files=tuple(
        AUTHORED / f"{name}.jsonl"
        for name in (
            "general_train",
            "general_heldout_checks",
            "general_dev_checks",
            "safety_train",
            "safety_heldout",
            "safety_dev",
        )
    ),
    attribution=credit("authored"),
)
def legal_checked(options: CheckedOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Prompts with a rule for right answers: general instructions, requests to decline, and their look-alikes."""
    from stages.data.legal import questions

    name = "general_train" if options.split == "train" else f"general_{options.split}_checks"
    yield from interleave(
        [
            questions.checked(name, "general", options.general, seed),
            questions.checked(f"safety_{options.split}", "safety", options.safety, seed),
        ],
        seed,
    )
