"""What a server says of its network is true, and what a package could not be fetched for is told."""

import pytest

from cloche.mcp import installing, network, refused, server
from cloche.mcp.sandboxes import Sandboxes
from cloche.mcp.settings import Settings
from cloche.mcp.tools import packages
from cloche.mcp.tools.table import TOOLS
from cloche.model.egress import AuditLine, EgressPolicy, EgressRule
from cloche.model.errors import InvalidError
from cloche.model.process import Usage
from cloche.sdk.values import ExecResult

CLOSED = "There is no network."


@pytest.mark.parametrize(
    ("settings", "part", "is_open"),
    [
        (Settings(), CLOSED, False),
        (Settings(net="none"), CLOSED, False),
        (Settings(net=EgressPolicy()), CLOSED, False),
        (Settings(net="out=10m,accept=web:80"), CLOSED, False),
        (Settings(net="pypi,out=10m"), "(pypi,out=10m)", True),
        (Settings(net="allow,out=10m"), "(out=10m,allow)", True),
        (Settings(net="allow"), "public internet", True),
        (Settings(net="pypi,a.example"), "(pypi,a.example)", True),
        (Settings(net=EgressPolicy(rules=[EgressRule(hosts=["a.example"])])), "(a.example)", True),
        (Settings(template="t"), "template", True),
        (Settings(template="t", net="none"), CLOSED, False),
    ],
)
def test_the_sentence(settings, part, is_open):
    assert part in network.sentence(settings)
    assert network.is_open(settings) is is_open


@pytest.mark.parametrize("net", [None, "pypi"])
def test_every_tool_and_the_instructions_say_it(net):
    settings = Settings(net=net)
    shown = [tool.on_wire(settings) for tool in TOOLS]
    told = [one.name for one in shown if network.sentence(settings) in one.description]
    assert told == ["execute_python_code", "run_command", "install_package", "create_sandbox"]
    assert not [one.name for one in shown if network.PLACE in one.description]
    reach = [one.name for one in shown if one.annotations.open_world_hint]
    assert reach == (["execute_python_code", "run_command", "install_package"] if net else [])
    assert network.sentence(settings) in server.build(Sandboxes(settings)).instructions


def test_a_long_policy_is_cut():
    assert len(network.sentence(Settings(net=",".join(f"{n}.example" for n in range(1000))))) < 500


def test_a_server_does_not_start_without_the_value_of_a_secret(monkeypatch):
    monkeypatch.delenv("ABSENT_HERE", raising=False)
    with pytest.raises(InvalidError, match="ABSENT_HERE"):
        server.main(secrets=["ABSENT_HERE@a.example"])


def test_where_the_machines_own_pip_looks():
    said = (
        "global.index-url='https://index.example/simple'\nglobal.timeout='5'\nglobal.trusted-host='a.example'\n"
        "download.index-url='https://other.example'\n:env:.trusted-host='b.example'\nglobal.extra-index-url='https://me:word@b.example/simple'\n"
    )
    assert installing.places(said) == {
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_TRUSTED_HOST": "b.example",
    }
    assert installing.places("nonsense") == {}


def test_refused_hosts_are_named_once_and_harmlessly():
    line = {"time": 0.0, "sandbox_id": "s", "via": "dns", "verdict": "denied"}
    lines = [AuditLine(host="a.example", port=443, **line)] * 3 + [AuditLine(host="b\n.example", **line)]
    assert refused.names(lines) == "a.example:443, b\\n.example"


@pytest.mark.parametrize(("code", "success"), [(0, True), (1, False)])
def test_the_answer_about_a_fetched_package(code, success):
    usage = Usage(cpu_seconds=0, wall_seconds=0)
    done = ExecResult(process_id="p", exit_code=code, stdout_bytes=b"out", stderr_bytes=b"\x1b[1merr", usage=usage)
    told = packages._fetched("sb_1", "x", done, "1.0" if success else None)
    assert (told.success, told.exit_code, told.installed_version) == (success, code, "1.0" if success else None)
    assert told.output == ("x was installed, version 1.0." if success else "outerr")
