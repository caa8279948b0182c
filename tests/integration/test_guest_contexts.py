"""Code contexts of a real guest with real interpreters: what they answer, and what hostile code cannot do to them.

Longer than other files: nearly every test is one piece of code and what is told of it, on the same guest."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.model.code import MAX_CONTEXTS, Accepted, CodeEnded, CodeError, CodeGap, CodeOutput, CodeResult, Started
from tests.integration.guest_harness import BINARY, Guest, Stream, guest, has, is_absent

pytestmark = [
    pytest.mark.skipif(not BINARY.exists(), reason="the guest is not built"),
    pytest.mark.skipif(not has("python3"), reason="no python3 in /usr/bin"),
]
BUSY = "print('on', flush=True)\nwhile True:\n    x = 1\n"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with guest(tmp_path_factory.mktemp("guest")) as served:
        yield served


@pytest.fixture
def context(box: Guest) -> Iterator[str]:
    made = box.create()
    yield made
    box.ask("DELETE", f"/v1/contexts/{made}")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Guest]:
    """A guest of the test's own: for what changes all of it."""
    with guest(tmp_path) as served:
        yield served


def begun(box: Guest, code: str, **spec: object) -> Stream:
    """An execution that has printed its first line."""
    stream = box.stream(code, **spec)
    stream.until(CodeOutput)
    return stream


# --- what code says


def test_the_last_expression_and_the_state(box: Guest, context: str) -> None:
    first = box.run("import math\nx = 20 + 1\nx * 2", context_id=context)
    assert (first.value, first.end.status, first.end.state_kept) == ("42", "ok", True)
    assert isinstance(first.events[0], Accepted) and isinstance(first.events[1], Started)
    assert [event.seq for event in first.events] == [1, 2, 3, 4]
    assert box.run("x, _, __name__", context_id=context).value == "(21, 42, '__main__')"
    info = box.get(f"/v1/contexts/{context}")
    assert (info["state"], info["executions"], info["language"], info["default"]) == ("idle", 2, "python", False)
    assert box.run("None", context_id=context).of(CodeResult) == []
    assert box.run("5;", context_id=context).of(CodeResult) == []


def test_the_default_context_is_made_once(box: Guest) -> None:
    assert box.run("kept = 'yes'").end.status == "ok"
    assert box.run("kept").value == "'yes'"
    assert len([info for info in box.get("/v1/contexts")["contexts"] if info["default"]]) == 1
    assert "python" in box.get("/v1/contexts")["languages"]
    assert box.get("/v1/processes")["processes"] == []


def test_both_streams_and_children_come_in_order(box: Guest, context: str) -> None:
    told = box.run(
        "import sys, os, subprocess\nprint('one'); print('two', file=sys.stderr); print('three', end='')\n"
        "subprocess.run(['sh', '-c', 'echo child; echo grumble >&2'])\nos.write(1, b'raw\\n')\ndisplay('shown')\nprint('four')",  # noqa: E501
        context_id=context,
    )
    said = [event.text if isinstance(event, CodeOutput) else "shown" for event in told.of((CodeOutput, CodeResult))]
    assert "".join(said).startswith("one\ntwo\nthree")
    assert "".join(said).endswith("shownfour\n")
    assert told.stdout == "one\nthreechild\nraw\nfour\n"
    assert told.stderr == "two\ngrumble\n"


def test_bytes_that_are_no_text_travel(box: Guest, context: str) -> None:
    told = box.run(
        "import os; os.write(1, b'\\xff\\xe6\\xbc'); print('\\udc80 \\ud800 \\U0001f600')", context_id=context
    )
    assert told.stdout == "\udcff\udce6\udcbc\udc80 \udced\udca0\udc80 \U0001f600\n" or "\\ud800" in told.stdout


