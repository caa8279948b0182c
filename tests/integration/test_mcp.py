"""`cloche mcp` as a client sees it, with the official client and real sandboxes."""

from __future__ import annotations

import base64
import functools
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from cloche import Node, Sandbox
from tests.integration.mcp_clients import Tools, connected

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture
def talk(real_home, tmp_path):
    """Run a conversation with a server of its own, after which none of its sandboxes may be there."""

    def run(conversation, **settings):
        before = {info.id for info in Sandbox.list()}

        async def main():
            client: AbstractAsyncContextManager[Tools] = connected(real_home, tmp_path, **settings)
            async with client as tools:
                await conversation(tools)

        anyio.run(main)
        assert {info.id for info in Sandbox.list()} == before

    return run


def test_variables_stay_and_results_are_typed(talk):
    async def conversation(tools):
        first = await tools.execute_python_code(code="x = 41\nx + 1")
        assert not first.is_error
        made = first["sandbox_id"]
        assert first["result"] == "42"
        assert "a new default sandbox was made" in first.text
        second = await tools.execute_python_code(code="print(x)\nimport sys\nprint('careful', file=sys.stderr)")
        assert {name: second[name] for name in ("success", "output", "error", "exit_code")} == {
            "success": True,
            "output": "41\n",
            "error": "careful",
            "exit_code": 0,
        }
        assert second["sandbox_id"] == made
        assert second.text == "41\nstderr:\ncareful"

    talk(conversation)


def test_an_exception_is_a_result(talk):
    async def conversation(tools):
        failed = await tools.execute_python_code(code="x = 1\nx / 0")
        assert not failed.is_error
        assert failed["exit_code"] == 1
        assert failed["status"] == "error"
        assert "ZeroDivisionError" in failed["error"]
        assert (await tools.execute_python_code(code="x"))["result"] == "1"

    talk(conversation)


def test_code_that_takes_too_long_is_stopped_and_its_state_kept(talk):
    async def conversation(tools):
        stopped = await tools.execute_python_code(code="x = 5\nwhile True: pass", timeout=0.5)
        assert stopped["status"] == "timeout"
        assert stopped["exit_code"] == 124
        assert (await tools.execute_python_code(code="x"))["result"] == "5"

    talk(conversation)


def test_pictures_are_image_content(talk):
    show = f"class Chart:\n    def _repr_png_(self): return {PNG!r}\nChart()"
    drawn = "class Drawing:\n    def _repr_svg_(self): return '<svg></svg>'\nDrawing()"
    lie = "class Lie:\n    def _repr_png_(self): return b'no picture'\nLie()"

    async def conversation(tools):
        found = await tools.execute_python_code(code=show)
        assert [part.type for part in found.content] == ["text", "image"]
        assert (found.content[1].mime_type, base64.b64decode(found.content[1].data)) == ("image/png", PNG)
        assert found["images"] == 1
        assert (await tools.execute_python_code(code=drawn)).content[1].mime_type == "image/svg+xml"
        assert len((await tools.execute_python_code(code=lie)).content) == 1
        await tools.write_file(path="a.png", content=base64.b64encode(PNG).decode(), encoding="base64")
        assert (await tools.read_file(path="a.png")).content[1].mime_type == "image/png"

    talk(conversation)


def test_commands(talk):
    async def conversation(tools):
        ran = await tools.run_command(
            command="[[ -n $A ]] && cat && pwd && exit 3", stdin="given ", env={"A": "1"}, workdir="/tmp"
        )
        assert not ran.is_error
        assert ran["output"] == "given /tmp\n"
        assert ran["exit_code"] == 3
        assert ran.text.startswith("given /tmp\nexit code 3")
        assert (await tools.run_command(command="nonexistent"))["exit_code"] == 127
        slow = await tools.run_command(command="echo begun; exec sleep 1000", timeout=0.5)
        assert (slow["limit_hit"], slow["output"]) == ("timeout", "begun\n")

    talk(conversation)


def test_much_output_is_cut_in_the_middle(talk):
    async def conversation(tools):
        for found in (
            await tools.run_command(command="echo begin; head -c 5000000 /dev/zero | tr '\\0' x; echo end"),
            await tools.execute_python_code(code="print('begin')\nprint('x' * 5_000_000)\nprint('end')"),
        ):
            output = found["output"]
            assert found["truncated"]
            assert len(output) < 70_000
            assert output.startswith("begin\n")
            assert output.endswith("end\n")
            assert "bytes left out" in output

    talk(conversation)


