"""Targets of coverage: how much of what a data set should hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Dict

from pipeline.errors import ConfigError

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
    for name in ("fewest_rows", "task_types", "templates", "long_words", "topics", "fewest_prompts"):
        if not getattr(config, name) >= 1:
            raise ConfigError(f"coverage.{name}={getattr(config, name)}: give a whole number from 1")
    for name in SHARES:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"coverage.{name}={getattr(config, name)}: give a share from 0 to 1")
    if config.psi <= 0:
        raise ConfigError(f"coverage.psi={config.psi}: give a number above 0")
    if config.refusals >= config.most_refusals:
        raise ConfigError(
            f"coverage.refusals={config.refusals}: at least as much as most_refusals={config.most_refusals}"
        )
    for name in ("refusal_targets", "look_alike_targets"):
        _check_targets(name, getattr(config, name))


SHARES = (
    "largest_task",
    "present",
    "templated",
    "refusals",
    "most_refusals",
    "look_alikes",
    "edge",
    "topic",
    "lacking",
    "distinct_prompts",
    "largest_prompt",
)


def _check_targets(name: str, targets: Mapping[str, float]) -> None:
    for harm, share in targets.items():
        if harm not in HARMS:
            raise ConfigError(f"coverage.{name}.{harm}: unknown kind of harm; known: {', '.join(HARMS)}")
        if not 0 <= share <= 1:
            raise ConfigError(f"coverage.{name}.{harm}={share}: give a share from 0 to 1")
