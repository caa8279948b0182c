"""What `--template` and `cloche template set` make of their flags."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from cloche.cli import arguments
from cloche.cli.commands import ls, template
from cloche.model.errors import InvalidError, NotFoundError
from cloche.model.pool import PoolInfo, PoolReport
from cloche.sdk import options


def flags(*given: str) -> dict[str, Any]:
    """The arguments of `Sandbox.create` for these flags."""
    found: dict[str, Any] = {}

    @click.command()
    @arguments.sandbox_flags
    def probe(**values: Any) -> None:
        found.update(arguments.sandbox_options(values))

    probe.main(list(given), standalone_mode=False)
    return found


def sent(*given: str) -> dict[str, Any]:
    asked = flags(*given)
    image = asked.pop("image", "host")
    return options.create_body(options.sandbox_spec(image, asked), asked)


def test_without_a_template_everything_is_said() -> None:
    assert "template" not in flags()
    assert sent()["image"] == "host" and sent()["user"] == "user"


def test_with_a_template_only_what_was_given_is() -> None:
    nothing = dict.fromkeys(("memory_mib", "cpus", "pids", "disk_mib", "open_files"))
    assert sent("--template", "t") == {"template": "t", "limits": nothing}
    given = sent("--template", "t", "--ttl", "5s", "--memory", "64m", "-e", "A=1", "-l", "k=v", "--name", "n")
    assert given == {
        "template": "t", "limits": {**nothing, "memory_mib": 64}, "env": {"A": "1"}, "labels": {"k": "v"}, "name": "n",
        "ttl_seconds": 5.0,
    }  # fmt: skip


def test_none_is_said_only_of_times() -> None:
    asked: options.SandboxOptions = {"template": "t", "ttl_seconds": None, "workdir": None, "user": "user"}
    body = options.create_body(options.sandbox_spec("host", asked), asked)
    assert body["ttl_seconds"] is None and body["user"] == "user"
    assert "workdir" not in body and "idle_timeout_seconds" not in body


def test_code_is_read_from_flags_and_files(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.js").write_text("const x = 1")
    asked: dict[str, Any] = {}

    class Templates:
        def set(self, name: str, /, **given: Any) -> Any:
            asked.update(given, template=name)
            raise InvalidError("far enough")

    monkeypatch.setattr(template, "Node", lambda: type("Node", (), {"templates": Templates()}))
    code = ["--code", "python=a = 'b=c'", "--code-file", f"javascript={tmp_path / 'a.js'}"]
    with pytest.raises(InvalidError, match="far enough"):
        template.command.main(["set", "t", "--warm", "2", "-u", "root", *code], standalone_mode=False)
    assert asked["contexts"] == {"python": "a = 'b=c'", "javascript": "const x = 1"}
    assert (asked["template"], asked["warm"], asked["user"]) == ("t", 2, "root")
    for error, wrong in ((InvalidError, ["--code", "cobol=x"]), (NotFoundError, ["--code-file", "python=/no/such"])):
        with pytest.raises(error):
            template.command.main(["set", "t", *wrong], standalone_mode=False)


@pytest.mark.parametrize(("ready", "filling", "error", "told"), [
    (2, 0, None, True), (3, 0, None, False), (2, 1, None, False), (2, 0, "no room", False),
])  # fmt: skip
def test_a_pool_that_has_no_room_says_so(
    monkeypatch: pytest.MonkeyPatch, ready: int, filling: int, error: str | None, told: bool
) -> None:
    pool = PoolInfo(
        key="k", engine="namespace", image="host", plain=True, templates=[], wanted=3, ready=ready, filling=filling,
        memory_bytes=3 << 20, hits=0, misses={}, error=error,
    )  # fmt: skip
    report = PoolReport(pools=[pool], memory_bytes=3 << 20, memory_limit_bytes=4 << 20)
    monkeypatch.setattr("cloche.cli.pools.Node", lambda: type("Node", (), {"pool": lambda _: report})())
    said = CliRunner().invoke(ls.command, ["--pool"]).stderr
    assert ("4.0 MiB" in said and "CLOCHE_POOL_MEMORY_MIB" in said) is told


def test_pools_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = PoolInfo(
        key="k", engine="namespace", image="host", plain=True, templates=["t"], wanted=3, ready=2, filling=1,
        memory_bytes=3 << 20, hits=5, misses={"empty": 2, "disk": 1}, error="no \x1b[31mroom",
    )  # fmt: skip
    report = PoolReport(pools=[pool], memory_bytes=3 << 20, memory_limit_bytes=1 << 30)
    monkeypatch.setattr("cloche.cli.pools.Node", lambda: type("Node", (), {"pool": lambda _: report})())
    table = CliRunner().invoke(ls.command, ["--pool"]).output
    for shown in ("(plain),t", "2/3", "3.0 MiB", "disk=1,empty=2"):
        assert shown in table
    assert "\x1b" not in table
    printed = json.loads(CliRunner().invoke(ls.command, ["--pool", "--json"]).output)
    assert printed == msgspec.to_builtins(report)
