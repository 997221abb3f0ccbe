"""Placeholders such as [EMAIL] in the place of personal data and secrets, in every text of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from stages.data.contract import personal, secret
from stages.data.contract.config import check_regions
from stages.data.contract.spans import LABELS, Span, disjoint, masked
from stages.data.thresholds import suggestion

SECRET = "secret"
KINDS = (*personal.KINDS, SECRET)
VERSION = 1  # of the rules; part of the id of a data set that is redacted


@dataclass(frozen=True)
class Redaction:
    """What is taken out: kinds of KINDS; `regions`: countries whose telephone numbers need no country's code."""

    kinds: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def spans(self, text: str) -> list[Span]:
        secrets = secret.find(text) if SECRET in self.kinds else []
        found = personal.find(text, self.kinds, self.regions)
        return disjoint([*secrets, *found]) if secrets and found else secrets or found

    def of(self, content: Any) -> tuple[Any, list[str]]:
        """The content of a row without them, and their kinds in the order of KINDS."""
        if not self.kinds:
            return content, []
        kinds: set[str] = set()
        return self._of(content, kinds), [kind for kind in KINDS if kind in kinds]

    def _of(self, content: Any, kinds: set[str]) -> Any:
        if isinstance(content, str):
            spans = self.spans(content)
            kinds.update(span.kind for span in spans)
            return masked(content, spans) if spans else content
        if isinstance(content, Mapping):
            return {name: value if name in LABELS else self._of(value, kinds) for name, value in content.items()}
        if isinstance(content, Sequence):
            return [self._of(value, kinds) for value in content]
        return content


NOTHING = Redaction()


def check(kinds: Sequence[str], regions: Sequence[str]) -> None:
    """ConfigError for kinds and countries that do not exist."""
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"redact: unknown kind '{kind}'{suggestion(kind, KINDS)}")
    check_regions("redact_regions", regions)
