"""What a guest says to the door, read strictly: the head of a connection, and the lines of the control stream."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

MAX_HEAD_BYTES = 4096
MAX_LINE_BYTES = 64 << 10
#: parked at once; `need` asks for no more
MAX_STREAMS = 256

_Id = Annotated[int, Meta(ge=0, le=2**53)]
_Name = Annotated[str, Meta(max_length=512)]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """First on a stream that the guest begins to use. `process`, `pid`: of the code, for people to read."""

    kind: Literal["connect", "proxy"]
    host: _Name = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    via: Literal["redirect", "socks", "proxy"] = "proxy"
    pid: Annotated[int, Meta(ge=0, le=2**31)] = 0
    process: _Name = ""


class Word(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag=str.lower):
    """`op` is the name of the class in lower case."""


class Need(Word, frozen=True, kw_only=True):
    """So many connections wait for a parked stream."""

    streams: Annotated[int, Meta(ge=0)]


class Resolve(Word, frozen=True, kw_only=True):
    id: _Id
    name: _Name


class Query(Word, frozen=True, kw_only=True):
    """`message`: a DNS query in base64."""

    id: _Id
    message: bytes


class Named(Word, frozen=True, kw_only=True):
    """The answer to `Name`; None: that address was given to no name."""

    id: _Id
    name: _Name | None = None


class Refused(Word, frozen=True, kw_only=True):
    """So many packets were refused in the sandbox itself since it was last told. `host` "*": to several."""

    host: _Name
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    protocol: Literal["udp", "icmp", "other"] = "other"
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    pid: Annotated[int, Meta(ge=0, le=2**31)] = 0
    process: _Name = ""


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a guest that is newer than this door."""

    op: _Name


class Resolved(Word, frozen=True, kw_only=True):
    id: int
    verdict: Literal["yes", "no", "fail"]


class Answer(Word, frozen=True, kw_only=True):
    id: int
    message: bytes


class Name(Word, frozen=True, kw_only=True):
    """To which name was this address given?"""

    id: int
    address: str


FromGuest = Need | Resolve | Query | Named | Refused
_OPERATIONS = frozenset({"need", "resolve", "query", "named", "refused"})

_T = TypeVar("_T")
_head: msgspec.json.Decoder[Head] = msgspec.json.Decoder(Head)
_from_guest: msgspec.json.Decoder[FromGuest] = msgspec.json.Decoder(FromGuest)
_unknown: msgspec.json.Decoder[Unknown] = msgspec.json.Decoder(Unknown)


def read_head(data: bytes) -> Head:
    """Raises msgspec.DecodeError."""
    head = _decoded(_head, data)
    if head.kind == "connect" and not (head.host and head.port and head.via != "proxy"):
        raise msgspec.ValidationError("a connection to nowhere")
    return head


def read_word(line: bytes) -> FromGuest | Unknown:
    """Raises msgspec.DecodeError."""
    try:
        return _decoded(_from_guest, line)
    except msgspec.ValidationError:
        unknown = _decoded(_unknown, line)
        if unknown.op in _OPERATIONS:
            raise
        return unknown


def _decoded(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError("too deep") from error


def line(word: Resolved | Answer | Name) -> bytes:
    return msgspec.json.encode(word) + b"\n"


def framed(answer: dict[str, object]) -> bytes:
    """The door's answer to a head."""
    body = msgspec.json.encode(answer)
    return len(body).to_bytes(4, "big") + body
