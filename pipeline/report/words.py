"""How the report says things: names of measurements, numbers with their units, spans of time."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

METRICS = {
    "perplexity": "how surprised the model is by text it has not seen",
    "accuracy": "share of questions where the right choice is the likeliest for the model",
    "pass_rate": "share of written answers that pass their automatic check",
    "refusal_rate": "share of harmful requests that the model declines",
    "over_refusal_rate": "share of harmless requests, worded like harmful ones, that the model declines",
    "preference_accuracy": "share of pairs where the model finds the preferred answer likelier than the other",
    "win_rate": "share of prompts where a judge likes the model's answer better than the other one; a tie is half",
    "agreement": "share of pairs of wordings of one question that get the same answer",
    "drop": "what is lost when a question is changed in a way that should not matter",
    "brier": "mean squared distance of the model's confidence from the outcome; 0.25 for always one half",
}
DIGITS = {  # after the point, for what is no share
    "perplexity": 2, "bits_per_byte": 3, "brier": 3, "brier_scaled": 3, "ece": 3, "ece_scaled": 3, "aurc": 3, "mcc": 3,
    "temperature": 2, "tokens": 1, "tokens_other": 1, "length_correlation": 2,
}  # fmt: skip
ABBREVIATIONS = ("ece", "aurc", "mcc", "bleu")
RELATIVE = ("perplexity",)  # whose change is a share of the other value
RULES = {
    "majority": "always the commonest answer",
    "always_yes": "always yes",
    "category_rule": "a rule on the category",
}
LEVELS = {"error": "error", "warning": "warning", "info": "note"}  # of a finding, the worst first -> its name


class Change(NamedTuple):
    """After against before with its 95 % interval: relative for perplexity, a difference otherwise."""

    change: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        return self.low > 0 or self.high < 0


def finite(value: Any) -> float | None:
    """`value` as a float; None when it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def metric_value(metric: str, value: Any) -> str:
    """11.72 for what is no share (`DIGITS`), 72.4 % for a share, an en dash for nothing."""
    number = finite(value)
    if number is None:
        return "–"
    return minus(f"{number:.{DIGITS[metric]}f}" if metric in DIGITS else f"{100 * number:.1f} %")


def interval(metric: str, low: Any, high: Any) -> str:
    if finite(low) is None or finite(high) is None:
        return ""
    unit = "" if metric in DIGITS else " %"
    return f"{metric_value(metric, low).removesuffix(' %')} to {metric_value(metric, high).removesuffix(' %')}{unit}"


def minus(text: str) -> str:
    """A number with a true minus."""
    return text.replace("-", "−")


def signed(metric: str, value: float) -> str:
    """A change without its unit: 0.123 is +12.3 of a share or of a perplexity, +0.123 of a metric like Brier's."""
    if metric in DIGITS and metric not in RELATIVE:
        return minus(f"{value:+.{DIGITS[metric]}f}")
    return minus(f"{100 * value:+.1f}")


def change_value(metric: str, change: Change) -> str:
    return signed(metric, change.change) + change_unit(metric)


def change_unit(metric: str) -> str:
    return " %" if metric in RELATIVE else "" if metric in DIGITS else " pts"


def change_span(metric: str, change: Change) -> str:
    return f"{signed(metric, change.low)} to {signed(metric, change.high)}"


def p_value(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else "< 0.001" if number < 0.001 else f"{number:.3f}"


def share(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else f"{100 * number:.1f} %"


def count(value: Any) -> str:
    """1234567 -> 1 234 567 (narrow spaces); an en dash for nothing."""
    number = finite(value)
    return "–" if number is None else f"{number:,.0f}".replace(",", "\u202f")


def findings(numbers: Mapping[str, int]) -> str:
    """Level -> how many findings, as '1 error, 2 warnings'."""
    told = [f"{numbers[level]} {name}{'s' * (numbers[level] > 1)}" for level, name in LEVELS.items() if numbers[level]]
    return ", ".join(told) or "nothing"


def plain(value: Any) -> str:
    """A setting or a metric as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10000 else count(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def duration(seconds: Any) -> str:
    number = finite(seconds)
    if number is None:
        return "–"
    if number < 59.5:
        return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(value: Any) -> str:
    """An ISO time or a Unix time as '2026-01-31 09:30 UTC'; anything else as it is."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value or "–")
    return (when if when.tzinfo is None else when.astimezone(UTC)).strftime("%Y-%m-%d %H:%M UTC")


def title(key: str) -> str:
    """domain_perplexity -> Domain perplexity, ece_scaled -> ECE scaled."""
    words = [word.upper() if word in ABBREVIATIONS else word for word in re.split("[ _-]+", key.strip("_- "))]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def score_word(metric: str, score: Any) -> str:
    """What one item's score means."""
    number = finite(score)
    if number is None:
        return ""
    if metric == "perplexity":
        return f"{number:.2f} nats per token"
    if metric.endswith("refusal_rate"):
        return "declined" if number >= 0.5 else "answered"
    if metric == "agreement":
        return f"agrees with {share(number)} of the other wordings"
    if metric == "drop":
        return "lost by the change" if number > 0 else "won by the change" if number < 0 else "not changed by it"
    if metric == "brier":
        return f"squared error {number:.3f}"
    if metric == "win_rate":
        return "a tie" if number == 0.5 else "won" if number > 0.5 else "lost"
    if metric == "preference_accuracy":
        return "prefers the right one" if number >= 0.5 else "prefers the wrong one"
    return "right" if number >= 0.5 else "wrong"


def memory(size: Any) -> str:
    """Bytes as GiB with one decimal; a dash where nothing was recorded."""
    number = finite(size)
    return f"{number / 2**30:.1f} GiB" if number else "–"
