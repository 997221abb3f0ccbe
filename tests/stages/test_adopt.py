"""`adopt`: an adapter from elsewhere is the model it was, can be continued, and is refused where it does not fit."""

import json
import shutil

import pytest

from pipeline.errors import ConfigError
from pipeline.registry import kind
from stages.adopt import CONFIG, WEIGHTS, AdoptConfig


@pytest.fixture
def folder(sft, tokenizer, tmp_path):
    """The adapter of `sft` with its tokenizer, as PEFT and transformers leave them, in a folder of its own."""
    shutil.copytree(sft.artifact.path / "model" / "adapter", tmp_path / "mine")
    tokenizer.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def change(folder, **settings):
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.fixture
def adopt(bench, base):
    def make(folder, policy=None):
        config = AdoptConfig(kind="adopt", folder=str(folder))
        kind("adopt").stage().validate(config)
        return bench.run(bench.context("adopted", config, {"policy": policy or base}, {}))

    return make


def logits(bench, artifact, tokenizer):
    import torch

    from stages.models.chain import load_policy

    policy = load_policy(artifact, bench.made, device="cpu")
    ids = torch.tensor([tokenizer("which licence is this", add_special_tokens=False).input_ids])
    with torch.no_grad():
        return policy.model(ids).logits


def test_an_adopted_adapter_is_the_model_that_it_was(bench, sft, adopt, folder, tokenizer):
    made = adopt(folder)
    assert (logits(bench, made.artifact, tokenizer) == logits(bench, sft.artifact, tokenizer)).all()
    assert made.metrics["rank"] == 4 and made.metrics["parameters"] > 0


def test_its_manifest_says_where_it_came_from(adopt, folder):
    change(folder, base_model_name_or_path="some/model")
    said = adopt(folder).sections["adopted"]
    assert (said["folder"], said["trained_on"], said["template_differs"]) == (str(folder), "some/model", False)


def test_stages_continue_it_and_it_continues_a_chain(bench, sft, adopt, folder, pair_data):
    on_top = bench.train("dpo", adopt(folder).artifact, {"train": pair_data})
    chain = json.loads((on_top.artifact.path / "model" / "model.json").read_text())
    assert [link["stage"] for link in chain["adapters"]] == ["adopted", "dpo"]
    second = adopt(folder, sft.artifact)
    chain = json.loads((second.artifact.path / "model" / "model.json").read_text())
    assert [link["stage"] for link in chain["adapters"]] == ["sft", "adopted"]


def test_the_content_decides_the_id_and_the_place_does_not(folder, tmp_path):
    stage = kind("adopt").stage()
    before = stage.fingerprints(AdoptConfig(kind="adopt", folder=str(folder)))
    shutil.copytree(folder, tmp_path / "moved")
    assert stage.fingerprints(AdoptConfig(kind="adopt", folder=str(tmp_path / "moved"))) == before
    change(folder, lora_alpha=3)
    after = stage.fingerprints(AdoptConfig(kind="adopt", folder=str(folder)))
    assert {name for name in before if before[name] != after[name]} == {f"file:{CONFIG}"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type=IA3"),
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save="),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern="),
        ({"init_lora_weights": "pissa_niter_4"}, "changed base weights"),
        ({"r": 8}, "of rank 8 do not fit a layer"),
    ],
)
def test_what_is_no_plain_adapter_is_refused(adopt, folder, settings, message):
    change(folder, **settings)
    with pytest.raises(ConfigError, match=message):
        adopt(folder)


def test_an_adapter_of_another_model_is_refused(adopt, folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    save_file({name.replace("layers.1", "layers.9"): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"the base has no layer model\.layers\.9"):
        adopt(folder)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name][:, :3].contiguous()}, folder / WEIGHTS)
    with pytest.raises(ConfigError, match="do not fit a layer"):
        adopt(folder)
    save_file({**tensors, "lm_head.weight": tensors[name].clone()}, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"more than LoRA matrices: lm_head\.weight"):
        adopt(folder)


def test_other_tokens_are_refused_and_another_template_is_said_aloud(adopt, folder, capfd):
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_start|>>"))
    assert adopt(folder).sections["adopted"]["template_differs"] is True
    assert "another chat template" in capfd.readouterr().err
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match="other tokens"):
        adopt(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "adapter_config.json and adapter_model.safetensors of PEFT's format not there"),
        ({"config.json": "{}"}, "a whole model, not an adapter; give it as model.source="),
        ({CONFIG: '{"r": 4}', "adapter_model.bin": ""}, "pickles"),
        ({CONFIG: "{", WEIGHTS: ""}, "not JSON"),
        ({CONFIG: "{}", WEIGHTS: ""}, "its rank, is missing"),
    ],
)
def test_a_folder_that_is_no_adapter_says_what_it_is(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    stage, config = kind("adopt").stage(), AdoptConfig(kind="adopt", folder=str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        stage.fingerprints(config)
        stage.validate(config)


def test_the_command_makes_it_a_stage_of_the_experiment(command, folder, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "it's mine")
    words = ("adopt", str(folder), "experiment=smoke", "tracker=none")
    done = command(*words, "--as", "tuned", store=tmp_path / "store", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "inputs: {policy: tuned}" in done.out and "BUILT   tuned" in done.out
    again = command(*words, "--as", "tuned", "--json", store=tmp_path / "store", cwd=tmp_path)
    assert again.json["stages"]["tuned"]["status"] == "HIT"


def test_the_command_wants_an_adapter_or_a_model(journeyman, tmp_path):
    wrong = journeyman("adopt", str(tmp_path))
    assert wrong.code == 2 and "neither adapter_config.json (an adapter) nor config.json" in wrong.err
    assert journeyman("adopt").code == 2
