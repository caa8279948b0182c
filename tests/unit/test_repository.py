"""The repository keeps its own promises: locks that name no index, one version, one test command, words people try."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dev
import hatch_build
from cloche._version import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked_names(lock: Path) -> set[str]:
    return {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", lock.read_text(), re.M)}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_have_hashes_and_name_no_index(lock):
    text = lock.read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links", text)
    for requirement in re.split(r"^(?=[\w.-]+==)", text, flags=re.M):
        assert not requirement.strip() or "--hash=sha256:" in requirement


def test_every_dependency_is_locked():
    wanted = {re.split(r"[<>=!~ ;]", text)[0].lower() for text in PROJECT["project"]["dependencies"]}
    assert wanted <= locked_names(ROOT / "requirements/runtime.txt")
    tools = {re.split(r"[<>=!~ ;]", text)[0].lower() for text in PROJECT["dependency-groups"]["dev"]}
    assert tools <= locked_names(ROOT / "requirements/dev.txt")


def test_two_locks_never_pin_one_package_twice():
    pins: dict[str, str] = {}
    for lock in LOCKS:
        # one lock may have several versions of a package, each for other versions of Python
        for name, version, marker in re.findall(r"^([\w.-]+)==([\w.]+)(?: ; ([^\\\n]+))?", lock.read_text(), re.M):
            assert pins.setdefault(f"{name} {marker}", version) == version, f"{name} in {lock.name}"


def test_the_version_stands_in_one_place():
    assert hatch_build.source_version() == __version__
    assert PROJECT["project"]["dynamic"] == ["version"]


def test_make_has_the_words_of_dev():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.M)[0].split())
    assert targets - {"dev-install"} <= set(dev.COMMANDS)
    assert {"demo", "test", "check", "format", "bench", "dev-install"} <= targets


def test_ci_runs_the_test_command_of_the_readme():
    assert "\npython3 dev.py test\n" in (ROOT / ".ci/run").read_text()
    assert "$ python3 dev.py test\n" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(shutil.which("git") is None, reason="git, which knows what belongs to the repository, is not here")
def test_nothing_names_a_place_of_one_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout, so there is no list of what belongs to the repository")
    pattern = re.compile(r"/" + r"root/\.pyenv|" + r"/home/(?!user\b)\w+/\w+")
    found = [name for name in tracked.stdout.splitlines() if _mentions(ROOT / name, pattern)]
    assert not found


def _mentions(path: Path, pattern: re.Pattern[str]) -> bool:
    return path.is_file() and bool(pattern.search(path.read_text(errors="replace")))


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("AMD64", "amd64")])
def test_a_release_can_be_built_for_another_machine(monkeypatch, machine, arch):
    monkeypatch.setenv("CLOCHE_BUILD_ARCH", machine)
    assert hatch_build.wanted_arch() == arch
    assert arch in hatch_build.WHEEL_TAG


def test_an_unknown_machine_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("CLOCHE_BUILD_ARCH", "riscv64")
    with pytest.raises(SystemExit, match="riscv64"):
        hatch_build.wanted_arch()


def test_an_old_go_on_path_is_passed_over(monkeypatch, tmp_path):
    for version, accepted in (("go1.9.7", False), ("go1.99.1", True), ("nonsense", False)):
        program = tmp_path / "go"
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        hatch_build.go_on_path.cache_clear()
        assert (hatch_build.go_on_path() is not None) is accepted
    hatch_build.go_on_path.cache_clear()


def test_the_go_build_reaches_for_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("GOPROXY", "direct")
    environment = hatch_build._go_environment(tmp_path / "bin/go", "arm64", str(tmp_path))
    assert (environment["GOPROXY"], environment["GOTOOLCHAIN"], environment["GOFLAGS"]) == ("off", "local", "")
    assert (environment["GOARCH"], environment["CGO_ENABLED"]) == ("arm64", "0")


def test_a_step_is_done_once_for_the_same_content(monkeypatch, tmp_path):
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "STAMPS", tmp_path / "stamps.json")
    source, stamps, calls = tmp_path / "a.txt", {}, []
    for content in ("one", "one", "two"):
        source.write_text(content)
        dev.up_to_date(stamps, "step", [source], lambda: calls.append(source.read_text()))
    assert calls == ["one", "two"]


def test_a_failed_step_is_tried_again(monkeypatch, tmp_path):
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "STAMPS", tmp_path / "stamps.json")
    (tmp_path / "a.txt").write_text("one")
    stamps: dict[str, str] = {}
    with pytest.raises(ZeroDivisionError):
        dev.up_to_date(stamps, "step", [tmp_path / "a.txt"], lambda: 1 // 0)
    assert stamps == {}


def test_missing_programs_are_named_with_the_command_for_root(monkeypatch, capsys):
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    assert dev.apt_install({"no-such-program-here": "some-package"}) == 1
    assert "apt-get install -y --no-install-recommends some-package" in capsys.readouterr().err


def test_what_runs_meanwhile_is_waited_for_and_heard_at_the_end(capsys, tmp_path):
    said = f"import pathlib, sys\nsys.stdin.read()\nprint('made')\npathlib.Path({str(tmp_path / 'made')!r}).touch()"
    with pytest.raises(ZeroDivisionError), dev.meanwhile(sys.executable, "-c", said):
        assert capsys.readouterr().err == ""
        1 // 0  # noqa: B018
    assert (tmp_path / "made").exists()
    assert capsys.readouterr().err == "made\n"


@pytest.mark.parametrize(("failing", "status"), [("go", 1), ("venv_run", 1), (None, 0)])
def test_what_is_prepared_is_there_before_the_tests_that_need_it(monkeypatch, failing, status):
    steps: list[str] = []

    @contextlib.contextmanager
    def meanwhile(*argv: str):
        steps.append("begun")
        yield
        steps.append("prepared")

    def step(name: str):
        return lambda *argv: steps.append(f"{name} {argv[-1]}") or int(name == failing)

    monkeypatch.delenv("CLOCHE_DEV_NO_SETUP", raising=False)
    for name, stub in {"install": print, "apt_install": print, "meanwhile": meanwhile}.items():
        monkeypatch.setattr(dev, name, stub)
    for name in ("go", "venv_run"):
        monkeypatch.setattr(dev, name, step(name))
    assert dev.test([]) == status
    begin, unit, rest = ["begun", "go ./..."], ["venv_run tests/unit"], ["venv_run not serial", "venv_run serial"]
    ran = unit if failing != "go" else []
    assert steps == [*begin, *ran, "prepared", *(rest if failing is None else [])]


def test_an_unknown_command_is_refused(capsys):
    assert dev.main(["dmeo"]) == 2
    assert "no such command: dmeo" in capsys.readouterr().err
