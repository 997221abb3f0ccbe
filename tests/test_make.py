"""The Makefile and its set-up script, with a stand-in for the environment and the command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = '#!/bin/sh\nprintf "%s\\n" "$@" > words\nexit $(cat code)\n'


@pytest.fixture
def checkout(tmp_path):
    """The Makefile in a folder whose environment is up to date and holds only a command that notes its words."""
    for name in ("Makefile", "scripts/setup.sh", "conf/experiment/smoke.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    files = ["requirements.lock", "pyproject.toml", ".venv/requirements.lock", ".venv/project.stamp"]
    for age, name in enumerate(files):
        (tmp_path / name).write_text("pip==1\n")
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    script(tmp_path / ".venv/bin/journeyman", COMMAND)
    (tmp_path / "code").write_text("0")
    return tmp_path


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


def make(folder, *words):
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "EXP")}
    return subprocess.run(["make", *words], cwd=folder, env=env, capture_output=True, text=True)


def words_of(folder):
    return (folder / "words").read_text().split()


def test_variables_become_words_of_the_command(checkout):
    beta = "stages.dpo.train.loss_type=[sigmoid,sft]"
    done = make(checkout, "pipeline", "EXP=smoke", f"SET=budget=gpu {beta}", "FROM=sft", "UNTIL=dpo", "FORCE=domain")
    assert done.returncode == 0, done.stderr
    flags = ["--from", "sft", "--until", "dpo", "--force", "domain"]
    assert words_of(checkout) == ["run", "experiment=smoke", "budget=gpu", beta, *flags]


@pytest.mark.parametrize(("target", "verb"), [("pipeline", ["run"]), ("plan", ["plan"]), ("sweep", ["run", "-m"])])
def test_each_target_has_its_verb(target, verb, checkout):
    make(checkout, target, "EXP=smoke")
    assert words_of(checkout) == [*verb, "experiment=smoke"]


def test_the_commands_exit_code_is_printed_and_fails(checkout):
    (checkout / "code").write_text("3")
    done = make(checkout, "pipeline", "EXP=smoke")
    assert done.returncode == 2
    assert "journeyman ended with exit code 3" in done.stderr


def test_an_experiment_must_be_named(checkout):
    done = make(checkout, "pipeline")
    assert done.returncode == 2
    assert "give an experiment: EXP=NAME, one of: smoke" in done.stderr
    assert not (checkout / "words").exists()


def test_a_lock_that_was_only_touched_costs_nothing(checkout):
    (checkout / "requirements.lock").touch()
    script(checkout / ".venv/bin/python", "#!/bin/sh\nexit 0\n")  # installs the project again
    assert make(checkout, "plan", "EXP=smoke", "PYTHON=no-such-python").returncode == 0


def test_a_changed_lock_makes_the_environment_anew(checkout):
    (checkout / "requirements.lock").write_text("pip==2\n")
    done = make(checkout, "plan", "EXP=smoke", "PYTHON=no-such-python")
    assert done.returncode == 2
    assert "setup: Python 3.11 or newer is needed" in done.stderr
    assert not (checkout / "words").exists()


OLD = '#!/bin/sh\ncase "$*" in --version) echo Python 3.9.2;; *version_info*) exit 1;; esac\n'
BARE = '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\n'


@pytest.mark.parametrize(
    ("python", "message"),
    [(OLD, "is Python 3.9.2; 3.11 or newer is needed"), (BARE, "on Debian and Ubuntu: apt install python3-venv")],
)
def test_a_python_that_will_not_do_is_named(python, message, checkout):
    (checkout / "requirements.lock").write_text("pip==2\n")
    script(checkout / "python", python)
    done = make(checkout, "setup", f"PYTHON={checkout}/python")
    assert done.returncode == 2
    assert message in done.stderr
    assert (checkout / ".venv").is_dir()  # nothing is removed before it can be replaced