def test_a_traceback_begins_at_the_code(box: Guest, context: str) -> None:
    told = box.run("def f(n):\n    return 1 / n\n\nf(0)\n", context_id=context)
    assert (told.error.name, told.error.message, told.end.status) == ("ZeroDivisionError", "division by zero", "error")
    lines = told.error.traceback.splitlines()
    assert lines[1] == '  File "<cell 1>", line 4, in <module>' and lines[2] == "    f(0)"
    assert "return 1 / n" in told.error.traceback and "cloche" not in told.error.traceback
    again = box.run("f(0)", context_id=context)
    assert '"<cell 2>", line 1' in again.error.traceback and '"<cell 1>", line 2' in again.error.traceback


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def f(:", "SyntaxError"),
        ("x = 1\n  y = 2", "IndentationError"),
        ("# -*- coding: utf-16 -*-\n1 +", "SyntaxError"),
        ("# coding: nonsense\n'ok' +", "SyntaxError"),
        ("a\0b", "SyntaxError"),
        ("'\udcff\udc80", "SyntaxError"),
        ("x = '\udcff' +", "SyntaxError"),
        ("\ufeff1 +", "SyntaxError"),
        ("(" * 5000, "SyntaxError"),
        ("import nosuchmodule", "ModuleNotFoundError"),
        ("input('who? ')", "EOFError"),
        ("import getpass; getpass.getpass()", "EOFError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("exit()", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("x = bytearray(1 << 60)", "MemoryError"),
        ("raise BaseException('x' * (40 << 20))", "BaseException"),
        ("class E(Exception):\n    def __str__(self): return 5\nraise E", "E"),
        ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "E"),
        ("await nosuch()", "NameError"),
        ("!ls", "SyntaxError"),
    ],
)
def test_what_goes_wrong_is_told_and_ends_nothing(box: Guest, code: str, name: str) -> None:
    told = box.run(code)
    assert told.error.name == name
    assert told.end.status == ("interrupted" if name == "KeyboardInterrupt" else "error")
    assert box.run("1 + 1").value == "2"


def test_sources_with_surrogates_and_cookies_that_are_fine(box: Guest) -> None:
    assert box.run("# -*- coding: latin-1 -*-\n'é'").value == "'é'"
    assert box.run("\n\n# only a comment").end.status == "ok"
    assert box.run("").end.status == "ok"


def test_rich_results(box: Guest, context: str) -> None:
    code = """
class Rich:
    def _repr_html_(self): return "<b>1</b>"
    def _repr_png_(self): return b"\\x89PNG..."
    def _repr_json_(self): return {"a": [1, None]}
    def _repr_latex_(self): return None
    def _repr_mimebundle_(self, include=None, exclude=None): return {"text/x-own": "own"}, {"text/x-own": {"w": 1}}
    def __repr__(self): return "rich"
display(Rich(), Rich())
Rich()
"""
    results = box.run(code, context_id=context).of(CodeResult)
    assert [result.kind for result in results] == ["display", "display", "value"]
    assert results[2].data == {
        "text/x-own": "own",
        "text/html": "<b>1</b>",
        "image/png": base64.b64encode(b"\x89PNG...").decode(),
        "application/json": {"a": [1, None]},
        "text/plain": "rich",
    }
    assert results[2].metadata == {"text/x-own": {"w": 1}}


def test_representations_that_lie(box: Guest, context: str) -> None:
    code = """
class Liar:
    def __repr__(self): raise ValueError("no")
    def _repr_html_(self): return 5
    def _repr_png_(self): raise SystemExit
    def _repr_svg_(self): print("printed on the way"); return "<svg/>"
    def _repr_json_(self): return {"a": float("nan")}
    def _repr_markdown_(self): return "m" * (20 << 20)
    def _repr_mimebundle_(self, **k): return {"bad name": "1", 5: 6, "application/x+json": [[[1]]]}
    def __getattr__(self, name): return lambda *a: "<i>lie</i>"
Liar()
"""
    told = box.run(code, context_id=context)
    (result,) = told.of(CodeResult)
    assert result.data == {
        "application/x+json": [[[1]]],
        "image/svg+xml": "<svg/>",
        "text/plain": "<Liar object: its repr raised ValueError: no>",
    }
    assert result.left_out == ["text/markdown"] and told.stdout == "printed on the way\n"
    assert box.run("class R:\n  def __repr__(self): return 7\nR()", context_id=context).value is not None
    assert box.run("from unittest.mock import Mock; Mock()", context_id=context).of(CodeResult)[0].data.keys() == {
        "text/plain"
    }


