"""scripts/harness_agreement.py: HFLM, the measurement harness and the native measurements agree, on a toy."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "scripts" / "harness_agreement.py"
CLOSE = 1e-4


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("harness_agreement", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def policy(base):
    import torch

    from stages.models.chain import load_policy

    torch.set_num_threads(1)
    return load_policy(base, {}, device="cpu")


@pytest.fixture(scope="module")
def found(script, policy, tmp_path_factory):
    """type -> what the script finds on four items."""
    from stages.evaluation.harness.tasks import load

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("agreement"))
        load.cache_clear()
        yield {case.type: script.compare(policy, case) for case in script.cases(4)}
        load.cache_clear()


TYPES = {
    "multiple_choice": {"acc", "acc_norm"},
    "loglikelihood": {"perplexity"},
    "loglikelihood_rolling": {"bits_per_byte"},
    "generate_until": {"exact_match"},
}


@pytest.mark.parametrize("kind", TYPES)
def test_log_likelihoods_and_texts_are_equal(found, kind):
    """HFLM takes its softmax in float64 here: in float32 it is off by 1e-6 to 1e-5 for each token of a long text."""
    for way in ("harness", "native"):
        apart = found[kind]["apart"][f"hflm, softmax in float64 | {way}"]
        assert apart == "30 of 30 texts equal" if kind == "generate_until" else 0 < apart < CLOSE, way
    assert found[kind]["greedy_equal"]


@pytest.mark.parametrize("kind", TYPES)
def test_numbers_are_equal_and_the_native_measurements_have_them(found, kind):
    numbers = found[kind]["numbers"]
    assert {name for name, ways in numbers.items() if "native" in ways} == TYPES[kind]
    for ways in numbers.values():
        assert all(value == pytest.approx(ways["hflm"], rel=CLOSE) for value in ways.values())
