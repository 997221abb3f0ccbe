"""Adapter methods by name, and the values they refuse."""

import pytest

from pipeline.errors import ConfigError
from pipeline.schema import PeftConfig
from stages.models.adapters import METHODS, peft_config


def test_every_field_arrives_in_the_library_config():
    made = peft_config(PeftConfig(r=3, alpha=7.5, dropout=0.25, target_modules=["q_proj", "v_proj"]))
    assert (made.r, made.lora_alpha, made.lora_dropout) == (3, 7.5, 0.25)
    assert set(made.target_modules) == {"q_proj", "v_proj"} and made.task_type == "CAUSAL_LM"


def test_defaults_target_all_linear_layers():
    assert peft_config(PeftConfig()).target_modules == "all-linear"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lorra"}, "peft.method='lorra' is unknown; known: lora"),
        ({"r": 0}, "peft.r=0"),
        ({"alpha": 0.0}, "peft.alpha=0.0"),
        ({"dropout": 1.0}, "peft.dropout=1.0"),
        ({"dropout": -0.1}, "peft.dropout=-0.1"),
        ({"target_modules": 3}, "peft.target_modules=3"),
        ({"target_modules": []}, r"peft.target_modules=\[\]"),
    ],
)
def test_impossible_values_are_refused_with_their_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        peft_config(PeftConfig(**settings))


def test_every_method_makes_a_config():
    for name in METHODS:
        assert peft_config(PeftConfig(method=name)).peft_type