def test_files(talk):
    async def conversation(tools):
        written = await tools.write_file(path="deep/er/näme.txt", content="grüße 🦀\n")
        assert written["path"] == "/home/user/deep/er/näme.txt"
        await tools.write_file(path="deep/er/näme.txt", content="more", append=True)
        read = await tools.read_file(path="deep/er/näme.txt")
        assert (read.text, read["next_offset"]) == ("grüße 🦀\nmore", None)
        part = await tools.read_file(path="deep/er/näme.txt", length=3)
        assert (part["content"], part["next_offset"]) == ("gr", 2)
        await tools.write_file(path="run.sh", content="#!/bin/sh\necho ran", executable=True)
        assert (await tools.run_command(command="./run.sh"))["output"] == "ran\n"
        found = (await tools.list_files(path="deep", depth=2))["entries"]
        assert [(one["path"], one["type"]) for one in found] == [
            ("/home/user/deep/er", "directory"),
            ("/home/user/deep/er/näme.txt", "file"),
        ]

    talk(conversation)


def test_files_that_are_no_text(talk):
    async def conversation(tools):
        await tools.write_file(path="bytes", content=base64.b64encode(b"\0\xff").decode(), encoding="base64")
        refused = await tools.read_file(path="bytes")
        assert refused.is_error
        assert "encoding=base64" in refused["remedy"]
        read = await tools.read_file(path="bytes", encoding="base64")
        assert base64.b64decode(read["content"]) == b"\0\xff"
        assert "list_files" in (await tools.read_file(path="/tmp"))["remedy"]
        assert (await tools.read_file(path="none"))["code"] == "not_found"
        assert (await tools.read_file(path="a\0b")).is_error
        assert (await tools.write_file(path="x", content="?", encoding="base64"))["code"] == "invalid"

    talk(conversation)


def test_a_listing_is_bounded_and_its_names_cannot_lie(talk):
    async def conversation(tools):
        await tools.run_command(command="mkdir many; cd many; touch $(seq 3000); touch $'a\\nb' $'\\x1b[2J' $'\\xff'")
        listed = await tools.list_files(path="many")
        assert listed["truncated"]
        assert len(listed["entries"]) == 200
        rest = await tools.run_command(command="cd many; rm -f [0-9]*")
        assert rest["success"]
        odd = await tools.list_files(path="many")
        assert len(odd["entries"]) == 3
        assert len(odd.text.splitlines()) == 3
        assert "\x1b" not in odd.text

    talk(conversation)


def test_packages_are_there_or_the_network_is_closed(talk):
    async def conversation(tools):
        there = await tools.install_package(package="json")
        assert there["success"]
        closed = await tools.install_package(package="surely-not-installed-here==1.0")
        assert closed.is_error
        assert closed["code"] == "network_closed"
        assert closed["remedy"]
        assert (await tools.install_package(package="--index-url=x"))["code"] == "invalid"

    talk(conversation)


def test_sandboxes_by_id_and_by_name(talk):
    async def conversation(tools):
        made = await tools.create_sandbox(name="one", memory_mib=256, timeout=600)
        assert made["network"] == "closed"
        assert (await tools.execute_python_code(sandbox_id="one", code="x = 1"))["success"]
        again = await tools.execute_python_code(id=made["sandbox_id"], code="x")
        assert again["result"] == "1"
        assert (await tools.run_command(sandbox_id=made["sandbox_id"][:20], command="true"))["success"]
        other = await tools.execute_python_code(code="x")
        assert other["sandbox_id"] != made["sandbox_id"]
        assert "NameError" in other["error"]
        listed = await tools.list_sandboxes()
        assert listed["count"] == 2
        assert {one["name"]: one["default"] for one in listed["sandboxes"]} == {"one": False, None: True}
        assert (await tools.create_sandbox(name="one"))["code"] == "already_exists"
        assert (await tools.remove_sandbox(id="one"))["success"]
        assert (await tools.run_command(sandbox_id="one", command="true"))["code"] == "not_found"

    talk(conversation)


