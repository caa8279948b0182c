"""Runs inside the sandbox, in the user's interpreter: takes code through descriptor 3 and tells on descriptor 4 what it did.

Sent by the guest, never on the sandbox's disk. Works from Python 3.8 on without imports that cost time. What user code
redefines or closes must not reach in here, hence the private builtins and names; it can still break this process, and
with it no more than its own context."""

import _signal
import builtins
import io
import os
import sys
from _thread import allocate_lock, get_ident
from collections import deque

IN, OUT = 3, 4
PID = os.getpid()
MAIN = get_ident()
PIECE = 256 << 10
HELD = 32 << 10
MOST = 16 << 20
KEPT_SOURCE = 32 << 20
SPAWNING = frozenset(("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec"))
read, write, writev, getpid, leave = os.read, os.write, os.writev, os.getpid, os._exit
compiled, run, evaluated = compile, exec, eval
main_module = sys.modules["__main__"]
space = main_module.__dict__


class State:
    running = False  # user code runs: SIGINT is for it
    shield = 0  # a frame is being written: SIGINT waits
    pending = False
    owed = 0  # the execution whose end has not been told
    owner = 0  # the thread that writes
    unsynced = False
    async_task = None


state = State()
turn = allocate_lock()
listening = allocate_lock()
later = deque()
inbox = bytearray()


# --- frames


def frame(kind, payload):
    return kind + len(payload).to_bytes(4, "big") + payload


def fields(parts):
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def raw(text):
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def put(data):
    try:
        sent = write(OUT, data)
        while sent < len(data):
            data = memoryview(data)[sent:]
            sent = write(OUT, data)
    except OSError:
        leave(70)  # nobody listens: the context has ended


def send(data):
    """Write whole frames. What comes from inside a write (a finalizer, a signal handler) follows it."""
    me = get_ident()
    if state.owner == me:
        later.append(data)
        return
    shielded = me == MAIN
    if shielded:
        state.shield += 1
    turn.acquire()
    state.owner = me
    try:
        put(data)
        while later:
            put(later.popleft())
    finally:
        state.owner = 0
        turn.release()
        if shielded:
            state.shield -= 1


def release():
    """Raise the interrupt that came while it could not."""
    if state.pending and not state.shield and state.running and get_ident() == MAIN:
        state.pending = False
        raise KeyboardInterrupt


def on_interrupt(number, frame):
    if not state.running:
        send(b"i\0\0\0\0")  # too early or too late: only the guest knows which
        return
    if state.shield:
        state.pending = True
        return
    raise KeyboardInterrupt


def receive():
    """One message of the guest: its kind and payload."""
    while True:
        if len(inbox) >= 5:
            end = 5 + int.from_bytes(inbox[1:5], "big")
            if len(inbox) >= end:
                kind, payload = inbox[0], bytes(inbox[5:end])
                del inbox[:end]
                return kind, payload
        try:
            data = read(IN, 1 << 18)
        except MemoryError:
            data = read(IN, 4096)
        if not data:
            leave(0)
        inbox.extend(data)


def synchronize():
    """Wait until the guest has told all frames: what a child writes to its plain descriptors comes after them."""
    if not state.unsynced or getpid() != PID or get_ident() != MAIN:
        return
    state.shield += 1
    try:
        out.flush()
        if state.unsynced:
            state.unsynced = False
            send(b"s\0\0\0\0")
            while receive()[0] != 65:
                pass
    finally:
        state.shield -= 1
    release()


def on_audit(event, arguments):
    if event in SPAWNING and state.running:
        synchronize()


# --- streams


class Bytes(io.RawIOBase):
    """What `sys.stdout.buffer` is."""

    def __init__(self, text):
        self.text = text

    def writable(self):
        return True

    def fileno(self):
        return self.text.fileno()

    def write(self, data):
        data = bytes(data)
        self.text.flush()
        self.text.emit(data)
        return len(data)


