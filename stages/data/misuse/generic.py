"""`generic_data_as_domain`: documents without a specialist vocabulary, or far from the declared sample of the domain."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.data.findings import Finding, Located


@dataclass
class GenericConfig:
    """When documents count as general text."""

    max_share: float = 0.5  # of documents that may lack the domain's vocabulary
    fewest_rows: int = 20  # below this many documents nothing is said


def generic_data_as_domain(
    rows: Sequence[Located], sample: Sequence[str] | None, config: GenericConfig
) -> Finding | None:
    """An error where more than `max_share` of the documents have no specialist vocabulary, or not that of `sample`."""
    return None
