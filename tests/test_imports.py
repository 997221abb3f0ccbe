"""The order of imports: the engine knows no stage and no torch, and no stage knows another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "pandas", "matplotlib")
LAYERS = (  # each may import what stands below it, never what stands above; a package stands for all of its modules
    ("cli",),
    ("verbs",),
    ("sweeps.multirun", "sweeps.study"),
    ("planned", "sweeps.launch"),
    ("runner", "fsck"),
    ("pins", "judging.run"),
    ("children",),
    ("rank",),
    ("worker",),
    ("planner",),
    ("explain",),
    ("graph",),
    ("references",),
    ("node",),
    ("config.load", "sweeps.grid"),
    ("config.compose",),
    ("config.search", "config.typed"),
    ("folds", "beside"),
    ("judging.gates", "judging.forgetting"),
    ("judging.sentences", "judging.power", "judging.verdicts"),
    ("judging.statistics",),
    ("judging.significance",),
    ("store",),
    ("processes",),
    ("checkpoints", "locks", "disk"),
    ("manifest",),
    ("registry", "identity", "fingerprint"),
    ("context",),
    ("schema",),
    ("errors",),
)
STAGE_MAY = (
    "pipeline.schema",
    "pipeline.registry",
    "pipeline.context",
    "pipeline.checkpoints",
    "pipeline.errors",
    "pipeline.names",
    "pipeline.fingerprint",
    "pipeline.judging.statistics",
    "pipeline.beside",  # the roles in which an evaluation gets judges and opponents
    "pipeline.config.typed",  # a stage that is written out as several says what is wrong by the place in its own config
    "pipeline.report",  # the pages of data sets are drawn, worded and escaped like the report of a run
)


def imports(file: Path, top_level: bool = False) -> set[str]:
    """Absolute names of imported modules, for `from a import b` both a and a.b; not those for type checkers."""
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    names = set()
    for node in tree.body if top_level else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def under(name: str, packages) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def modules(name: str) -> list[Path]:
    """The files of a module of the engine, or of a package of it."""
    place = (ROOT / "pipeline").joinpath(*name.split("."))
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


ENGINE = sorted((ROOT / "pipeline").rglob("*.py"))
STAGES = sorted((ROOT / "stages").glob("[!_]*.py"))


@pytest.mark.parametrize("file", ENGINE, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_engine_imports_no_stage_and_no_training_library(file):
    assert [name for name in imports(file) if under(name, ("stages", *HEAVY[:7]))] == []


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_the_engine_is_layered(layer):
    above = [f"pipeline.{name}" for names in LAYERS[:layer] for name in names]
    for file in [file for name in LAYERS[layer] for file in modules(name)]:
        assert [item for item in imports(file) if under(item, above)] == [], file


@pytest.mark.parametrize("file", STAGES, ids=lambda file: file.stem)
def test_no_stage_imports_another(file):
    others = [f"stages.{other.stem}" for other in STAGES if other != file]
    assert [name for name in imports(file) if under(name, others)] == []


@pytest.mark.parametrize("file", sorted((ROOT / "stages").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_stages_use_only_the_engine_s_public_modules(file):
    found = [name for name in imports(file) if name.startswith("pipeline.")]
    assert [name for name in found if not under(name, STAGE_MAY)] == []


@pytest.mark.parametrize("file", [file for file in STAGES if file.stem != "warm"], ids=lambda file: file.stem)
def test_a_stage_module_is_light(file):
    assert [name for name in imports(file, top_level=True) if under(name, HEAVY)] == []


def test_the_command_s_process_never_loads_torch():
    """All that a plan needs, the stages' own modules included."""
    code = (
        "import sys, pipeline.cli, pipeline.runner, pipeline.explain, pipeline.pins\n"
        "from pipeline.registry import load_kinds\n"
        "from pipeline.fingerprint import digest_code\n"
        "[digest_code(kind.stage.__module__) for kind in load_kinds().values()]\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_the_command_module_itself_is_light():
    """Every stage process imports it again."""
    code = "import sys, pipeline.cli; print([n for n in ('hydra', 'omegaconf', 'numpy') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
