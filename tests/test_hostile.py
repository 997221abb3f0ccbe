"""Hostile configs, names and stores: each is refused with one message, none is executed, nothing outside is touched.

The lists here are those of docs/security.md.
"""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from store_toys import build

from pipeline.errors import ConfigError, StoreError
from pipeline.manifest import tree_digest
from pipeline.names import inside, is_plain, require_name
from pipeline.report.collect import read_run
from pipeline.store import Store

ROOT = Path(__file__).parents[1]

MARK = "executed.txt"  # what an attack would leave behind
CALL = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [executed.txt]}}"


def snapshot(folder, without):
    """Every file below a folder with its size and time, without those of the store."""
    files = (path for path in sorted(folder.rglob("*")) if without not in (path, *path.parents))
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}


@pytest.fixture
def attack(journeyman, project, tmp_path_factory, monkeypatch):
    """attack("run", ..., file=...) -> the command on an experiment file; nothing but the store may have changed."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    outside = tmp_path_factory.getbasetemp() / "outside"
    outside.mkdir(exist_ok=True)

    def call(*words, **options):
        before = [snapshot(folder, project.store) for folder in (project.path, outside)]
        done = journeyman(*words, **options)
        assert before == [snapshot(folder, project.store) for folder in (project.path, outside)]
        assert not list(project.path.rglob(MARK)) and KEY not in done.out + done.err
        assert "Traceback" not in done.out + done.err and done.err.count("error:") <= 1
        assert not any(KEY.encode() in path.read_bytes() for path in project.store.rglob("*") if path.is_file())
        return SimpleNamespace(**vars(done), text=" ".join((done.out + done.err).split()))

    call.path, call.store = project.path, project.store
    return call


KEY = "0123456789abcdef0123456789abcdef01234567"


PARTS = {
    "name": "name: bad",
    "data": "data: {facts: {files: [facts.jsonl]}}",
    "stages": "stages: {first: {kind: toy, inputs: {policy: base}, data: {train: facts}}}",
    "model": "model: {source: toy}",
}


def experiment(attack, text):
    """Write the experiment `bad`: `text`, and what it takes to be one."""
    said = {line.partition(":")[0] for line in text.splitlines()}
    parts = [part for key, part in PARTS.items() if key not in said]
    file = attack.path / "conf" / "experiment" / "bad.yaml"
    head = file.with_name("chain.yaml").read_text().partition("name: chain")[0]
    file.write_text("\n".join([head, "budget: none", *parts, text, ""]))


# -- configs are data ---------------------------------------------------------------------------------------------
FILES = {
    "target in a stage": (f"stages: {{first: {{train: {CALL}}}}}", "_target_ is refused"),
    "target in a list": (f"contract: {{lists: [[{CALL}]]}}", "contract.lists[0][0]: the key _target_"),
    "target in the tracker": (f"tracker: {{project: {CALL}}}", "tracker.project"),
    "target for Hydra": ("hydra: {launcher: {_target_: os.system}}", "hydra.launcher: the key _target_"),
    "Hydra's callbacks": (f"hydra: {{callbacks: {{a: {CALL}}}}}", "hydra.callbacks: refused"),
    "Hydra's log": (
        "hydra: {job_logging: {handlers: {a: {'()': os.system, command: touch executed.txt}}}}",
        "hydra.job_logging.handlers: refused",
    ),
    "Hydra's variables": ("hydra: {job: {env_set: {PYTHONSTARTUP: evil.py}}}", "hydra.job.env_set"),
    "YAML tag, call": ("name: !!python/object/apply:os.system ['touch executed.txt']", "not valid YAML"),
    "YAML tag, object": ("name: !!python/object:pathlib.Path {}", "not valid YAML"),
    "YAML tag, name": ("name: !!python/name:os.system", "not valid YAML"),
    "YAML tag, own": ("name: !include /etc/passwd", "not valid YAML"),
    "a secret in the name": ("name: ${oc.env:WANDB_API_KEY}", "would change from run to run"),
    "a secret, spaced": ("description: '${ oc.env : WANDB_API_KEY }'", "would change from run to run"),
    "a secret, decoded": ("description: '${oc.decode:${oc.env:WANDB_API_KEY}}'", "would change"),
    "a secret, put together": (
        "description: '${oc.${budget}:WANDB_API_KEY}'", "would change from run to run"
    ),
    "a secret, escaped": ("description: '\\${oc.env:WANDB_API_KEY}'", "would change"),
    "a secret, escaped and put together": (
        "description: '\\${oc.${budget}:WANDB_API_KEY}'", "begins an interpolation"
    ),
    "a secret in a path": ("data: {facts: {files: ['${oc.env:WANDB_API_KEY}.jsonl']}}", "would change"),
    "a secret in the tracker": ("tracker: {project: '${oc.env:WANDB_API_KEY}'}", "looks like a secret"),
    "a secret in the store": ("store: {root: '${oc.env:WANDB_API_KEY}'}", "looks like a secret"),
    "a secret in the store, hidden": ("store: {root: '${oc.env:${name}}'}", "is refused"),
    "a secret written out": (f"description: 'it is {KEY}'", "held a secret"),
    "a user in an address": ("model: {source: 'https://me:pass@host/x'}", "held a secret"),
    "another resolver": ("description: '${oc.select:store.root}'", "would change from run to run"),
    "sight of the store": ("description: '${store.root}'", "description"),
    "name above": ("name: ../../bad", "name: '../../bad' must be letters"),
    "name, absolute": ("name: /tmp/bad", "name: '/tmp/bad' must be letters"),
    "stage above": ("stages: {../../x: {kind: toy}}", "stages: '../../x' must be letters"),
    "data set above": ("data: {../x: {files: [facts.jsonl]}}", "data: '../x' must be letters"),
    "suite above": ("eval: {suites: {../x: {measure: choice, data: quiz}}}", "eval.suites: '../x'"),
    "gate above": ("gates: {a/b: {stage: first, suite: quiz, rule: improves}}", "gates: 'a/b'"),
    "name without an end": (f"name: {'a' * 5000}", "at most 120"),
}  # fmt: skip


@pytest.mark.parametrize("verb", [("run",), ("run", "-m")], ids=" ".join)
@pytest.mark.parametrize("case", FILES)
def test_a_hostile_experiment_is_refused(attack, case, verb):
    text, said = FILES[case]
    experiment(attack, text)
    done = attack(*verb, experiment="bad")
    assert done.code == 2 and said in done.text
    assert not (attack.store / "artifacts").exists() or not list((attack.store / "artifacts").iterdir())


WORDS = {
    f"+stages.first.train._target_={MARK}": "_target_ is refused",
    "++stages.first={_target_:os.system}": "_target_ is refused",
    f"+hydra.callbacks.a={CALL.replace(' ', '')}": "hydra.callbacks: refused",
    f"+hydra.launcher.a={CALL.replace(' ', '')}": "hydra.launcher",
    "hydra.searchpath=[pkg://evil]": "it may import code",
    "+hydra.job.env_set.PYTHONSTARTUP=evil.py": "hydra.job.env_set",
    "hydra.sweep.dir=../elsewhere": "hydra.sweep.dir",
    "hydra.run.dir=/tmp/elsewhere": "hydra.run.dir",
    "name=../../x": "name: '../../x' must be letters",
    "description=${oc.env:WANDB_API_KEY}": "would change from run to run",
    "tracker.project=${oc.env:WANDB_API_KEY}": "looks like a secret",
    "+stages.../x={kind:toy}": "",
    "+budget=../../x": "",
    "experiment=../../../bad": "",
}


@pytest.mark.parametrize("word", WORDS)
def test_a_hostile_override_is_refused(attack, word):
    (attack.path / "evil").mkdir()
    (attack.path / "evil" / "__init__.py").write_text(f"open({MARK!r}, 'w')\n")
    if word.startswith("experiment="):
        shutil.copy(attack.path / "conf" / "experiment" / "chain.yaml", attack.path / "bad.yaml")
    done = attack("run", word, experiment=None if word.startswith("experiment=") else "chain")
    assert done.code == 2 and WORDS[word] in done.text


def test_a_group_cannot_smuggle_what_an_experiment_may_not_say(attack):
    """`_target_` and secrets in an option of a group, chosen in the defaults list."""
    for group in ("contract", "tracker"):
        (attack.path / "conf" / group).mkdir()
    (attack.path / "conf" / "contract" / "evil.yaml").write_text(f"levels: {CALL}\n")
    assert "contract.levels: the key _target_ is refused" in attack("run", "contract=evil").text
    (attack.path / "conf" / "tracker" / "evil.yaml").write_text("kind: none\nproject: ${oc.env:HF_TOKEN,x}\n")
    assert "HF_TOKEN looks like a secret" in attack("run", "tracker=evil").text


BOMBS = {
    "aliases of aliases": ("a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{b}: &{b} [{','.join(f'*{a}' for _ in range(9))}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ), "its aliases stand for more than"),
    "an alias of itself": ("a: &a [*a]\n", "an alias that stands in its own anchor"),
    "nested without end": ("a: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deeply"),
    "without end": ("# " + "x" * 2**21 + "\n", "a config file has at most"),
    "defaults by a secret": ("defaults:\n  - /tracker: ${oc.env:WANDB_API_KEY}\n", "bad.yaml, line 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_file_that_grows_without_bound_is_refused_before_it_does(attack, case):
    text, said = BOMBS[case]
    (attack.path / "conf" / "experiment" / "bad.yaml").write_text(text)
    done = attack("plan", experiment="bad")
    assert done.code == 2 and said in done.text


def test_what_an_experiment_does_need_still_works(attack):
    """References between keys, a store and a project from variables that are no secrets."""
    experiment(attack, "description: about ${name}\ntracker: {project: '${oc.env:TEAM,none}'}")
    assert attack("plan", experiment="bad").code == 0


# -- names --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/etc/x", "", ".hidden", "a\0b", "a b", "a" * 121, "-x", 3])
def test_what_is_no_name(name):
    with pytest.raises(ConfigError, match="must be letters"):
        require_name("the pin", name)


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/x", "", "a//b", "a/./b", "a\0b", "a\\..\\b", None])
def test_what_leads_out_is_no_plain_path(path):
    assert not is_plain(path)


def test_a_link_that_leads_out_is_not_inside(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path)
    assert inside(tmp_path / "store", "a/b.json", "it") == tmp_path / "store" / "a" / "b.json"
    with pytest.raises(StoreError, match="which is not below"):
        inside(tmp_path / "store", "link/x", "it")


@pytest.mark.parametrize("words", [("rm", "../../precious"), ("rm", "/precious"), ("set", "../../x")])
def test_a_pin_stays_in_its_folder(attack, store, words):
    (attack.path / "precious").write_text("keep me")
    named = [build(store).id] if words[0] == "set" else []
    done = attack("pins", *words, *named, experiment=None)
    assert done.code == 2 and "the pin" in done.text and (attack.path / "precious").read_text() == "keep me"


# -- the store ----------------------------------------------------------------------------------------------------
@pytest.fixture
def store(project):
    made = Store(project.store)
    made.prepare()
    return made


def change(folder, key, value):
    """Write a manifest anew that agrees with itself, as an attacker who knows the form would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[key] = value(manifest[key])
    manifest["digest"] = tree_digest(manifest["outputs"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def outputs(path):
    return lambda old: [*old, {"path": path, "size": 1, "sha256": "0" * 64}]


def inputs(key, path):
    return lambda old: (
        {role: {**item, key: path} for role, item in old.items()} or {"x": {"id": "0" * 16, "attempt": "1", key: path}}
    )


MANIFESTS = {
    "output above": ("outputs", outputs("../../../../../etc/passwd")),
    "output, absolute": ("outputs", outputs("/etc/passwd")),
    "output, in the middle": ("outputs", outputs("model/../../x")),
    "output without a name": ("outputs", outputs("")),
    "input's id above": ("inputs", inputs("id", "../../x")),
    "input's attempt above": ("inputs", inputs("attempt", "..")),
    "input's attempt, a pattern": ("inputs", inputs("attempt", "*")),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_leads_out_is_refused(store, case):
    stored = build(store)
    change(stored.path, *MANIFESTS[case])
    with pytest.raises(StoreError, match="was not written by Journeyman"):
        store.current("toy", stored.id)


@pytest.mark.parametrize("current", ["../..", "../../base", "/etc", ".."])
def test_a_pointer_that_leads_out_is_refused(store, current):
    stored = build(store)
    (stored.path.parent / "CURRENT").write_text(current)
    with pytest.raises(StoreError, match="was not written by Journeyman"):
        store.current("toy", stored.id)


def test_an_artifact_that_is_a_link_is_refused(store, tmp_path_factory):
    stored = build(store)
    move(stored.path, tmp_path_factory)
    with pytest.raises(StoreError, match="not below"):
        store.current("toy", stored.id)


@pytest.mark.parametrize("part", ["model", "model/w"])
def test_a_link_in_an_artifact_is_refused_even_to_the_same_bytes(store, part, tmp_path_factory):
    stored = build(store)
    move(stored.path / part, tmp_path_factory)
    with pytest.raises(StoreError, match="no plain file"):
        Store(store.root).verify(stored)


def move(path, tmp_path_factory):
    """Put it outside the store, and a link in its place."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / path.name
    os.rename(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("path", ["../outside", "/etc", "artifacts/../../outside"])
def test_records_of_runs_and_pins_cannot_name_what_is_outside(store, path):
    stored = build(store)
    shutil.copytree(stored.path, store.root.parent / "outside")
    (store.root / "pins" / "chain-champion").write_text(json.dumps({"path": path}))
    with pytest.raises(StoreError, match="not an artifact of the store"):
        store.pinned("chain-champion")
    with pytest.raises(StoreError, match="not below"):
        store.pinned("../../x")
    run = store.new_run("chain")
    (run / "run.json").write_text(json.dumps({"stages": {"first": {"path": path, "status": "BUILT"}}}))
    assert store.last_built("chain", "first") is None
    with pytest.raises(StoreError, match="not below"):
        read_run(run, store.root)


# -- code that reads configs --------------------------------------------------------------------------------------
def test_nothing_is_instantiated_from_a_config():
    """No module of the engine or of a stage names what would make an object of a mapping."""
    folders = [ROOT / "pipeline", ROOT / "stages"]
    texts = {file: file.read_text() for folder in folders for file in folder.rglob("*.py")}
    for forbidden in ("hydra.utils", "instantiate(", "yaml.unsafe", "yaml.full", "FullLoader", "register_new_resolver"):
        assert [str(file) for file, text in texts.items() if forbidden in text] == []