class Text(io.TextIOBase):
    """A standard stream that tells frames in the order in which they are written."""

    encoding = "utf-8"
    errors = "surrogateescape"
    newlines = None
    line_buffering = True
    write_through = False
    mode = "w"

    def __init__(self, name, kind, number, first):
        self.name = name
        self.buffer = Bytes(self)
        self._kind = kind
        self._number = number
        self._first = first  # the stream that has to be told before this one
        self._held = deque()
        self._size = 0
        self._closed = False

    def __repr__(self):
        return "<cloche stream %s>" % self.name

    def writable(self):
        return True

    def isatty(self):
        return False

    def fileno(self):
        return self._number

    def reconfigure(self, **settings):
        pass

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        if self._closed:
            raise ValueError("I/O operation on closed file.")
        self._held.append(text)
        self._size += len(text)
        if "\n" in text or self._size > HELD or self._first is not None:
            self.flush()
        return len(text)

    def close(self):
        self.flush()
        self._closed = True

    @property
    def closed(self):
        return self._closed

    def flush(self):
        held = self._held
        if not held:
            return
        shielded = get_ident() == MAIN
        if shielded:
            state.shield += 1
        try:
            parts = []
            try:
                while True:  # one by one: another thread may flush too
                    parts.append(held.popleft())
            except IndexError:
                pass
            self._size = 0
            self.emit(raw("".join(parts)))
        finally:
            if shielded:
                state.shield -= 1
        if state.pending:
            release()

    def emit(self, data):
        if getpid() != PID:
            while data:
                data = data[write(self._number, data) :]
            return
        if self._first is not None:
            self._first.flush()
        state.unsynced = True
        if len(data) <= PIECE:
            send(self._kind + len(data).to_bytes(4, "big") + data)
            return
        for start in range(0, len(data), PIECE):
            send(frame(self._kind, data[start : start + PIECE]))


def make_streams():
    global out, err
    out = Text("<stdout>", b"o", 1, None)
    err = Text("<stderr>", b"e", 2, out)


def mend_streams():
    """Before each execution: the streams must be there. Those that the code put in their place stay."""
    if out.closed or err.closed:
        broken = (out, err)
        make_streams()
        for name, stream in (("stdout", out), ("stderr", err)):
            if getattr(sys, name, None) in broken:
                setattr(sys, name, stream)
    for name, stream in (("stdout", out), ("stderr", err)):
        if getattr(sys, name, None) is None:
            setattr(sys, name, stream)
    if getattr(sys, "stdin", None) is None or getattr(sys.stdin, "closed", False):
        sys.stdin = open(os.devnull)


# --- results

IMAGES = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8"}
METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
PLAIN = frozenset((int, str, float, bool, bytes, list, dict, tuple, set, complex, frozenset, type(None)))

WRONG = (Exception, SystemExit)  # what a method that shows a value may raise without an effect


def plain(value):
    try:
        text = repr(value)
        return text if type(text) is str else str.__str__(text)
    except WRONG as error:
        return "<%s object: its repr raised %s>" % (name_of(type(value)), describe(error))


def name_of(kind):
    try:
        return str(type.__dict__["__name__"].__get__(kind))
    except Exception:
        return "?"


def describe(error):
    try:
        return "%s: %s" % (name_of(type(error)), error)
    except Exception:
        return name_of(type(error))


def method_of(value, name):
    """Looked up on the class, so that objects that answer to every name (mocks, proxies) do not."""
    for kind in type.__dict__["__mro__"].__get__(type(value)):
        if name in type.__dict__["__dict__"].__get__(kind):
            return getattr(value, name)
    return None