def test_await_at_the_top_level_keeps_one_loop(box: Guest, context: str) -> None:
    assert box.run("import asyncio\nq = asyncio.Queue()\nawait q.put(5)", context_id=context).end.status == "ok"
    assert box.run("await q.get()", context_id=context).value == "5"
    assert box.run("async def f():\n    return 9\nasyncio.run(f())", context_id=context).value == "9"


STAND_IN = """
import sys, types
def stand_in(name, **held):
    module = types.ModuleType(name)
    module.__dict__.update(held)
    return module
class Figure:
    def savefig(self, target, **settings): target.write(b"\\x89PNG " + str(self.number).encode())
figures = {}
def figure(number=None):
    if number not in figures:
        number = len(figures) + 1
        figures[number] = Figure()
        figures[number].number = number
    return figures[number]
def close(which): figures.pop(which.number, None)
source = "def get_backend(): return 'agg'\\ndef show(): raise RuntimeError\\n"
import os
os.makedirs("lib/matplotlib", exist_ok=True)
open("lib/matplotlib/__init__.py", "w").close()
open("lib/matplotlib/figure.py", "w").write("from __main__ import Figure")
open("lib/matplotlib/pyplot.py", "w").write("import matplotlib.figure\\nfrom __main__ import figure, close, figures\\n"
    "def get_fignums(): return sorted(figures)\\ndef get_backend(): return 'agg'\\ndef show(): raise RuntimeError\\n")
sys.path.insert(0, "lib")
"""


def test_figures_are_shown_at_show_and_at_the_end_and_once(box: Guest, context: str) -> None:
    assert box.run(STAND_IN, context_id=context).end.status == "ok"
    told = box.run(
        "import matplotlib.pyplot as plt\nplt.figure()\nplt.show()\nprint('between')\nplt.figure();", context_id=context
    )
    kinds = [type(event) for event in told.events[2:]]
    assert kinds == [CodeResult, CodeOutput, CodeResult, CodeEnded]
    assert {event.kind for event in told.of(CodeResult)} == {"display"}
    value = box.run("fig = plt.figure(); fig", context_id=context).of(CodeResult)
    assert [(event.kind, "image/png" in event.data) for event in value] == [("value", True)]
    assert box.run("figures", context_id=context).value == "{}"


# --- interrupts and time


@pytest.mark.parametrize(
    "code",
    [
        BUSY,
        "print('on')\nimport time; time.sleep(1000)",
        "print('on')\nimport asyncio; await asyncio.sleep(1000)",
        "print('on')\nimport subprocess; subprocess.run(['sleep', '1000'])",
        "while True: print('x' * 50)",
        "print('on')\nclass R:\n    def __repr__(self):\n        while True: x = 1\nR()",
        "print('on')\nclass E(Exception):\n    def __str__(self):\n        while True: x = 1\nraise E",
    ],
)
def test_an_interrupt_ends_the_code_and_keeps_the_state(box: Guest, context: str, code: str) -> None:
    box.run("kept = 5", context_id=context)
    stream = begun(box, code, context_id=context)
    assert box.ask("POST", f"/v1/contexts/{context}/interrupt")[0] == 204
    told = stream.finish()
    assert told.end.state_kept and (told.end.status == "interrupted" or told.error.name == "E")
    assert box.run("kept", context_id=context).value == "5"
    assert box.ask("POST", f"/v1/contexts/{context}/interrupt")[0] == 409


def test_an_interrupt_never_reaches_what_runs_next(box: Guest, context: str) -> None:
    for _ in range(150):
        stream = box.stream("print('on')\nx = sum(range(2000))", context_id=context)
        following = box.stream("y = sum(range(20000)); 'fine'", context_id=context)
        accepted = stream.until(Accepted)
        box.ask("POST", f"/v1/executions/{accepted.execution_id}/interrupt")
        assert stream.finish().end.status in ("ok", "interrupted")
        assert following.finish().value == "'fine'"


