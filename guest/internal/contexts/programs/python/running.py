"""One piece of code: compiled, run, ended."""

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
    except KeyboardInterrupt as error:
        if not task.done():
            place = suspended(coroutine, type(error.__traceback__))
            task.cancel()
            try:
                loop.run_until_complete(asyncio.wait([task], timeout=1))
            except Exception:
                pass
            if own_lines(error.__traceback__) is None:  # it came while the loop waited
                error.__traceback__ = place
        raise error


def suspended(coroutine, made):
    """The traceback of code that awaits, from the coroutine to the innermost one that it awaits."""
    frames = []
    while getattr(coroutine, "cr_frame", None) is not None and len(frames) < 100:
        frames.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    traceback = None
    for frame in reversed(frames):
        traceback = made(traceback, frame, frame.f_lasti, frame.f_lineno or 1)
    return traceback


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
    if _signal.getsignal(_signal.SIGURG) is not reseed:
        _signal.signal(_signal.SIGURG, reseed)


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