def bundle(value):
    """What a value looks like: a dict of MIME types, and one of metadata."""
    kind = type(value)
    if kind in PLAIN:
        return {"text/plain": plain(value)}, {}
    data, metadata = {}, {}
    figure = figure_png(value)
    if figure:
        data["image/png"] = figure
    try:
        method = method_of(value, "_repr_mimebundle_")
        if method is not None:
            found = method(include=None, exclude=None)
            if isinstance(found, tuple) and len(found) == 2:
                found, metadata = found
            if isinstance(found, dict):
                data.update(found)
    except WRONG:
        pass
    for mime, name in METHODS:
        if mime not in data:
            try:
                method = method_of(value, name)
                found = method() if method is not None else None
                if isinstance(found, tuple) and len(found) == 2:
                    found, metadata[mime] = found
            except WRONG:
                continue
            if found is not None:
                data[mime] = found
    if "text/plain" not in data:
        data["text/plain"] = plain(value)
    return data, metadata


def encoded(mime, value):
    """The bytes of one representation; None when it is not what its type says."""
    if mime.endswith("json"):
        import json

        return json.dumps(value, allow_nan=False).encode()
    if isinstance(value, (bytes, bytearray)):
        if not mime.startswith("image/") or mime == "image/svg+xml":
            return bytes(value)
        import binascii

        return binascii.b2a_base64(value, newline=False)
    return raw(value) if isinstance(value, str) else None


def result(kind, data, metadata):
    parts, left_out = [], []
    for mime, value in list(data.items())[:64]:
        try:
            body = encoded(mime, value) if isinstance(mime, str) else None
        except WRONG:
            body = None
        if body is None:
            continue
        parts.append((raw(mime), body))
    while sum([len(body) for _, body in parts]) > MOST:
        largest = max(parts, key=lambda part: len(part[1]))
        parts.remove(largest)
        left_out.append(largest[0])
    told = b"{}"
    if metadata:
        try:
            told = encoded("json", metadata)
        except WRONG:
            pass
    flat = [told, b"\n".join(left_out)]
    for mime, body in parts:
        flat += (mime, body)
    return frame(kind, fields(flat))


def display(*values, include=None, exclude=None, metadata=None, transient=None, display_id=None, raw=False, clear=False, **rest):
    """Show values: as rich as they know to be. With raw=True a value is a dict of MIME types itself."""
    for value in values:
        if raw and isinstance(value, dict):
            show(b"d", value, metadata or {})
        elif not shows_itself(value):
            data, found = bundle(value)
            show(b"d", data, metadata or found)


def shows_itself(value):
    if type(value) in PLAIN:
        return False
    try:
        method = method_of(value, "_ipython_display_")
        if method is None:
            return False
        method()
        return True
    except WRONG:
        return False


def show(kind, data, metadata):
    encoded_result = result(kind, data, metadata)
    out.flush()
    if getpid() != PID:
        write(1, raw(str(data.get("text/plain", ""))) + b"\n")
        return
    state.unsynced = True
    send(encoded_result)
    release()


def show_value(value):
    """The last expression of the code: shown, and kept as `_`, `__`, `___`."""
    if value is None:
        return
    names = builtins.__dict__
    if names.get("_") is not value:
        names["___"], names["__"], names["_"] = names.get("__", ""), names.get("_", ""), value
    if not shows_itself(value):
        show(b"v", *bundle(value))


# --- matplotlib: what pyplot holds is shown, nothing is imported that the code did not import


def figure_png(value):
    figure = sys.modules.get("matplotlib.figure")
    kind = getattr(figure, "Figure", None)
    if not isinstance(kind, type) or not isinstance(value, kind):
        return None
    try:
        shown = io.BytesIO()
        value.savefig(shown, format="png", bbox_inches="tight")
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            pyplot.close(value)
        return shown.getvalue()
    except Exception:
        return None


def show_figures(*arguments, **settings):
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        display(figure)
        pyplot.close(figure)


def adapt_pyplot(module):
    try:
        if module.get_backend().lower() == "agg":
            module.show = show_figures
    except Exception:
        pass


def no_getpass(prompt="Password: ", stream=None, **rest):
    no_input(prompt)


def adapt_getpass(module):
    module.getpass = no_getpass


def no_input(prompt="", *rest):
    """Replaces input()."""
    raise EOFError("input() is not available here: code in a context has no keyboard. Put the value into the code.")


