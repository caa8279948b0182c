"""Both halves against a node in miniature."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import (
    AsyncSandbox,
    ClocheError,
    CommandFailedError,
    Exited,
    InvalidError,
    LimitHitError,
    NotFoundError,
    Output,
    Sandbox,
    TimedOutError,
)
from tests.unit.sdk.stub_node import StubNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StubNode]:
    stub = StubNode(tmp_path / "home")
    yield stub
    stub.close()


@pytest.fixture
def box(node: StubNode, tmp_path: Path) -> Sandbox:
    return Sandbox.create(home=str(tmp_path / "home"), labels={"a": "b"})


def test_a_sandbox_is_removed_at_the_end_of_its_block(node: StubNode, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Sandbox.create(home=str(tmp_path / "home")) as box:
        assert box.info().state == "running"
        raise ZeroDivisionError
    assert not node.sandboxes


def test_exec_gives_what_the_command_did(box: Sandbox) -> None:
    seen: list[bytes] = []
    done = box.exec("sh", "-c", "echo out; echo err >&2; exit 3", on_stdout=seen.append, env={"A": "b"})
    assert (done.exit_code, done.stdout, done.stderr, b"".join(seen)) == (3, "out\n", "err\n", b"out\n")
    assert box.exec("no-such-program").exit_code == 127
    assert box.exec("sh", "-c", "kill -9 $$").signal == 9
    with pytest.raises(CommandFailedError) as caught:
        box.exec("false", check=True)
    assert not isinstance(caught.value, ClocheError)


def test_stdin_reaches_the_command(box: Sandbox) -> None:
    assert box.exec("cat", stdin="text").stdout == "text"
    assert box.exec("wc", "-c", stdin=b"x" * 1_000_000).stdout.strip() == "1000000"
    assert box.exec("cat", stdin=iter([b"a", b"b"])).stdout == "ab"


def test_output_is_continued_after_the_stream_broke(node: StubNode, box: Sandbox) -> None:
    node.cut = 3
    done = box.exec("sh", "-c", "seq 1 20000; seq 1 2000 >&2")
    assert done.stdout_bytes == b"".join(b"%d\n" % number for number in range(1, 20001))
    assert done.stderr_bytes == b"".join(b"%d\n" % number for number in range(1, 2001))
    assert not done.gaps and not done.truncated


def test_a_callback_that_fails_ends_the_command(node: StubNode, box: Sandbox) -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        box.exec("sh", "-c", "echo x; exec sleep 60", on_stdout=fail)
    (process,) = node.processes.values()
    assert process.real.wait(10) == -9


def test_a_process_is_found_again_where_it_was_left(box: Sandbox) -> None:
    started = box.spawn("sh", "-c", "echo one; read line; echo two $line", stdin=True)
    first = next(started.output())
    assert isinstance(first, Output) and first.data == b"one\n"
    again = box.process(started.id, stdout_offset=started.offsets["stdout"])
    started.write_stdin("x\n")
    events = list(again.output())
    assert [event.data for event in events if isinstance(event, Output)] == [b"two x\n"]
    assert isinstance(events[-1], Exited)
    assert b"".join(box.process(started.id).stdout) == b"one\ntwo x\n"
    assert started.wait().exit_code == 0
    assert [info.id for info in box.processes()] == [started.id]
    assert next(event for event in box.logs() if isinstance(event, Output)).data == b"one\ntwo x\n"


def test_wait_says_when_it_was_too_short(box: Sandbox) -> None:
    started = box.spawn("sleep", "60")
    with pytest.raises(TimedOutError):
        started.wait(0.05)
    started.kill()
    assert started.wait(10).signal == 9
    started.kill()


def test_files(node: StubNode, box: Sandbox, tmp_path: Path) -> None:
    box.files.write("/a", "hé")
    assert box.files.read("/a") == "hé"
    assert not box.files.exists("/b")
    node.files["/bin"] = b"\xff" * 100
    with pytest.raises(InvalidError):
        box.files.read("/bin")
    with pytest.raises(LimitHitError):
        box.files.read_bytes("/bin", max_bytes=10)
    box.files.write_stream("/c", io.BytesIO(b"streamed"))
    box.files.download("/c", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"streamed"


def test_trees(node: StubNode, box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_text("x")
    assert box.files.upload(tmp_path / "tree", "/t").files == 1
    with tarfile.open(fileobj=io.BytesIO(node.tars["/t"])) as sent:
        assert sent.getnames() == ["f"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(tmp_path / "tree", "t")
        tar.addfile(tarfile.TarInfo("t/../../../evil"))
    node.tars["/t"] = out.getvalue()
    with pytest.raises(InvalidError):
        box.files.download("/t", tmp_path / "back")
    assert box.files.download("/t", tmp_path / "back", skip_refused=True).refused[0][0] == "t/../../../evil"
    assert (tmp_path / "back/f").read_text() == "x"


def test_errors_keep_their_type_and_remedy(node: StubNode, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Sandbox.from_id("nobody", home=str(tmp_path / "home"))
    assert caught.value.remedy == "look again"
    node.answers["GET", "/v1/sandboxes/odd"] = (500, b"not json")
    with pytest.raises(ClocheError, match="500"):
        Sandbox.from_id("odd", home=str(tmp_path / "home"))


def test_lists_are_filtered(node: StubNode, box: Sandbox, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    assert [info.id for info in Sandbox.list(labels={"a": None}, home=home)] == [box.id]
    assert Sandbox.list(labels={"a": "c"}, states=["running"], home=home) == []
    assert "state=running" in node.asked("GET")[-1]


def test_the_async_half_does_the_same(node: StubNode, tmp_path: Path) -> None:
    async def use() -> None:
        async with await AsyncSandbox.create(home=str(tmp_path / "home")) as box:
            node.cut = 1
            seen: list[bytes] = []

            async def show(data: bytes) -> None:
                seen.append(data)

            done = await box.exec("cat", stdin=b"x" * 300_000, on_stdout=show)
            assert len(done.stdout) == 300_000 == len(b"".join(seen))
            many = await asyncio.gather(*(box.exec("echo", str(number)) for number in range(8)))
            assert [run.stdout for run in many] == [f"{number}\n" for number in range(8)]
            (tmp_path / "tree").mkdir()
            (tmp_path / "tree/f").write_text("x")
            await box.files.upload(tmp_path / "tree", "/t")
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                tar.add(tmp_path / "tree", "t")
            node.tars["/t"] = out.getvalue()
            await box.files.download("/t", tmp_path / "back")
            assert (tmp_path / "back/f").read_text() == "x"

    asyncio.run(use())
    assert not node.sandboxes


def test_a_cancelled_exec_kills_its_command(node: StubNode, tmp_path: Path) -> None:
    async def use() -> None:
        box = await AsyncSandbox.create(home=str(tmp_path / "home"))
        started = asyncio.Event()
        running = box.exec("sh", "-c", "echo x; exec sleep 60", on_stdout=lambda data: started.set())
        task = asyncio.ensure_future(running)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    (process,) = node.processes.values()
    assert process.real.wait(10) == -9


def test_a_home_with_a_long_path(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 120)
    home.mkdir()
    before = Path.cwd()
    os.chdir(home)
    try:
        stub = StubNode(Path())
        with Sandbox.create(home=str(home)) as box:
            assert box.exec("echo", "far").stdout == "far\n"
        stub.close()
    finally:
        os.chdir(before)
