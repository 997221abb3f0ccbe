"""The one model that tells the languages of texts: py3langid's, which goes through many texts at once."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier


class Identifier(LanguageIdentifier):
    """What it tells is what py3langid tells."""

    __slots__ = ("counts", "moves", "outputs", "rows")

    def read(self, texts: Iterable[str]) -> None:
        """Count the features of texts that are asked about next: their automaton takes a letter of each at a time."""
        codes = sorted({self._encode(text) for text in texts}, key=len, reverse=True)
        lengths = np.array(list(map(len, codes)), dtype=np.int64)
        letters = np.zeros((max(lengths, default=0), len(codes)), dtype=np.uint8)
        for i, code in enumerate(codes):
            letters[: len(code), i] = np.frombuffer(code, dtype=np.uint8)
        features = np.full(letters.shape, -1, dtype=np.int32)
        state = np.zeros(len(codes), dtype=np.int64)
        for place, row in enumerate(letters):
            going = int(np.searchsorted(-lengths, -place))  # those that are longer
            state = self.moves[(self.rows[state[:going]] << 8) + row[:going]].astype(np.int64)
            features[place, :going] = self.outputs[state]
        columns = (features[:length, i] for i, length in enumerate(lengths))
        self.counts = {code: Counter(found[found >= 0].tolist()) for code, found in zip(codes, columns, strict=True)}

    def _raw_score(self, text: bytes) -> np.ndarray:
        counts = self.counts.get(text)
        return self._sparse_score(counts, self.nb_ptc) if counts else super()._raw_score(text)

    def likely(self, text: str, sure: float) -> list[tuple[str, float]]:
        """Every language with its probability, the most likely first; that one alone if it reaches `sure`."""
        scores = self._decide(text)
        best = int(scores.argmax())
        if scores[best] >= sure:
            return [(self.nb_classes[best], float(scores[best]))]
        shares: dict[str, float] = {}
        for name, share in zip(self.nb_classes, scores.tolist(), strict=True):
            shares.setdefault(name, share)  # an alias has nothing of its own
        return sorted(shares.items(), key=lambda each: each[1], reverse=True)


@cache
def identifier() -> Identifier:
    found = Identifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.counts = {}
    found.moves, found.rows = (np.frombuffer(each, dtype=each.typecode) for each in (found.tk_nextmove, found.tk_row))
    found.rows, found.outputs = found.rows.astype(np.int64), np.array(found.tk_output, dtype=np.int32)
    return found
