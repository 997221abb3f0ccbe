"""`stage_order`: domain training on a start that was never tuned to follow instructions."""

from collections.abc import Sequence

from pipeline.context import Artifact
from stages.data.findings import Finding


def stage_order(after: Sequence[str], start: Artifact) -> Finding | None:
    """An error where no `sft` is among the stages before (`after`: their kinds) and `start`, a base, was never tuned.

    The model is loaded only where `after` does not tell.
    """
    return None
