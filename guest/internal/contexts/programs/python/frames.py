"""Frames: how this program speaks with the guest, and when an interrupt may come through."""


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