ADAPTED = {"matplotlib.pyplot": adapt_pyplot, "getpass": adapt_getpass}


class Watcher:
    """Sees a module being imported for the first time, and adapts it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in ADAPTED:
            return None
        for finder in sys.meta_path:
            if finder is Watcher or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                wrap(spec.loader, ADAPTED[name])
                return spec
        return None


def wrap(loader, adapt):
    original = loader.exec_module

    def exec_module(module):
        original(module)
        adapt(module)

    try:
        loader.exec_module = exec_module
    except AttributeError:
        pass


# --- running code

sources = {}
sources_size = 0


def remember(filename, source):
    """Tracebacks and inspect find the source of what ran."""
    global sources_size
    if "linecache" not in sys.modules:
        return
    lines = source.splitlines(True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    cache = sys.modules["linecache"].cache
    cache[filename] = (len(source), None, lines, filename)
    sources[filename] = len(source)
    sources_size += len(source)
    while sources_size > KEPT_SOURCE and len(sources) > 1:
        oldest = next(iter(sources))
        sources_size -= sources.pop(oldest)
        cache.pop(oldest, None)


def parts_of(source, filename):
    """The code objects of all but the last expression, and of that."""
    import _ast

    if "\0" in source:
        raise SyntaxError("source code cannot contain null bytes")
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise SyntaxError("the code is not UTF-8: byte %d" % error.start) from None
    tree = compiled(source, filename, "exec", 0x2400, True)  # only the tree, top-level await allowed
    last = None
    if tree.body and isinstance(tree.body[-1], _ast.Expr) and not source.rstrip().endswith(";"):
        last = _ast.Expression(tree.body.pop().value)
    before = compiled(tree, filename, "exec", 0x2000, True) if tree.body else None
    return before, compiled(last, filename, "eval", 0x2000, True) if last else None


def perform(code):
    value = evaluated(code, space)
    if code.co_flags & 0x80:  # CO_COROUTINE: it awaits at its top level
        return awaited(value)
    return value


def awaited(coroutine):
    import asyncio

    global loop
    if loop is None or loop.is_closed():
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except KeyboardInterrupt:
        if not task.done():
            task.cancel()
            try:
                loop.run_until_complete(asyncio.wait([task], timeout=1))
            except Exception:
                pass
        raise


loop = None


def execute(source, filename):
    before, last = parts_of(source, filename)
    if before is not None:
        perform(before)
    if last is not None:
        show_value(perform(last))


def guarded(function, *arguments):
    """Call what may run user code, with interrupts; the exception that ended it, or None."""
    try:
        try:
            state.running = True
            function(*arguments)
        finally:
            state.running = False
    except BaseException as error:
        state.running = False
        return error
    return None


def cell(number, payload):
    state.owed, state.pending = number, False
    filename = "<cell %d>" % number
    source = payload.decode("utf-8", "surrogateescape")
    mend_streams()
    remember(filename, source)
    error = guarded(execute, source, filename)
    if getpid() != PID:
        end_child(error)
    after_cell()
    frames = b""
    if error is not None:
        frames = problem(error)
        if getpid() != PID:
            leave(1)
    figures = guarded(show_figures)
    if figures is not None and not frames:
        error, frames = figures, problem(figures)
    for stream in (out, err):
        stream.flush()
    end(number, status_of(error), frames)


def status_of(error):
    if error is None:
        return b"ok"
    return b"interrupted" if isinstance(error, KeyboardInterrupt) else b"error"


def end(number, status, frames=b""):
    state.pending = False
    state.owed = 0
    send(frames + frame(b"D", b"%d %s" % (number, status)))


def after_cell():
    """Takes back what would run inside this program."""
    sys.settrace(None)
    sys.setprofile(None)
    if sys.getrecursionlimit() < 500:
        sys.setrecursionlimit(1000)
    if _signal.getsignal(_signal.SIGINT) is not on_interrupt:
        _signal.signal(_signal.SIGINT, on_interrupt)


def end_child(error):
    """A process that the code forked has come to the end of the code: it says so to nobody."""
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            code = 1
            write(2, raw(format_error(error)))
        for stream in (out, err):
            stream.flush()
    finally:
        leave(code & 255)


# --- errors


def message_of(error):
    try:
        if isinstance(error, SystemExit) and error.code is None:
            return ""
        return str(error)
    except Exception as other:
        return "<its message cannot be made: %s>" % name_of(type(other))


def own_part(traceback):
    """The traceback from the code's first line on, without what belongs to this program."""
    start = traceback
    while start is not None and not start.tb_frame.f_code.co_filename.startswith("<cell "):
        start = start.tb_next
    if start is None:
        start = traceback
        while start is not None and start.tb_frame.f_code.co_filename == "<cloche>":
            start = start.tb_next
    part = start
    while part is not None:
        while part.tb_next is not None and part.tb_next.tb_frame.f_code.co_filename == "<cloche>":
            part.tb_next = part.tb_next.tb_next
        part = part.tb_next
    return start