def test_a_default_sandbox_that_has_gone_is_made_anew_and_that_is_said(talk):
    async def conversation(tools):
        first = (await tools.run_command(command="touch here"))["sandbox_id"]
        with Sandbox.from_id(first):
            pass
        again = await tools.run_command(command="ls here")
        assert again["exit_code"] == 2
        assert "its files and variables are gone" in again.text
        assert (await tools.remove_sandbox(sandbox_id="default"))["success"]
        assert (await tools.list_sandboxes())["count"] == 0

    talk(conversation)


def test_the_limit_is_of_this_server_and_ends_with_a_removal(talk):
    async def conversation(tools):
        for name in ("a", "b"):
            assert not (await tools.create_sandbox(name=name)).is_error
        refused = await tools.run_command(command="true")
        assert refused["code"] == "limit_hit"
        assert "remove_sandbox" in refused["remedy"]
        await tools.remove_sandbox(sandbox_id="a")
        assert not (await tools.run_command(command="true")).is_error

    with Sandbox.create():
        talk(conversation, MAX_SANDBOXES="2")


def test_others_sandboxes_are_out_of_reach_unless_a_setting_says_so(talk):
    with Sandbox.create(name="mine") as mine:

        async def closed(tools):
            assert (await tools.list_sandboxes(include_inactive=True))["count"] == 0
            for ref in ("mine", mine.id):
                assert (await tools.run_command(sandbox_id=ref, command="true"))["code"] == "not_found"
                assert (await tools.remove_sandbox(sandbox_id=ref, force=True)).is_error

        async def opened(tools):
            assert (await tools.run_command(sandbox_id="mine", command="echo hi"))["output"] == "hi\n"
            assert (await tools.remove_sandbox(sandbox_id="mine"))["code"] == "wrong_state"

        talk(closed)
        talk(opened, CLOCHE_MCP_SCOPE="all")
        assert mine.info().state == "running"


def test_use_keeps_a_sandbox_alive(talk):
    async def conversation(tools):
        made = (await tools.create_sandbox(timeout=100))["sandbox_id"]
        before = Sandbox.from_id(made).info().expires_at
        await tools.run_command(sandbox_id=made, command="true", timeout=500)
        assert Sandbox.from_id(made).info().expires_at > before + 400

    talk(conversation)


def test_sandboxes_can_be_kept(real_home, tmp_path):
    kept = []

    async def main():
        async with connected(real_home, tmp_path, CLOCHE_MCP_KEEP="1") as tools:
            kept.append((await tools.create_sandbox())["sandbox_id"])

    anyio.run(main)
    with Sandbox.from_id(kept[0]) as found:
        assert found.info().expires_at is not None


def test_two_calls_at_once(talk):
    async def conversation(tools):
        pair = (
            "import os, time\nopen('{0}', 'w').close()\nwhile not os.path.exists('{1}'): time.sleep(0.01)\nprint('met')"
        )
        found = []

        async def call(sandbox, mine, other):
            code = pair.format(mine, other)
            command = f'python3 -c "{code}"'
            found.append((await tools.run_command(sandbox_id=sandbox, command=command))["output"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, None, "a", "b")
            tasks.start_soon(call, None, "b", "a")
        assert found == ["met\n", "met\n"]
        assert (await tools.list_sandboxes())["count"] == 1

    talk(conversation)


def test_progress_tells_output_while_code_runs(talk):
    async def conversation(tools):
        heard = anyio.Event()

        async def progress(done, total, message):
            if "working" in (message or ""):
                assert total == 50
                heard.set()

        async with anyio.create_task_group() as tasks:
            code = "print('working', flush=True)\nimport os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"
            run = functools.partial(tools.execute_python_code, progress, code=code, timeout=50)
            tasks.start_soon(run)
            await heard.wait()
            await tools.write_file(path="go", content="")

    talk(conversation)


def test_a_template_of_the_user_can_be_asked_for_or_be_the_usual_one(talk):
    async def usual(tools):
        told = await tools.run_command(command="echo $FROM")
        assert told["output"] == "template\n"

    async def asked(tools):
        assert (await tools.create_sandbox(name="one", template="mcp-test"))["success"]
        assert (await tools.run_command(sandbox_id="one", command="echo $FROM"))["output"] == "template\n"
        assert (await tools.create_sandbox(template="none"))["code"] == "not_found"

    node = Node()
    node.templates.set("mcp-test", env={"FROM": "template"})
    try:
        talk(usual, CLOCHE_MCP_TEMPLATE="mcp-test")
        talk(asked)
    finally:
        node.templates.remove("mcp-test")
