"""The look at what is installed: which licences are accepted, and what is said where nobody can be asked."""

import subprocess
import sys

import pytest

sys.path.insert(0, "scripts")
import audit


@pytest.mark.parametrize(
    ("licences", "fine"),
    [
        (["MIT"], True), (["BSD-3-Clause"], True), (["Apache-2.0 OR BSD-3-Clause"], True),
        (["The MIT License (MIT)"], True),
        (["MPL-2.0 AND MIT"], True), (["Apache-2.0 WITH LLVM-exception"], True), (["GPL-3.0 OR MIT"], True),
        (["GPL-3.0-only"], False), (["MIT AND AGPL-3.0"], False), (["MIT", "GPLv3"], False),
        (["Proprietary"], False), ([], False),
    ],
)  # fmt: skip
def test_accepted_licences(licences, fine):
    assert audit.accepted("a-package", licences) is fine


def test_an_exception_has_a_reason():
    assert audit.accepted("python-stdnum", ["LGPL-2.1"]) and all(len(why) > 15 for why in audit.EXCEPTIONS.values())


def test_everything_installed_here_is_accepted(monkeypatch, capsys):
    monkeypatch.setattr(audit.shutil, "which", lambda *a, **k: None)
    assert audit.main() == 0
    said = capsys.readouterr().out
    assert "packages accepted" in said and "skipped: pip-audit is not installed" in said


@pytest.mark.parametrize(
    ("code", "out", "err", "fine", "said"),
    [
        (0, "", "No known vulnerabilities found", True, "none known"),
        (1, "torch 1.0 PYSEC-1", "Found 1 known vulnerability in 1 package", False, "PYSEC-1"),
        (1, "", "ConnectionError: no route", True, "skipped: pip-audit cannot ask its service"),
    ],
)
def test_what_pip_audit_says(monkeypatch, capsys, code, out, err, fine, said):
    monkeypatch.setattr(audit.shutil, "which", lambda *a, **k: "/bin/pip-audit")
    monkeypatch.setattr(audit.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, code, out, err))
    assert audit.audited() is fine and said in capsys.readouterr().out
