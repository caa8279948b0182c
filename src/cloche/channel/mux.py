"""Many streams over one pipe, without I/O: bytes in and events out, commands in and bytes out.

Either end can be had, so that two of them can be tested against each other. The other end may be hostile: whatever it
says, memory stays bounded (streams, unread bytes, answers that it does not take), and what breaks the rules ends the
epoch with a `MuxError` that says how.
"""

from __future__ import annotations

from cloche.channel import mux_frames as wire
from cloche.channel.mux_frames import (
    Began,
    Bytes,
    Data,
    Ended,
    Event,
    Finished,
    MuxError,
    Opened,
    Outgoing,
    Pong,
    Reset,
    Writable,
)

#: `send` takes nothing while more than this waits for the pipe
MAX_QUEUED_BYTES = 128 << 10
#: an end that makes us answer and does not take the answers
MAX_UNTAKEN_BYTES = 1 << 20
_DATA_WORD = wire.DATA << 24


class _Stream:
    __slots__ = ("consumed", "may_come", "may_go", "over_here", "over_there", "window")

    def __init__(self, window: int, may_go: int) -> None:
        self.window = self.may_come = window
        self.may_go = may_go
        self.consumed = 0
        self.over_here = self.over_there = False


class Mux:
    """One end. `Mux.host` begins to speak at once, `Mux.guest` waits for a host; either lives for many calls."""

    def __init__(self, *, is_host: bool, epoch: bytes) -> None:
        self.established = False
        self.error: MuxError | None = None
        self._is_host, self._epoch, self._tag = is_host, epoch, 0
        self._held = bytearray()
        self._out = Outgoing()
        self._next_id, self._their_last = 0, 0
        self._forget_streams()

    @classmethod
    def host(cls, epoch: bytes) -> Mux:
        """`epoch`: 16 bytes that nobody can guess. One object is one epoch."""
        if len(epoch) != wire.EPOCH_BYTES or 0 in epoch[: wire.TAG_BYTES]:
            raise ValueError("an epoch is 16 bytes, the first four of them not zero")
        made = cls(is_host=True, epoch=epoch)
        made._out.put(bytes(wire.HELLO_ZEROS))
        made._out.put(wire.HELLO + epoch)
        return made

    @classmethod
    def guest(cls) -> Mux:
        """Begins anew at each hello."""
        return cls(is_host=False, epoch=b"")

    # commands

    @property
    def waiting(self) -> int:
        """Bytes that wait for the pipe."""
        return self._out.waiting

    @property
    def has_room(self) -> bool:
        return self._out.waiting < MAX_QUEUED_BYTES

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def outgoing(self) -> list[Bytes]:
        """What to write next, in pieces. Say with `sent` how much of it went."""
        return self._out.pieces()

    def sent(self, count: int) -> None:
        self._out.sent(count)

    def take(self) -> bytes:
        """Everything that waits, as sent."""
        taken = bytearray()
        while pieces := self._out.pieces():
            part = b"".join(pieces)
            self._out.sent(len(part))
            taken += part
        return bytes(taken)

    def open(self, window: int = wire.WINDOW_BYTES) -> int:
        """The new stream. Raises MuxError without an epoch, and when no stream or no id is left."""
        if not self.established:
            raise self.error or MuxError("there is no epoch")
        if self._own_open >= wire.MAX_STREAMS or self._next_id > wire.MAX_STREAM:
            raise MuxError("no stream is left")
        stream, self._next_id = self._next_id, self._next_id + 2
        self._own_open += 1
        self._streams[stream] = _Stream(window, wire.WINDOW_BYTES)
        self._frame(wire.OPEN, stream, window)
        return stream

    def send(self, stream: int, data: bytes | memoryview) -> int:
        """How many of these bytes are taken, which must not change: what window and queue allow, perhaps none.

        Raises MuxError when the stream is not open for sending."""
        state = self._streams.get(stream)
        if state is None or state.over_here:
            raise MuxError(f"stream {stream} is not open for sending")
        at, end = 0, min(len(data), state.may_go)
        while at < end and self.has_room:
            size = min(end - at, wire.MAX_PAYLOAD_BYTES)
            self._out.put(wire.header(wire.DATA, stream, size, self._tag))
            self._out.put(data if size == len(data) else memoryview(data)[at : at + size])
            self._out.put(self._epoch[: wire.TAG_BYTES])
            at += size
        state.may_go -= at
        return at

    def consumed(self, stream: int, count: int) -> None:
        """So many bytes that came have been read; credit goes back when it is half a window."""
        state = self._streams.get(stream)
        if state is None or state.over_there:
            return
        state.consumed += count
        if state.consumed * 2 >= state.window:
            state.may_come += state.consumed
            self._frame(wire.WINDOW, stream, state.consumed)
            state.consumed = 0

    def finish(self, stream: int) -> None:
        """Nothing more is sent on this stream. May be said twice."""
        state = self._streams.get(stream)
        if state is None or state.over_here:
            return
        state.over_here = True
        self._frame(wire.FIN, stream, 0)
        self._forget_if_over(stream, state)

    def close(self, stream: int) -> None:
        """Give the stream up in both directions; what `send` took before still arrives."""
        self.finish(stream)
        self.reset(stream, wire.CANCELLED)

    def reset(self, stream: int, reason: int) -> None:
        if stream in self._streams:
            self._forget(stream)
            self._frame(wire.RESET, stream, reason)

    def ping(self, value: int) -> None:
        self._frame(wire.PING, 0, value)

    # what comes

    def receive(self, data: Bytes) -> list[Event]:
        """What these bytes mean, in order. Raises nothing; a host that has seen `Ended` hears nothing more."""
        events: list[Event] = []
        view = memoryview(data)
        while view and not (self._is_host and self.error):
            view = self._frames(view, events) if self.established else self._greeting(view, events)
        return events

    def _greeting(self, view: memoryview, events: list[Event]) -> memoryview:
        """Look for the beginning of an epoch. The rest of the bytes."""
        self._held += view
        wanted = wire.ANSWER + self._epoch if self._is_host else wire.HELLO
        length = len(wire.HELLO) + wire.EPOCH_BYTES
        at = self._held.find(wanted)
        if at < 0:
            del self._held[: -len(wanted) + 1]
        elif len(self._held) < at + length:
            del self._held[:at]
        else:
            found, rest = bytes(self._held[at : at + length]), bytes(self._held[at + length :])
            self._begin(found[-wire.EPOCH_BYTES :])
            events.append(Began())
            return memoryview(rest)
        return memoryview(b"")

    def _begin(self, epoch: bytes) -> None:
        self._held = bytearray()
        self.established, self.error = True, None
        self._epoch, self._tag = epoch, int.from_bytes(epoch[: wire.TAG_BYTES], "big")
        if not self._is_host:
            self._forget_streams()
            self._out.clear()
            self._out.put(wire.ANSWER + epoch)

    def _forget_streams(self) -> None:
        self._streams: dict[int, _Stream] = {}
        self._own_open = self._their_open = 0
        self._next_id, self._their_last = (1, 0) if self._is_host else (2, -1)

    def _frames(self, view: memoryview, events: list[Event]) -> memoryview:
        """Every whole frame; the last one may have to wait for its end. What is left when the epoch breaks."""
        if self._held:
            view, whole = self._completed(view)
            if whole is None:
                return view
            used = self._parse(whole, events)
            if not self.established:
                return self._rescan(whole[used:], view, events)
        used = self._parse(view, events)
        if not self.established:
            return view[used:]
        self._held += view[used:]
        return view[len(view) :]

    def _rescan(self, left: memoryview, view: memoryview, events: list[Event]) -> memoryview:
        if len(left) and not self._is_host:
            self._greeting(left, events)  # less than a greeting: it only holds it
        return view

    def _completed(self, view: memoryview) -> tuple[memoryview, memoryview | None]:
        """Add to the frame that is held. The rest, and the frame when it is whole (or wrong already)."""
        view = self._add(view, wire.HEADER_BYTES)
        if len(self._held) >= wire.HEADER_BYTES:
            word, _, size, tag = wire.read_header(self._held, 0)
            if word == _DATA_WORD and tag == self._tag and 0 < size <= wire.MAX_PAYLOAD_BYTES:
                total = wire.HEADER_BYTES + size + wire.TAG_BYTES
                view = self._add(view, total)
                if len(self._held) < total:
                    return view, None
            whole, self._held = memoryview(self._held), bytearray()
            return view, whole
        return view, None

    def _add(self, view: memoryview, up_to: int) -> memoryview:
        count = max(up_to - len(self._held), 0)
        self._held += view[:count]
        return view[count:]

    def _parse(self, view: memoryview, events: list[Event]) -> int:
        """Frames from the beginning of `view`: how many bytes are dealt with. When one is wrong, the epoch is over."""
        at, end = 0, len(view)
        while end - at >= wire.HEADER_BYTES:
            word, stream, value, tag = wire.read_header(view, at)
            start = at + wire.HEADER_BYTES
            try:
                self._check(word, value, tag)
                if word == _DATA_WORD:
                    after = start + value + wire.TAG_BYTES
                    if after > end:
                        return at
                    at = after  # nothing of a broken payload is looked at again
                    self._data(stream, view[start : start + value], view[after - wire.TAG_BYTES : after], events)
                    continue
                self._control(word >> 24, stream, value, events)
            except MuxError as error:
                self._break(error, events)
                return at
            at = start
        return at

    def _check(self, word: int, value: int, tag: int) -> None:
        if tag != self._tag or word & 0xFFFFFF:
            raise MuxError("no frame of this epoch")
        if word == _DATA_WORD and not 0 < value <= wire.MAX_PAYLOAD_BYTES:
            raise MuxError(f"a payload of {value} bytes")

    def _data(self, stream: int, payload: memoryview, tag: memoryview, events: list[Event]) -> None:
        if tag != self._epoch[: wire.TAG_BYTES]:
            raise MuxError("a payload that is not of one piece")
        state = self._state(stream)
        if state is None:
            return
        if state.over_there:
            raise MuxError(f"data after the end of stream {stream}")
        if len(payload) > state.may_come:
            raise MuxError(f"stream {stream} got more than its window")
        state.may_come -= len(payload)
        events.append(Data(stream, payload))

    def _control(self, kind: int, stream: int, value: int, events: list[Event]) -> None:
        if kind == wire.OPEN:
            self._opened(stream, value, events)
        elif kind in (wire.PING, wire.PONG):
            self._pinged(kind, stream, value, events)
        elif kind in (wire.WINDOW, wire.FIN, wire.RESET):
            state = self._state(stream)
            if state is not None:
                self._changed(kind, stream, state, value, events)
        else:
            raise MuxError(f"a frame of kind {kind}")

    def _state(self, stream: int) -> _Stream | None:
        """None when it was open once: what is still under way for it is dropped."""
        state = self._streams.get(stream)
        if state is None:
            own = stream % 2 == self._next_id % 2
            if stream == 0 or stream > (self._next_id - 2 if own else self._their_last):
                raise MuxError(f"stream {stream} was never open")
        return state

    def _opened(self, stream: int, window: int, events: list[Event]) -> None:
        if stream == 0 or stream % 2 == self._next_id % 2 or stream <= self._their_last:
            raise MuxError(f"stream {stream} cannot be opened by the other end")
        self._their_last = stream
        if self._their_open >= wire.MAX_STREAMS:
            self._answer(wire.RESET, stream, wire.REFUSED)
            return
        self._their_open += 1
        self._streams[stream] = _Stream(wire.WINDOW_BYTES, window)
        events.append(Opened(stream))

    def _pinged(self, kind: int, stream: int, value: int, events: list[Event]) -> None:
        if stream:
            raise MuxError("a ping on a stream")
        if kind == wire.PING:
            self._answer(wire.PONG, 0, value)
        else:
            events.append(Pong(value))

    def _changed(self, kind: int, stream: int, state: _Stream, value: int, events: list[Event]) -> None:
        if kind == wire.WINDOW:
            state.may_go += value
            if state.may_go > wire.MAX_WINDOW_BYTES:
                raise MuxError(f"stream {stream} has a window without measure")
            events.append(Writable(stream))
        elif kind == wire.RESET:
            self._forget(stream)
            events.append(Reset(stream, value))
        elif state.over_there:
            raise MuxError(f"stream {stream} ended twice")
        else:
            state.over_there = True
            self._forget_if_over(stream, state)
            events.append(Finished(stream))

    def _break(self, error: MuxError, events: list[Event]) -> None:
        self.established, self.error = False, error
        self._held = bytearray()
        self._forget_streams()
        self._out.clear()
        if not self._is_host:
            self._out.put(bytes(wire.HELLO_ZEROS))  # no frame, so the host learns that it has to begin anew
        events.append(Ended(error))

    def _forget_if_over(self, stream: int, state: _Stream) -> None:
        if state.over_here and state.over_there:
            self._forget(stream)

    def _forget(self, stream: int) -> None:
        del self._streams[stream]
        if stream % 2 == self._next_id % 2:
            self._own_open -= 1
        else:
            self._their_open -= 1

    def _answer(self, kind: int, stream: int, value: int) -> None:
        if self._out.waiting > MAX_UNTAKEN_BYTES:
            raise MuxError("the other end does not take the answers to what it asks")
        self._frame(kind, stream, value)

    def _frame(self, kind: int, stream: int, value: int) -> None:
        if self.established:
            self._out.put(wire.header(kind, stream, value, self._tag))
