"""Thresholds of the two mistakes; what they were fitted on stands in docs/misuse.md."""

from dataclasses import dataclass

from pipeline.errors import ConfigError
from stages.data import thresholds


@dataclass
class InstructionsConfig:
    """When a set of chats counts as cut documents."""

    max_share: float = 0.3  # of conversations that may look like pieces of a text
    fewest_rows: int = 10  # below this many conversations nothing is said
    most_rows: int = 5000  # conversations that are read, evenly over the whole
    shared_opening: float = 0.3  # share of prompts from which a common opening or ending is one instruction for all
    most_exchanges: float = 0.6  # a conversation is cut where this share of its exchanges is


@dataclass
class GenericConfig:
    """When documents count as general text, or as another domain's."""

    max_share: float = 0.5  # of documents that may lack the domain's vocabulary
    density: float = 0.1  # share of specialist words below which a document has no specialist vocabulary
    closeness: float = 0.5  # of the weight that the sample's words have in the sample, below which a document is far
    vocabulary: int = 20  # specialist words below which the documents together have no vocabulary of their own
    fewest_rows: int = 30  # different documents, or pieces of them, below which nothing is said
    fewest_words: int = 3000  # words of them altogether, below which nothing is said
    most_rows: int = 5000  # documents that are read, evenly over the whole


def check(instructions: InstructionsConfig, generic: GenericConfig) -> None:
    """ConfigError for thresholds that cannot be meant."""
    thresholds.check("contract.instructions", instructions, above=("shared_opening",))
    thresholds.check("contract.generic", generic)
    for name, config in (("instructions", instructions), ("generic", generic)):
        if config.most_rows < config.fewest_rows:
            raise ConfigError(
                f"contract.{name}.most_rows={config.most_rows}: fewer than fewest_rows={config.fewest_rows}, so that "
                "nothing would ever be said; raise it, or set the finding's level to off"
            )
