"""Alarms of preference training: they stop nothing, stand in the manifest and in the log, and say what to change."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.context import Context


def sound(ctx: Context, name: str, detail: str) -> None:
    """Record an alarm beside those of before."""
    ctx.record("alarms", [*ctx.sections.get("alarms", []), {"name": name, "detail": detail}])
    ctx.log(f"alarm {name}: {detail}")


def implicit_rewards(
    ctx: Context, history: Sequence[Mapping[str, Any]], names: Sequence[str], advice: str
) -> dict[str, float]:
    """Metrics of the last quarter's implicit rewards (Rafailov et al. 2023), an alarm where the chosen answers' fell.

    `names`: what TRL logs as `rewards/...`, `chosen` among them. Nothing where nothing was logged.
    """
    logged = [entry for entry in history if "rewards/chosen" in entry]
    means = {name: _tail_mean(logged, f"rewards/{name}") for name in names if logged}
    if means and means["chosen"] < 0:
        sound(
            ctx, "chosen_probability_fell",
            f"chosen answers became less likely than under the input policy (mean reward {means['chosen']:.3f}); "
            f"{advice}",
        )  # fmt: skip
    return {f"reward_{name}": value for name, value in means.items()}


def _tail_mean(entries: Sequence[Mapping[str, Any]], name: str) -> float:
    """The mean of a number over the last quarter of the entries that have it; 0 where none has."""
    found = [float(entry[name]) for entry in entries if name in entry]
    tail = found[-max(1, len(found) // 4) :]
    return sum(tail) / len(tail) if tail else 0.0
