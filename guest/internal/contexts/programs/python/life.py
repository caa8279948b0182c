"""From the start of the interpreter to its end."""


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
    _signal.signal(_signal.SIGURG, reseed)
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
