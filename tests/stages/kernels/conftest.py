"""Toy prompts are short: here every prompt that comes twice is shared, or little of the fast step would be tested."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def every_prompt_is_shared():
    from stages.kernels import layout

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARED_FROM", 1)
        yield
