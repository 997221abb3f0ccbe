"""Makers of results and training rows without a model."""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.diagnosis.failures import Suite
from stages.diagnosis.lessons import Lesson


@pytest.fixture(scope="session")
def made():
    """made.suite(prompts, failed, ...), made.lesson(prompt, answer)"""

    def suite(prompts, failed=None, clusters=None, columns=None, references=None, name="quiz"):
        n = len(prompts)
        ids = [f"q{i}" for i in range(n)]
        failed = np.zeros(n) if failed is None else np.asarray(failed, dtype=float)
        return Suite(
            name, "accuracy", ids, clusters or ids, failed, columns or [{}] * n, list(prompts), ["said"] * n,
            references or [""] * n,
        )  # fmt: skip

    def lesson(prompt, answer="", **columns):
        return Lesson("lessons", prompt, answer, columns)

    return SimpleNamespace(suite=suite, lesson=lesson)
