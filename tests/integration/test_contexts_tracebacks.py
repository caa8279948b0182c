"""What a user sees of an error begins and ends in the user's own code, in every version of Python and in JavaScript."""
# ruff: noqa: E501  (code of other languages, as it stands)

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloche.model.code import Accepted, CodeOutput
from tests.integration.guest_harness import BINARY, Guest, guest, has

pytestmark = [
    pytest.mark.skipif(not BINARY.exists(), reason="the guest is not built"),
    pytest.mark.skipif(not has("python3"), reason="no python3 in /usr/bin"),
]
needs_node = pytest.mark.skipif(not has("node"), reason="no node in /usr/bin")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with guest(tmp_path_factory.mktemp("guest")) as served:
        yield served


RAISING = {
    "input": "input('who? ')",
    "getpass": "import getpass\ngetpass.getpass()",
    "a value that is shown": "class V:\n    def __repr__(self): raise SystemError('no')\ndisplay(V())\n1/0",
    "an import": "import json.nosuch",
    "a write": "import sys\nsys.stdout.write(5)",
    "a closed stream": "import sys\nsys.stdout.close()\nprint('x')",
    "a cause": "try:\n    input()\nexcept EOFError as error:\n    raise ValueError('wrong') from error",
    "a context": "try:\n    input()\nexcept EOFError:\n    raise ValueError('wrong')",
    "a cause with a context of its own": "try:\n    try:\n        input()\n    except EOFError:\n        raise KeyError('k')\n"
    "except KeyError as error:\n    caught = error\ntry:\n    input()\nexcept EOFError:\n    raise ValueError from caught",
    "a group": "caught = []\nfor _ in 'ab':\n    try:\n        input()\n    except EOFError as error:\n        caught.append(error)\n"
    "raise getattr(__builtins__, 'ExceptionGroup', lambda text, all: all[0])('both', caught)",
    "an await": "import asyncio\nasync def f(): input()\nawait f()",
    "a task": "import asyncio\nasync def f(): input()\nawait asyncio.gather(f(), asyncio.sleep(0))",
    "a child": "import subprocess\nsubprocess.run(['nosuch'])",
    "a hook": "import sys\nsys.addaudithook(lambda name, args: 1/0 if name == 'subprocess.Popen' else None)\n"
    "import subprocess\nsubprocess.run(['true'])",
}


@pytest.mark.parametrize("what", RAISING)
def test_no_line_of_the_program_is_in_a_traceback_of(box: Guest, what: str) -> None:
    made = box.create()
    told = box.run(RAISING[what], context_id=made)
    assert told.end.status == "error"
    assert 'File "<cell 1>", line ' in told.error.traceback
    assert "cloche" not in told.error.traceback + told.stderr
    box.ask("DELETE", f"/v1/contexts/{made}")


INTERRUPTED = {
    "a loop": "print('on')\nwhile True: pass",
    "a call": "import time\nprint('on')\ntime.sleep(1000)",
    "a write": "import sys\nwhile True: print('on')",
    "a flush": "import sys\nwhile True: print('on', flush=True)",
    "an await": "import asyncio\nprint('on')\nawait asyncio.sleep(1000)",
    "a loop after an await": "import asyncio\nawait asyncio.sleep(0)\nprint('on')\nwhile True: pass",
    "a value that is shown": "class V:\n    def __repr__(self):\n        print('on')\n        while True: pass\nV()",
    "a program": "import subprocess\nprint('on')\nsubprocess.run(['sleep', '1000'])",
    "an except clause": "try:\n    1/0\nexcept ZeroDivisionError:\n    print('on')\n    while True: pass",
}


@pytest.mark.parametrize("what", INTERRUPTED)
def test_no_line_of_the_program_is_in_a_traceback_of_an_interrupt_in(box: Guest, what: str) -> None:
    made = box.create()
    stream = box.stream(INTERRUPTED[what], context_id=made)
    stream.until(CodeOutput)
    box.ask("POST", f"/v1/executions/{stream.told.of(Accepted)[0].execution_id}/interrupt")
    told = stream.finish()
    assert (told.end.status, told.error.name) == ("interrupted", "KeyboardInterrupt")
    assert 'File "<cell 1>", line ' in told.error.traceback
    assert "cloche" not in told.error.traceback + told.stderr
    box.ask("DELETE", f"/v1/contexts/{made}")


JAVASCRIPT = {
    "a call": "function f() { return nosuch }\nf()",
    "a throw": "throw new TypeError('no')",
    "an await": "async function f() { await null; nosuch }\nawait f()",
    "a callback": "[1].map(() => nosuch)",
    "a value that is shown": "console.log({ [Symbol.for('nodejs.util.inspect.custom')]() { nosuch } })",
    "a display": "function f() { display({ get toHtml() { throw new Error('no') } }); g() }\nfunction g() { nosuch }\nf()",
    "a getter in a display": "display({ get 'text/html'() { nosuch } }, { get raw() { nosuch } })",
    "a syntax": "let x = ;",
    "an async callback": "await new Promise(() => setTimeout(() => nosuch, 1))",
    "a rejection": "Promise.reject(new Error('no')); await new Promise(() => {})",
}


@needs_node
@pytest.mark.parametrize("what", JAVASCRIPT)
def test_no_line_of_the_program_is_in_a_javascript_traceback_of(box: Guest, what: str) -> None:
    made = box.create("javascript")
    stream = box.stream(JAVASCRIPT[what], context_id=made)
    if "new Promise(() =>" in JAVASCRIPT[what]:
        stream.until(CodeOutput)
        box.ask("POST", f"/v1/contexts/{made}/interrupt")
    told = stream.finish()
    said = told.error.traceback + told.stderr
    assert "cell_1" in said
    assert "cloche" not in said
    box.ask("DELETE", f"/v1/contexts/{made}")


@pytest.mark.parametrize("warnings", ["error", "always"])
def test_the_program_itself_is_never_warned_of(box: Guest, warnings: str) -> None:
    made = box.create(env={"PYTHONWARNINGS": warnings, "PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "0"})
    for code in (
        "1 + 1",
        "import asyncio\nawait asyncio.sleep(0)",
        "import os, sys\nchild = os.fork()\nif child == 0: os._exit(0)\nos.waitpid(child, 0); None",
        "import subprocess\nsubprocess.run(['true']); None",
        "display({1: 2})\nclass V:\n    def _repr_html_(self): return '<b>'\nV()",
        "import sys\nsys.stdin.close()",
        "print('x')",
    ):
        told = box.run(code, context_id=made)
        assert (told.end.status, told.stderr) == ("ok", ""), code
    box.ask("DELETE", f"/v1/contexts/{made}")
