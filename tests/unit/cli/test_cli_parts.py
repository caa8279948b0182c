"""What the command line does before it talks to anybody: flags, session files, rendering, help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from cloche.cli import arguments, failure, render, session
from cloche.cli.main import COMMANDS, cli
from cloche.model.egress import EgressBudget, EgressPolicy, EgressRule
from cloche.model.errors import ClocheError, InvalidError, NotFoundError, TimedOutError


def test_the_help_table_is_true() -> None:
    for name, short in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None and command.name == name
        assert command.help is not None and command.help.startswith(short.rstrip(".")), name


def test_help_imports_no_command() -> None:
    program = (
        "import sys; sys.argv = ['cloche', '--help']; from cloche.cli import main\n"
        "main.cli.main(standalone_mode=False)\nheavy = ('cloche.sdk', 'httpcore', 'rich', 'asyncio')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("[]")


#: a terminal, a script, a log, an archive and another protocol have no JSON
NO_JSON = {
    ("mcp", "mcp"), ("shell", "shell"), ("completion", "completion"), ("serve", "serve"), ("node", "run"),
    ("snapshot", "export"),
}  # fmt: skip


def test_every_leaf_takes_json() -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            if leaf is not None and (name, leaf.name) not in NO_JSON:
                assert any("--json" in option.opts for option in leaf.params), f"{name} {leaf.name}"


def test_what_a_sandbox_says_cannot_act_on_a_terminal() -> None:
    assert render.clean("a\x1b[31mb\nc\x7f\x9b\u202ed\udcff") == "a\\x1b[31mb\\x0ac\\x7f\\x9b\\u202ed\\udcff"
    assert render.clean("é→ 漢") == "é→ 漢"


def test_spans() -> None:
    assert [render.span(seconds) for seconds in (-1, 59, 60, 7200, 200_000)] == ["0s", "59s", "1m", "2h", "2d"]


def test_environment_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HOST", "x")
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert arguments.environment(["A=b=c", "FROM_HOST", "NOT_THERE", "E="]) == {"A": "b=c", "FROM_HOST": "x", "E": ""}
    assert arguments.filters(["a=b", "c"]) == {"a": "b", "c": None}
    assert arguments.pairs(["a=b", "c"]) == {"a": "b", "c": ""}


def test_session_files(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text("name: box\nenv: {A: b, N: 7}\negress: {default: deny}\n")
    assert session.load(str(path)) == session.Session(name="box", env={"A": "b", "N": "7"}, net="none")
    path.write_text("")
    assert session.load(str(path)) == session.Session()
    with pytest.raises(NotFoundError):
        session.load(str(tmp_path / "none.yaml"))
    path.write_text("{")
    with pytest.raises(InvalidError, match="YAML"):
        session.load(str(path))


@pytest.mark.parametrize(("value", "named"), [
    ([], "mapping"), ({"nam": 1}, "nam"), ({"name": 1}, "name"), ({"env": []}, "env"), ({"env": {"a=b": "c"}}, "a=b"),
    ({"env": {"A": True}}, "env.A"), ({"env": {"A": None}}, "env.A"),
    ({"egress": {"defualt": "deny"}}, "egress.defualt"),
    ({"egress": {"default": "maybe"}}, "egress.default"), ({"egress": {"rules": {}}}, "rules"),
    ({"egress": {"rules": [{"domain": "x", "action": "pass"}]}}, "rule"),
    ({"egress": {"rules": [{"host": "x"}]}}, "host"),
])  # fmt: skip
def test_wrong_session_files_are_named(value: object, named: str) -> None:
    with pytest.raises(InvalidError, match=named):
        session.parse(value)


@pytest.mark.parametrize(("egress", "net"), [
    (None, None), ({}, "none"), ({"default": "deny", "rules": []}, "none"),
    ({"default": "allow"}, EgressPolicy(default="allow")), ("pypi,out=1k", "pypi,out=1k"),
    (["pypi"], EgressPolicy(rules=[EgressRule(preset="pypi")])), ({"default": "ask"}, EgressPolicy(default="ask")),
    ({"rules": ["pypi"], "budget": "out=1k"},
     EgressPolicy(rules=[EgressRule(preset="pypi")], budget=EgressBudget(bytes_out=1024))),
    ({"rules": [{"domain": "*.x.example", "action": "allow"}, {"domain": "b.example", "action": "deny"}]},
     EgressPolicy(rules=[EgressRule(hosts=["*.x.example"]), EgressRule(action="deny", hosts=["b.example"])])),
])  # fmt: skip
def test_the_network_of_a_session_file(egress: object, net: object) -> None:
    assert session.parse({"egress": egress}).net == net


def test_a_domain_of_a_session_file_is_checked() -> None:
    with pytest.raises(InvalidError, match=r"egress\.rules"):
        session.parse({"egress": {"rules": [{"domain": "a b", "action": "allow"}]}})


def test_failures_are_told_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.report(ClocheError("what\x1b and why", remedy="do this")) == 125
    assert failure.report(TimedOutError("late")) == 124
    assert failure.report(ValueError("odd")) == 125
    told = capsys.readouterr()
    assert told.err.splitlines()[:3] == ["cloche: what\\x1b and why", "  try: do this", "cloche: late"]
    assert told.out == "" and "Traceback" not in told.err


def test_the_reference_pages_are_up_to_date() -> None:
    script = Path(__file__).parents[3] / "scripts/generate_reference.py"
    checked = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, f"run: python scripts/generate_reference.py ({checked.stderr})"
