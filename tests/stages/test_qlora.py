"""A chain that changes its method: sft (lora), domain (qlora), dpo (qlora), and what is measured of it."""

import json
import shutil

import pytest
import torch

from pipeline.registry import kind
from pipeline.schema import PeftConfig, Runtime, Suite
from stages.domain import Rehearsal
from stages.models import quantization
from stages.models.chain import Chain, load_policy
from stages.training import probes, run
from stages.training.reference import cache_file

QLORA = PeftConfig(method="qlora", r=4, alpha=8.0)
NO_REHEARSAL = Rehearsal(share=0.0, safety_floor=0.0, general=0.0)


def has_4_bits(model):
    return any(hasattr(module, "dense_weight") for module in model.modules())


def weights(artifact):
    return (artifact.path / "model" / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def text_data(bench, rows):
    return bench.data("text", rows.text(40))


@pytest.fixture(scope="module")
def trained():
    """stage -> (whether its base had 4 bits, log-probabilities of the trained model) as it was published."""
    seen, real = {}, run._publish

    def publish(ctx, policy, trainer):
        seen[ctx.stage] = has_4_bits(trainer.model), probes.next_token_logits(trainer.model, policy.tokenizer)
        real(ctx, policy, trainer)

    run._publish = publish
    yield seen
    run._publish = real


@pytest.fixture(scope="module")
def quantizations():
    """Every quantization of a base while the chain is built."""
    made, real = [], quantization._quantize
    quantization._quantize = lambda *args: made.append(args) or real(*args)
    yield made
    quantization._quantize = real


@pytest.fixture(scope="module")
def domain4(bench, sft, text_data, trained, quantizations):
    shutil.rmtree(bench.root / "cache", ignore_errors=True)
    return bench.train("domain", sft.artifact, {"train": text_data}, rehearsal=NO_REHEARSAL, peft=QLORA)


@pytest.fixture(scope="module")
def dpo4(bench, domain4, pair_data):
    return bench.train("dpo", domain4.artifact, {"train": pair_data}, peft=QLORA, train={"learning_rate": 1e-3})


@pytest.fixture
def evaluated(bench, rows, monkeypatch):
    """evaluated(artifact, runtime) -> metrics, and whether the measured model had 4 bits."""

    def call(artifact, **runtime):
        from stages.models import chain

        heldout = bench.data("heldout", [])
        (heldout.path / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows.text(6)))
        seen, real = [], chain.attach
        monkeypatch.setattr(chain, "attach", lambda model, links: seen.append(has_4_bits(model)) or real(model, links))
        config = kind("evaluate").config(
            kind="evaluate", suites={"text": Suite("perplexity", "heldout")}, runtime=Runtime(device="cpu", **runtime)
        )
        found = bench.run(bench.context("eval", config, {"model": artifact}, {"heldout": heldout}))
        return found.metrics, *seen

    return call


def test_all_probes_pass_and_model_json_names_each_method(domain4, dpo4):
    for made, count in ((domain4, 7), (dpo4, 7)):
        assert all(probe["passed"] for probe in made.sections["probes"]) and len(made.sections["probes"]) == count
    names = {probe["name"] for made in (domain4, dpo4) for probe in made.sections["probes"]}
    assert {"starts_at_input", "reference_is_input", "loss_is_log_2", "packed_equals_unpacked"} <= names
    assert [ref.method for ref in Chain.read(dpo4.artifact).adapters] == ["lora", "qlora", "qlora"]
    assert domain4.metrics["final_loss"] < domain4.metrics["first_loss"]


def test_the_base_is_quantized_once_for_all_stages_and_evaluations(bench, dpo4, evaluated, quantizations):
    evaluated(dpo4.artifact)
    assert len(quantizations) == 1
    assert len(list((bench.root / "cache" / "quantized").iterdir())) == 1


def test_what_was_trained_is_what_is_loaded_and_measured(bench, sft, domain4, dpo4, trained, evaluated, tokenizer):
    for stage, made in (("domain", domain4), ("dpo", dpo4)):
        quantized, after = trained[stage]
        policy = load_policy(made.artifact, bench.made, device="cpu", cache=bench.root / "cache")
        assert quantized and has_4_bits(policy.model)
        torch.testing.assert_close(probes.next_token_logits(policy.model, tokenizer), after, atol=1e-4, rtol=1e-4)
        assert evaluated(made.artifact)[1] is True
    assert evaluated(sft.artifact)[1] is False


def test_the_base_is_not_what_a_full_precision_base_would_give(bench, dpo4, trained, tokenizer):
    """So that the test above can tell the two apart."""
    plain = load_policy(dpo4.artifact, bench.made, device="cpu", method="lora")
    assert (probes.next_token_logits(plain.model, tokenizer) - trained["dpo"][1]).abs().max() > 1e-3