def test_a_timeout_interrupts_first(box: Guest, context: str) -> None:
    told = box.run("kept = 1\n" + BUSY, context_id=context, timeout_seconds=0.2)
    assert (told.end.status, told.end.state_kept, told.end.limit_hit) == ("timeout", True, "timeout")
    assert box.run("kept", context_id=context).value == "1"


def test_a_timeout_kills_what_does_not_listen(box: Guest, context: str) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    waiting: list[object] = []
    stream = box.stream(code, context_id=context, timeout_seconds=0.2)
    queued = box.stream("1", context_id=context)
    thread = threading.Thread(target=lambda: waiting.append(queued.finish().end))
    thread.start()
    told = stream.finish()
    thread.join()
    assert (told.end.status, told.end.state_kept, told.end.limit_hit) == ("timeout", False, "timeout")
    assert waiting[0].status == "context_ended" and not waiting[0].state_kept  # type: ignore[attr-defined]
    info = box.get(f"/v1/contexts/{context}")
    assert (info["state"], info["end"], info["limit_hit"]) == ("ended", "timeout", "timeout")
    assert box.ask("POST", "/v1/executions", {"code": "1", "context_id": context})[0] == 409
    status, info = box.ask("POST", f"/v1/contexts/{context}/restart")
    assert (status, info["state"], info["id"], info["executions"]) == (200, "idle", context, 0)
    assert box.run("1", context_id=context).value == "1"


# --- hostile code


def test_forks_say_nothing_as_the_context(box: Guest, context: str) -> None:
    code = """
import os, sys
pids = []
for n in range(5):
    pid = os.fork()
    if pid == 0:
        print("child", n)
        display("not shown as a result")
        break
    pids.append(pid)
if pids and len(pids) == 5:
    for pid in pids: os.waitpid(pid, 0)
len(pids)
"""
    told = box.run(code, context_id=context)
    assert told.value == "5" and len(told.of(CodeResult)) == 1
    assert sorted(line for line in told.stdout.splitlines() if line.startswith("child")) == [
        f"child {n}" for n in range(5)
    ]
    pool = box.run(
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "with m.get_context('fork').Pool(2) as p: r = p.map(f, [1, 2, 3])\nr",
        context_id=context,
    )
    assert pool.value == "[1, 4, 9]"
    assert (
        box.run("import pickle\nclass P: pass\ntype(pickle.loads(pickle.dumps(P()))) is P", context_id=context).value
        == "True"
    )


def test_closing_every_descriptor_ends_the_context_and_no_more(box: Guest, context: str) -> None:
    told = box.run("import os\nos.closerange(0, 1000)\n", context_id=context)
    assert (told.end.status, told.end.state_kept, told.error.name) == ("context_ended", False, "ContextEnded")
    assert box.get(f"/v1/contexts/{context}")["end"] == "died"
    assert box.run("1").value == "1"


def test_closing_the_standard_streams_is_survived(box: Guest, context: str) -> None:
    box.run(
        "import os, sys\nfor n in (0, 1, 2): os.close(n)\nsys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        context_id=context,
    )
    assert box.run("print('still'); 4", context_id=context).stdout == "still\n"


def test_redefining_everything_is_survived(box: Guest, context: str) -> None:
    code = """
import builtins, sys, os, signal, threading
builtins.print = builtins.len = builtins.isinstance = builtins.repr = builtins.compile = builtins.exec = None
sys.stdout = sys.stderr = None
sys.displayhook = sys.excepthook = None
os.write = os.read = os.getpid = None
def trace(*a): raise RuntimeError("trace")
sys.settrace(trace); sys.setprofile(None)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.chdir("/")
sys.setrecursionlimit(60)
sys.modules.clear()
"""
    assert box.run(code, context_id=context).end.state_kept
    assert box.run("5", context_id=context).value == "5"
    failed = box.run("1 / 0", context_id=context)
    assert failed.error.name == "ZeroDivisionError"
    with contextlib.closing(box.stream("while True: x = 1", context_id=context)) as stream:
        stream.until(Started)
        box.ask("POST", f"/v1/contexts/{context}/interrupt")
        assert stream.finish().end.status == "interrupted"


