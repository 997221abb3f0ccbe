"""Lets the code run where torch 2.11 is what there is: its `varlen_attn` has no switch for grouped heads.

Its kernel groups heads by itself. As a pytest plugin: `pytest -p older_libraries` with this folder on the path.
"""

import functools
import inspect
from typing import Any


def varlen_without_switch() -> str:
    """Let `varlen_attn` take `enable_gqa` where it does not; says what was found."""
    from torch.nn.attention import varlen

    original = varlen.varlen_attn
    if "enable_gqa" in inspect.signature(original).parameters:
        return "varlen_attn takes enable_gqa"

    @functools.wraps(original)
    def attend(*args: Any, enable_gqa: bool = False, **settings: Any) -> Any:
        return original(*args, **settings)

    varlen.varlen_attn = attend
    return "varlen_attn has no enable_gqa; its kernel is given fewer heads of keys as they are"


def pytest_configure() -> None:
    varlen_without_switch()