def test_an_adapter_of_lora_above_one_of_qlora_is_trained_and_measured_on_the_full_base(
    bench, domain4, pair_data, evaluated, trained
):
    made = bench.train("dpo", domain4.artifact, {"train": pair_data}, train={"max_steps": 1})
    assert not trained["dpo"][0] and evaluated(made.artifact)[1] is False
    assert [ref.method for ref in Chain.read(made.artifact).adapters] == ["lora", "qlora", "lora"]


def test_dense_weights_that_are_kept_change_no_bit_of_training_and_evaluation(
    bench, sft, domain4, text_data, evaluated
):
    runtime = Runtime(threads=1, device="cpu", logging_steps=1, dequant_cache_gib=1.0)
    again = bench.train(
        "domain", sft.artifact, {"train": text_data}, rehearsal=NO_REHEARSAL, peft=QLORA, runtime=runtime
    )
    assert weights(again.artifact) == weights(domain4.artifact)
    assert evaluated(domain4.artifact, dequant_cache_gib=1.0) == evaluated(domain4.artifact)


def test_the_fast_step_on_4_bits_computes_what_trl_s_own_does(bench, domain4, pair_data):
    losses = {}
    for step in ("fast", "trl"):
        settings = {"peft": QLORA, "step": step, "train": {"max_steps": 3, "learning_rate": 1e-3}}
        made = bench.train("dpo", domain4.artifact, {"train": pair_data}, **settings)
        assert made.sections["training"]["step"].startswith("fast (fused: 14 " if step == "fast" else "trl (asked")
        history = (made.artifact.path / "history.jsonl").read_text().splitlines()
        losses[step] = [json.loads(line)["loss"] for line in history]
    assert losses["fast"] == pytest.approx(losses["trl"], abs=1e-4) and len(losses["fast"]) == 3


def test_reference_log_probabilities_of_the_4_bit_base_are_cached_apart(bench, sft, tmp_path):
    """The chain below is the same one; the stage's own method tells how its base is loaded."""
    files = set()
    for method in ("lora", "qlora"):
        policy = load_policy(sft.artifact, bench.made, device="cpu", method=method, cache=bench.root / "cache")
        files.add(cache_file(tmp_path, policy, "fast", None))
    assert len(files) == 2


@pytest.mark.parametrize("stage", ["sft", "domain", "dpo"])
def test_an_8_bit_optimizer_is_the_user_s_to_choose(bench, stage):
    settings = {"rehearsal": NO_REHEARSAL} if stage == "domain" else {}
    config = bench.config(stage, data={"train": "d"}, peft=QLORA, train={"optim": "paged_adamw_8bit"}, **settings)
    kind(stage).stage().validate(config)


def test_an_8_bit_optimizer_trains(bench, base, chat_data):
    made = bench.train("sft", base, {"train": chat_data}, peft=QLORA, train={"optim": "paged_adamw_8bit"})
    assert made.metrics["final_loss"] < made.metrics["first_loss"]


# -- the command --------------------------------------------------------------------------------------------------
CHANGE = ("experiment=smoke", "tracker=none", "peft@stages.domain.peft=qlora", "stages.dpo.peft.method=qlora")


@pytest.mark.slow
def test_the_command_builds_a_mixed_chain_with_one_quantized_base(smoke, command, tmp_path):
    """Slow: two training stages and their evaluations in processes of their own."""
    store = tmp_path / "store"
    shutil.copytree(smoke.store, store, symlinks=True)
    done = command("run", *CHANGE, "--json", store=store, cwd=smoke.cwd)
    assert done.code == 0, done.err
    built = [name for name, stage in done.json["stages"].items() if stage["status"] == "BUILT"]
    assert built == ["domain", "eval_domain", "dpo", "eval_dpo"]
    assert done.json["stages"]["domain"]["reason"] == "peft.method: lora -> qlora"
    assert len(list((store / "cache" / "quantized").iterdir())) == 1
    assert "gemm_4bit" not in done.err
    more = ("stages.domain.runtime.dequant_cache_gib=1", "eval.runtime.dequant_cache_gib=1")
    again = command("plan", *CHANGE, *more, "--json", store=store, cwd=smoke.cwd)
    assert {stage["status"] for stage in again.json["stages"].values()} == {"HIT"}  # not part of any id


@pytest.mark.parametrize("word", ["stages.dpo.peft.bits=4", "stages.dpo.peft.method=qlorra"])
def test_a_wrong_word_ends_before_anything_is_built(command, tmp_path, word):
    done = command("run", *CHANGE, word, store=tmp_path / "store", cwd=tmp_path)
    assert done.code == 2 and word.partition("=")[0].rpartition(".")[2] in done.err
    assert not list((tmp_path / "store").glob("artifacts/*"))