def test_frames_of_the_codes_own_forge_its_own_results_only(box: Guest, context: str) -> None:
    forged = r"""
import os, json
def frame(kind, payload): return kind + len(payload).to_bytes(4, "big") + payload
def fields(*parts): return b"".join(len(p).to_bytes(4, "big") + p for p in parts)
os.write(4, frame(b"v", fields(b"{}", b"", b"text/plain", b"forged", b"application/json", b'{"a": 1e999}')))
os.write(4, frame(b"v", b"garbage") + frame(b"x", b"garbage") + frame(b"D", b"99 ok") + frame(b"D", b"nonsense"))
os.write(4, frame(b"R", b"9.9") + frame(b"s", b"") + frame(b"o", b"\xff\n{\"type\":\"ended\"}\n"))
"done"
"""
    told = box.run(forged, context_id=context)
    assert [event.data["text/plain"] for event in told.of(CodeResult)] == ["forged", "'done'"]
    assert told.stdout == '\udcff\n{"type":"ended"}\n'
    assert box.get(f"/v1/contexts/{context}")["version"] != "9.9"
    early = box.run(
        "os.write(4, frame(b'D', b'2 ok')); os.write(4, frame(b'v', fields(b'', b'', b'a/b', b'late'))); 5",
        context_id=context,
    )
    assert early.end.status == "ok"
    clean = box.run("6", context_id=context)
    assert clean.of(CodeResult)[-1].data == {"text/plain": "6"}  # what was said after a forged end may come before it
    broken = box.run("os.write(4, b'this is no frame at all')\nimport time; time.sleep(100)", context_id=context)
    assert broken.end.status == "context_ended"


@pytest.mark.slow
def test_a_hundred_megabytes_come_whole(box: Guest, context: str) -> None:
    told = box.run("line = 'y' * 99\nfor _ in range(1_000_000): print(line)", context_id=context)
    assert len(told.stdout) == 100_000_000 and told.end.status == "ok"
    assert len(told.of(CodeOutput)) < 200_000
    at_once = box.run("print('z' * 100_000_000)", context_id=context)
    assert len(at_once.stdout) == 100_000_001


def test_what_nobody_reads_is_a_gap_later(box: Guest, context: str) -> None:
    stream = begun(
        box,
        "print('on')\nfor n in range(60): print(str(n) * 500_000)\nprint('end')",
        context_id=context,
        on_disconnect="keep",
    )
    execution = stream.told.of(Accepted)[0].execution_id
    stream.close()
    told = box.read(execution, 1, follow=True)
    assert told.end.status == "ok" and told.stdout.endswith("end\n")
    later = box.read(execution)
    assert isinstance(later.events[0], CodeGap) and later.events[0].lost_events == later.events[0].seq
    assert box.read(execution, later.events[-1].seq - 1).events == later.events[-1:]


def test_deep_recursion_in_the_compiler_and_in_c(box: Guest, context: str) -> None:
    for code in ("eval('-' * 200_000 + '1')", "x = []\nfor _ in range(200_000): x = [x]\nrepr(x)", "x"):
        assert box.run(code, context_id=context).end.status in ("error", "ok", "context_ended")
    with contextlib.suppress(AssertionError):
        box.run("1", context_id=context)
    assert box.run("2").value == "2"


def test_all_the_memory_that_there_is(box: Guest, context: str) -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))\nx = []\nwhile True: x.append(bytearray(1 << 20))"  # noqa: E501
    told = box.run(code, context_id=context)
    assert told.error.name == "MemoryError" and told.end.state_kept
    assert box.run("x.clear(); 3", context_id=context).value == "3"


def test_threads_that_stay_print_into_what_runs_next(box: Guest, context: str) -> None:
    box.run(
        "import threading\ngo = threading.Event(); told = threading.Event()\n"
        "def late():\n    go.wait(); print('late'); told.set()\nthreading.Thread(target=late).start()",
        context_id=context,
    )
    assert box.run("go.set(); told.wait(); 1", context_id=context).stdout == "late\n"


