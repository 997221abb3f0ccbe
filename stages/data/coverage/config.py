"""Targets of coverage: how much of what a data set should hold."""

from dataclasses import dataclass, field
from typing import Dict

from pipeline.errors import ConfigError
from stages.data import thresholds
from stages.data.thresholds import suggestion

HARMS = (
    "violence",
    "drugs",
    "self_harm",
    "hate",
    "sexual",
    "fraud",
    "privacy",
    "malware",
    "legal",
    "dangerous_advice",
)


@dataclass
class CoverageConfig:
    """Targets are shares of the rows of one data set; the defaults are those of docs/coverage.md."""

    fewest_rows: int = 50  # rows below which nothing is judged; the tables are there all the same
    largest_task: float = 0.6  # share of prompts of one task type above which a set is one-sided
    task_types: int = 6  # task types that an instruction set should hold at least
    present: float = 0.005  # share of prompts from which a task type counts as held
    templates: int = 10  # templates whose prompts are counted together
    templated: float = 0.5  # share of prompts of that many templates above which a set is a few wordings
    refusals: float = 0.01  # share of answers that refuse, at least
    most_refusals: float = 0.3  # share of answers that refuse, at most: above, refusing becomes the habit
    look_alikes: float = 0.01  # share of rows that look harmful and are answered, at least
    refusal_targets: Dict[str, float] = field(default_factory=lambda: dict.fromkeys(HARMS, 0.0005))  # by harm, at least
    look_alike_targets: Dict[str, float] = field(default_factory=lambda: dict.fromkeys(HARMS, 0.0005))
    edge: float = 0.001  # share of prompts of each kind of edge case, at least
    long_words: int = 800  # words from which a prompt is an over-long one
    psi: float = 0.25  # population stability index from which a feature differs from production
    topics: int = 24  # topics into which training and production are cut together
    topic: float = 0.02  # share of production from which a topic that training lacks is told
    lacking: float = 0.5  # of its share in production, below which training lacks a topic
    distinct_prompts: float = 0.2  # distinct prompts for each pair, at least
    fewest_prompts: int = 50  # distinct prompts of a preference set, at least
    largest_prompt: float = 0.05  # share of pairs on one prompt and its near-duplicates, at most


def check(config: CoverageConfig) -> None:
    """ConfigError for targets that cannot be meant."""
    thresholds.check("contract.coverage", config, free=("psi",))
    if config.refusals >= config.most_refusals:
        raise ConfigError(
            f"contract.coverage.refusals={config.refusals}: at least as much as most_refusals={config.most_refusals}; "
            "the first is the least that is wanted, the second the most"
        )
    for name in ("refusal_targets", "look_alike_targets"):
        targets = getattr(config, name)
        for harm in targets:
            if harm not in HARMS:
                raise ConfigError(f"contract.coverage.{name}.{harm}: unknown kind of harm{suggestion(harm, HARMS)}")
        thresholds.check_shares(f"contract.coverage.{name}", targets)
