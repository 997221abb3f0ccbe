"""Toy prompts are short, and little of the fast step would be tested as it is: here every prompt that comes twice is
shared, and those of 7 tokens and more are attended to apart from their answers."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def short_prompts_count_as_long():
    from stages.kernels import layout, tree

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARED_FROM", 1)
        patch.setattr(tree, "APART_FROM", 7)
        yield