# --- many, order, and clients that leave


def test_two_at_once_run_in_order(box: Guest, context: str) -> None:
    streams = [
        box.stream(f"print({n}); order = globals().get('order', []) + [{n}]; order", context_id=context)
        for n in range(8)
    ]
    ahead = [stream.until(Accepted).ahead for stream in streams]
    assert ahead[0] == 0 and max(ahead) <= 7
    assert [stream.finish().value for stream in streams] == [str(list(range(n + 1))) for n in range(8)]


def test_one_that_waits_is_taken_out_of_the_queue(box: Guest, context: str) -> None:
    first = begun(box, BUSY, context_id=context)
    second = box.stream("5", context_id=context)
    waiting = second.until(Accepted)
    assert waiting.ahead == 1 and box.get(f"/v1/contexts/{context}")["queued"] == 1
    assert box.ask("POST", f"/v1/executions/{waiting.execution_id}/interrupt")[0] == 204
    gone = second.finish()
    assert gone.end.status == "interrupted" and gone.of(Started) == []
    assert box.ask("POST", f"/v1/executions/{waiting.execution_id}/interrupt")[0] == 409
    box.ask("POST", f"/v1/contexts/{context}/interrupt")
    assert first.finish().end.status == "interrupted"


def test_a_client_that_goes_leaves_what_it_asked_to_keep(box: Guest, context: str) -> None:
    stream = begun(
        box, "print('on')\nimport sys, time\nwhile not globals().get('stop'): time.sleep(0.01)\n", context_id=context
    )
    execution = stream.told.of(Accepted)[0].execution_id
    stream.close()
    assert box.get(f"/v1/contexts/{context}")["state"] == "busy"
    box.ask("POST", f"/v1/executions/{execution}/interrupt")
    assert box.read(execution, follow=True).end.status == "interrupted"


@pytest.mark.slow  # the guest waits ten seconds for another reader
def test_a_client_that_goes_stops_what_it_asked_to_stop(box: Guest, context: str) -> None:
    stream = begun(box, BUSY, context_id=context, on_disconnect="interrupt")
    execution = stream.told.of(Accepted)[0].execution_id
    stream.close()
    assert box.run("1", context_id=context).value == "1"
    assert box.read(execution).end.status == "interrupted"


def test_removing_kills_the_whole_session(box: Guest) -> None:
    made = box.create()
    told = box.run("import subprocess\np = subprocess.Popen(['sleep', '1000'])\np.pid", context_id=made)
    pids = [int(told.value or 0), box.get(f"/v1/contexts/{made}")["pid"]]
    running = begun(box, BUSY, context_id=made)
    assert box.ask("DELETE", f"/v1/contexts/{made}")[0] == 204
    assert running.finish().end.status == "context_ended"
    assert all(is_absent(pid) for pid in pids)
    assert box.ask("GET", f"/v1/contexts/{made}")[0] == 404


def test_a_restart_ends_what_runs_and_forgets(box: Guest, context: str) -> None:
    box.run("kept = 1", context_id=context)
    running = begun(box, BUSY, context_id=context)
    status, info = box.ask("POST", f"/v1/contexts/{context}/restart")
    assert (status, info["state"], info["end"]) == (200, "idle", None)
    ended = running.finish().end
    assert (ended.status, ended.state_kept) == ("context_ended", False)
    assert box.run("'kept' in globals()", context_id=context).value == "False"


def test_an_interpreter_that_ends_by_itself(box: Guest, context: str) -> None:
    told = box.run("import os; os._exit(7)", context_id=context)
    assert told.end.status == "context_ended" and "status 7" in told.error.message
    told = box.run("import os; os.abort()")
    assert "signal 6" in told.error.message
    assert box.run("1").value == "1"


