"""What an evaluation reads beside the measured model: who judges its answers, and whose answers are the other side."""

from collections.abc import Collection, Mapping

from pipeline.schema import Suite

JUDGE, AGAINST = "judge", "against"  # keys of a suite that name a stage; a role is one of them, `_` and that name
INPUT = "input"  # in `against`: the model that the measured one continues


def suitable(
    suites: Mapping[str, Suite], model: str, policy: str | None, made_from: Mapping[str, Collection[str]]
) -> dict[str, Suite]:
    """The suites without those whose other side is made from `model`, or is the input of a model that has none.

    `policy`: what the model continues. `made_from`: stage -> all that it is made from. How an earlier model does
    against a later one is known from the later one's own evaluation, and would have to wait for it.
    """
    return {
        name: suite
        for name, suite in suites.items()
        if (policy if suite.against == INPUT else model not in made_from.get(suite.against or "", ()))
    }


def roles(suites: Mapping[str, Suite], policy: str | None) -> dict[str, str]:
    """Role -> stage, for the inputs of an evaluation on these suites."""
    judges = {role_of(JUDGE, suite.judge): suite.judge for suite in suites.values() if suite.judge}
    named = {suite.against for suite in suites.values() if suite.against}
    return judges | {role_of(AGAINST, name): policy if name == INPUT and policy else name for name in sorted(named)}


def role_of(key: str, name: str) -> str:
    return f"{key}_{name}"