def trim(error):
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = own_part(error.__traceback__)
        error = error.__cause__ or error.__context__


def format_error(error):
    try:
        trim(error)
        return "".join(tracing.format_exception(type(error), error, error.__traceback__))
    except BaseException:
        return "%s: %s\n(its traceback cannot be made)\n" % (name_of(type(error)), message_of(error))


def problem(error):
    """The frame of an exception. Making it runs its own methods, which may raise, loop or print."""
    made = []

    def make():
        made.append(name_of(type(error)))
        made.append(message_of(error))
        made.append(format_error(error))

    guarded(make)
    made += [""] * (3 - len(made))
    limits = (1 << 10, 1 << 20, 2 << 20)
    return frame(b"x", fields([clipped(raw(text), most) for text, most in zip(made, limits)]))


def clipped(data, most):
    return data if len(data) <= most else data[: most // 2] + b" ... " + data[-most // 2 :]


# --- life


def change_env(payload):
    for entry in payload.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            os.environ[os.fsdecode(name)] = os.fsdecode(value)
        else:
            os.environ.pop(os.fsdecode(name), None)


def change_dir(payload):
    try:
        os.chdir(payload)
    except OSError:
        pass


def handle(kind, payload):
    if kind == 67:
        cell(int.from_bytes(payload[:4], "big"), payload[4:])
    elif kind == 69:
        change_env(payload)
    elif kind == 87:
        change_dir(payload)


def in_child():
    """After a fork: what this process says goes to the plain descriptors."""
    global turn
    turn = allocate_lock()
    state.owner = state.shield = 0
    later.clear()
    for number in (IN, OUT):
        try:
            os.close(number)
        except OSError:
            pass


def prepare():
    make_streams()
    sys.stdout = sys.__stdout__ = out
    sys.stderr = sys.__stderr__ = err
    sys.argv[:] = [""]
    space.pop("__annotations__", None)
    for number in (IN, OUT):
        os.set_inheritable(number, False)
    _signal.signal(_signal.SIGINT, on_interrupt)
    os.register_at_fork(before=out.flush, after_in_child=in_child)
    sys.addaudithook(on_audit)
    sys.meta_path.insert(0, Watcher)
    builtins.input = no_input
    builtins.display = display
    display.__module__ = no_input.__module__ = "builtins"


def warm_up():
    """Errors need these; importing them now, while nobody waits, costs no execution anything."""
    global tracing
    try:
        import linecache
        import traceback as tracing
    except Exception:
        pass


tracing = None


def main():
    prepare()
    send(frame(b"R", b"%d.%d.%d" % sys.version_info[:3]))
    warm_up()
    while True:
        try:
            handle(*receive())
        except BaseException as error:  # whatever the code left behind, the next must find an interpreter
            state.running = False
            if getpid() != PID:
                leave(1)
            if state.owed:
                end(state.owed, status_of(error), problem(error))


if sys.version_info < (3, 8):
    leave(71)
main()