@pytest.mark.slow
def test_there_are_only_so_many(own: Guest) -> None:
    made = [own.ask("POST", "/v1/contexts", {"language": "bash"})[0] for _ in range(200)]
    assert made == [201] * MAX_CONTEXTS + [429] * (200 - MAX_CONTEXTS)
    contexts = own.get("/v1/contexts")["contexts"]
    assert len(contexts) == MAX_CONTEXTS
    assert own.ask("DELETE", f"/v1/contexts/{contexts[0]['id']}")[0] == 204
    assert own.ask("POST", "/v1/contexts", {"language": "bash"})[0] == 201


# --- environment, and requests that are wrong


def test_the_session_reaches_contexts_that_wait(own: Guest) -> None:
    made = {language: own.create(language, env={"OWN": "1"}) for language in ("python", "bash")}
    env = {"HOME": "/", "PATH": "/usr/bin:/bin", "NEW": "it's new", "OWN": "session"}
    assert own.ask("PUT", "/v1/session", {"env": env, "workdir": "/usr"})[0] == 204
    told = own.run("import os; os.environ['NEW'], os.environ['OWN'], os.getcwd()", context_id=made["python"])
    assert told.value == "(\"it's new\", '1', '/usr')"
    assert own.run('echo "$NEW $OWN $PWD"', language="bash", context_id=made["bash"]).stdout == "it's new 1 /usr\n"


def test_an_image_without_interpreters(tmp_path: Path) -> None:
    with guest(tmp_path) as served:
        served.ask("PUT", "/v1/session", {"env": {"PATH": str(tmp_path)}, "workdir": "/"})
        status, refusal = served.ask("POST", "/v1/executions", {"code": "1"})
        assert (status, refusal["error"]["code"], refusal["error"]["details"]["languages"]) == (
            501,
            "interpreter_missing",
            [],
        )
        (tmp_path / "python3").symlink_to("/usr/bin/python3")
        assert served.get("/v1/contexts")["languages"] == ["python"]
        status, refusal = served.ask("POST", "/v1/contexts", {"language": "bash"})
        assert (status, refusal["error"]["details"]["languages"]) == (501, ["python"])
        (tmp_path / "bash").write_text("#!/bin/sh\necho I am no bash; exit 3\n")
        (tmp_path / "bash").chmod(0o755)
        assert served.ask("POST", "/v1/contexts", {"language": "bash"})[1]["error"]["code"] == "interpreter_missing"


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("contexts", {"language": "cobol"}, 422),
        ("contexts", {"cwd": "/nosuch"}, 422),
        ("contexts", {"cwd": "a\0"}, 422),
        ("contexts", {"env": {"A=": "1"}}, 422),
        ("contexts", {"user": "nobody-here"}, 422),
        ("contexts", {"colour": 1}, 422),
        ("executions", {"code": "1", "timeout_seconds": 0}, 422),
        ("executions", {"code": "1", "on_disconnect": "burn"}, 422),
        ("executions", {"code": "1", "context_id": "c_nosuch"}, 404),
        ("executions", {"code": "x" * ((8 << 20) + 1)}, 422),
        ("executions/x_nosuch/interrupt", None, 404),
        ("contexts/c_nosuch/restart", None, 404),
    ],
)
def test_wrong_requests(box: Guest, route: str, body: object, status: int) -> None:
    assert box.ask("POST", f"/v1/{route}", body)[0] == status


def test_large_code_and_large_values(box: Guest, context: str) -> None:
    code = "x = '" + "y" * (7 << 20) + "'\nlen(x)"
    assert box.run(code, context_id=context).value == str(7 << 20)
    assert len(box.run("'v' * (8 << 20)", context_id=context).value or "") == (8 << 20) + 2
    result = box.run("'v' * (17 << 20)", context_id=context).of(CodeResult)[0]
    assert (result.data, result.left_out) == ({}, ["text/plain"])


# --- the other languages


