"""How strictly data is judged: the level of each finding and the thresholds behind them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Dict, List

from pipeline.errors import ConfigError
from stages.data import leaks, similar, thresholds
from stages.data.coverage import config as coverage
from stages.data.coverage.config import CoverageConfig
from stages.data.findings import LEVELS
from stages.data.leaks import LeakConfig
from stages.data.misuse import config as misuse
from stages.data.misuse.config import GenericConfig, InstructionsConfig
from stages.data.thresholds import suggestion

OFF = "off"
DEFAULT_LEVELS = {
    "no_rows": "error",
    "wrong_form": "error",
    "unreadable_row": "error",
    "empty_turn": "error",
    "role_order": "error",
    "no_trained_token": "warning",
    "rows_cut": "info",
    "too_long": "warning",
    "exact_duplicates": "warning",
    "near_duplicates": "info",
    "conflicting_answers": "warning",
    "mixed_format": "info",
    "mixed_register": "info",
    "boilerplate": "warning",
    "encoding_damage": "warning",
    "language_mix": "warning",
    "length_outliers": "info",
    "personal_data": "warning",
    "secrets": "error",
    "template_tokens": "error",
    "chosen_is_rejected": "error",
    "contradicting_preferences": "error",
    "length_bias": "warning",
    "label_imbalance": "warning",
    "answer_in_prompt": "warning",
    "not_examined": "info",
    "domain_text_as_instructions": "error",
    "generic_data_as_domain": "error",
    "unusable_sample": "warning",
    "stage_order": "error",
    "evaluation_leak": "error",
    "task_diversity": "warning",
    "wording_diversity": "warning",
    "refusal_share": "warning",
    "look_alike_share": "warning",
    "edge_cases": "info",
    "production_gap": "warning",
    "prompt_spread": "warning",
}
LEAKS = ("refuse", "drop")
VERSION = 1  # of the rules
PERSONAL = ("email", "phone", "iban", "card", "ssn", "ip")  # kinds of personal data


@dataclass
class ContractConfig:
    """Levels and thresholds of the data contract; the defaults are those of docs/contracts.md."""

    version: int = VERSION  # of the rules: raised when a default or a rule changes what is found
    levels: Dict[str, str] = field(default_factory=dict)  # code -> error | warning | info | off, over the default
    accepted: Dict[str, str] = field(default_factory=dict)  # code -> why it is right here: a warning becomes an info
    leaks: str = "refuse"  # training rows that are also measured: refuse the run, or drop them from the training
    near_duplicates: float = (
        0.8  # Jaccard similarity of 5-word shingles from which rows are alike, or one word in short ones
    )
    answer_overlap: float = 0.2  # share of common words below which two answers to one closed question conflict
    dominant: float = 0.75  # share of a task's answers from which their format or register is the rule
    group: int = 20  # rows of a task from which its answers are compared with one another
    language: float = 0.9  # probability from which a text's language counts as known
    language_letters: int = 40  # letters that a text must have for its language to be asked
    outlier: float = 3.5  # robust standard deviations of length from which a row is an outlier
    chosen_longer: float = 0.6  # share of pairs with the longer answer chosen, above which length is a shortcut
    majority: float = 0.9  # share of rows with one label above which labels are out of balance
    tied: float = 0.5  # share of tied votes above which annotators cannot tell the answers apart
    personal: List[str] = field(default_factory=lambda: list(PERSONAL))
    regions: List[str] = field(default_factory=lambda: ["US"])  # countries of phone numbers without a country's code
    instructions: InstructionsConfig = field(default_factory=InstructionsConfig)
    generic: GenericConfig = field(default_factory=GenericConfig)
    coverage: CoverageConfig = field(default_factory=CoverageConfig)
    leak: LeakConfig = field(default_factory=LeakConfig)


def check(config: ContractConfig) -> None:
    """ConfigError for codes, levels, kinds and thresholds that cannot be meant."""
    for name, codes in (("levels", config.levels), ("accepted", config.accepted)):
        for code in codes:
            if code not in DEFAULT_LEVELS:
                raise ConfigError(f"contract.{name}.{code}: unknown finding{suggestion(code, DEFAULT_LEVELS)}")
    if config.version != VERSION:
        raise ConfigError(
            f"contract.version={config.version}: this version of Journeyman has the rules of version {VERSION}"
        )
    if config.leaks not in LEAKS:
        raise ConfigError(f"contract.leaks={config.leaks}: use {' or '.join(LEAKS)}")
    for code, reason in config.accepted.items():
        if not reason.strip():
            raise ConfigError(f"contract.accepted.{code}: say why the finding is right here")
    for code, level in config.levels.items():
        if level not in (*LEVELS, OFF):
            raise ConfigError(f"contract.levels.{code}={level}: use {', '.join(LEVELS)} or {OFF}")
    for kind in config.personal:
        if kind not in PERSONAL:
            raise ConfigError(f"contract.personal: unknown kind '{kind}'{suggestion(kind, PERSONAL)}")
    check_regions("contract.regions", config.regions)
    thresholds.check("contract", config, above=SHARES, free=("outlier",))
    if config.near_duplicates < similar.LEAST_ALIKE:
        raise ConfigError(
            f"contract.near_duplicates={config.near_duplicates}: give a similarity from {similar.LEAST_ALIKE} to 1"
        )
    misuse.check(config.instructions, config.generic)
    coverage.check(config.coverage)
    leaks.check(config.leak)


SHARES = ("answer_overlap", "dominant", "language", "chosen_longer", "majority", "tied")


def check_regions(key: str, regions: Collection[str]) -> None:
    """ConfigError for what is no country's code."""
    from phonenumbers import SUPPORTED_REGIONS

    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise ConfigError(f"{key}: '{region}' is no country code of two letters, such as US, GB or SE")


def level_of(config: ContractConfig, code: str) -> str:
    """error | warning | info | off. What is a warning, unless `levels` raises it, is an info where it is accepted."""
    default = DEFAULT_LEVELS[code]
    level = config.levels.get(code, default)
    return "info" if code in config.accepted and "warning" in (level, default) and level != OFF else level