def test_bash(box: Guest) -> None:
    made = box.create("bash")
    told = box.run("x=5; cd /usr; echo out; echo err >&2; f() { echo f$1; }; false", language="bash", context_id=made)
    assert (told.stdout, told.stderr) == ("out\n", "err\n")
    assert (told.error.name, told.error.message, told.end.status) == ("ExitStatus", "1", "error")
    assert box.run("echo $? $x $PWD; f 2", context_id=made).stdout == "1 5 /usr\nf2\n"
    wrong = box.run("echo a\nif then\nfi", context_id=made)
    assert wrong.error.name == "SyntaxError" and "line 2" in wrong.error.traceback
    assert (
        box.run("echo 'it''s' \"$x\" \\\n more; cat; read y; echo \"<$y>\"", context_id=made).stdout
        == "its 5 more\n<>\n"
    )
    assert box.run("a\0b", context_id=made).error.name == "SyntaxError"
    left = box.run("exit 4", context_id=made)
    assert left.end.status == "context_ended" and "status 4" in left.error.message
    box.ask("DELETE", f"/v1/contexts/{made}")


@pytest.mark.parametrize(
    "code", ["echo on; while :; do :; done", "echo on; sleep 1000; echo after", "f() { echo on; sleep 1000; f; }; f"]
)
def test_bash_is_interrupted(box: Guest, code: str) -> None:
    box.run("kept=5", language="bash")
    stream = begun(box, code, language="bash")
    assert box.ask("POST", f"/v1/executions/{stream.told.of(Accepted)[0].execution_id}/interrupt")[0] == 204
    told = stream.finish()
    assert told.end.status == "interrupted" and "after" not in told.stdout
    assert box.run("echo $kept", language="bash").stdout == "5\n"


needs_node = pytest.mark.skipif(not has("node"), reason="no node in /usr/bin")


@needs_node
def test_javascript(box: Guest) -> None:
    made = box.create("javascript")

    def run(code: str) -> object:
        return box.run(code, context_id=made)

    assert box.run("const x = 20; let y = 1; x + y", context_id=made).value == "21"
    assert box.run("const x = 30; class A {}; [x, y, {a: 'b'}]", context_id=made).value == "[ 30, 1, { a: 'b' } ]"
    told = box.run("console.log('a'); console.error('b'); console.log('c', {d: 1}); await null; 42", context_id=made)
    assert (told.stdout, told.stderr, told.value) == ("a\nc { d: 1 }\n", "b\n", "42")
    assert box.run("await new Promise(done => setTimeout(() => done('late'), 5))", context_id=made).value == "'late'"
    assert box.run("require('path').join('a', 'b')", context_id=made).value == "'a/b'"
    thrown = box.run("function f() {\n  return nosuch;\n}\nf()", context_id=made).error
    assert thrown.name == "ReferenceError" and "cell_6:2" in thrown.traceback and "cloche" not in thrown.traceback
    assert "let q = ;" in box.run("1;\nlet q = ;", context_id=made).error.traceback
    assert box.run("throw 5", context_id=made).error.message == "5"
    assert box.run("await Promise.reject(new TypeError('t'))", context_id=made).error.name == "TypeError"
    told = box.run(
        "console.log = null; JSON.stringify = null; process.stdout.write = null; Buffer.concat = null; globalThis.console = null; 7",  # noqa: E501
        context_id=made,
    )
    assert told.value == "7"
    assert "status 3" in box.run("process.exit(3)", context_id=made).error.message
    box.ask("DELETE", f"/v1/contexts/{made}")


@needs_node
@pytest.mark.parametrize(
    "code", ["console.log('on'); while (true) {}", "console.log('on'); await new Promise(() => {})"]
)
def test_javascript_is_interrupted(box: Guest, code: str) -> None:
    box.run("var kept = 5", language="javascript")
    stream = begun(box, code, language="javascript")
    assert box.ask("POST", f"/v1/executions/{stream.told.of(Accepted)[0].execution_id}/interrupt")[0] == 204
    assert stream.finish().end.status == "interrupted"
    assert box.run("kept", language="javascript").value == "5"


@needs_node
def test_javascript_says_much(box: Guest) -> None:
    told = box.run(
        "for (let i = 0; i < 20000; i++) console.log('x'.repeat(99)); 0", context_id=box.create("javascript")
    )
    assert len(told.stdout) == 2_000_000
    assert json.dumps(told.value) == '"0"'
    assert told.of(CodeError) == []
