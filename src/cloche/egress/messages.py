"""What the node and its door process say to each other: one JSON object in each message of a SOCK_SEQPACKET socket.

A descriptor travels with `StreamReply` only. Whoever asks chooses `id`; its `Reply` carries the same. Values of secrets
are in `Attach` and `SetPolicy` and nowhere else."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.model.egress import EgressCounters, EgressPolicy, Secret

MAX_MESSAGE_BYTES = 192 << 10


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag=str.lower):
    """`op` is the name of the class in lower case."""


class GivenSecret(msgspec.Struct, frozen=True, kw_only=True):
    """`value` None: nobody knows it now, and requests that need it are refused."""

    secret: Secret
    placeholder: str
    value: str | None

    def __repr__(self) -> str:
        return f"GivenSecret({self.secret.name})"


class Setup(Message, frozen=True, kw_only=True):
    """The first message. `home`: the data directory, where audit and authority are. `resolver`: "ip:port" of a DNS
    server, None for the machine's. `upstream_authorities`: a PEM file to trust beside the machine's. `ingress_port`:
    where published ports are reached by name; 0: any that is free."""

    home: str
    resolver: str | None = None
    upstream_authorities: str | None = None
    ingress_port: int = 0


class Attach(Message, frozen=True, kw_only=True):
    """`socket`: where the guest listens; None: streams to it are asked of the node. `policy` None: it is only
    published. A sandbox that is attached already is taken anew. Only sandboxes of one project may see each other."""

    id: int
    sandbox_id: str
    name: str | None
    project_id: str = ""
    policy: EgressPolicy | None
    secrets: list[GivenSecret] = []
    socket: str | None = None
    counters: EgressCounters = EgressCounters()


class SetPolicy(Message, frozen=True, kw_only=True):
    """Also for what is open already. None: closed from now on."""

    id: int
    sandbox_id: str
    policy: EgressPolicy | None
    secrets: list[GivenSecret] = []


class Detach(Message, frozen=True, kw_only=True):
    """Everything of the sandbox ends; unknown ones are no error. The reply's data are its last EgressCounters."""

    id: int
    sandbox_id: str


class Answer(Message, frozen=True, kw_only=True):
    """To an ask; `verdict` "once", "always" (the node changes the policy itself as well) or "deny"."""

    id: int
    ask_id: str
    verdict: str


class Publish(Message, frozen=True, kw_only=True):
    """`slug`: the name under which the ingress knows it (`http://SLUG.localhost:PORT`). `address_port`: the loopback
    port for raw TCP; 0: any that is free. `any_host`: it takes HTTP for whatever host. The reply's data:
    {"ingress_port", "address_port"}."""

    id: int
    sandbox_id: str
    port: int
    slug: str
    address_port: int = 0
    any_host: bool = False


class Unpublish(Message, frozen=True, kw_only=True):
    id: int
    sandbox_id: str
    port: int


class StreamReply(Message, frozen=True, kw_only=True):
    """To a `Stream`. With a descriptor: a connected socket that leads to the guest's HTTP server. Without: `error`."""

    id: int
    error: str | None = None


class Ready(Message, frozen=True, kw_only=True):
    """The door works from now on."""

    pid: int
    ingress_port: int
    authority_pem: str


class Reply(Message, frozen=True, kw_only=True):
    """`error`: the JSON of a ClocheError; None: it is done."""

    id: int
    error: dict[str, Any] | None = None
    data: dict[str, Any] = {}


class Stream(Message, frozen=True, kw_only=True):
    """The door wants a new stream to this guest's HTTP server."""

    id: int
    sandbox_id: str


class Happened(Message, frozen=True, kw_only=True):
    """`kind`: "egress_denied", "egress_ask" (data: an Ask), "egress_limit", "egress_revoked", "egress_secret"."""

    sandbox_id: str
    kind: str
    data: dict[str, Any]


class Counted(Message, frozen=True, kw_only=True):
    """At most once a second for a sandbox, when something has changed."""

    sandbox_id: str
    counters: EgressCounters


FromNode = Setup | Attach | SetPolicy | Detach | Answer | Publish | Unpublish | StreamReply
FromDoor = Ready | Reply | Stream | Happened | Counted

_from_node: msgspec.json.Decoder[FromNode] = msgspec.json.Decoder(FromNode)
_from_door: msgspec.json.Decoder[FromDoor] = msgspec.json.Decoder(FromDoor)


def encode(message: Message) -> bytes:
    """Raises ValueError for what is too large to be sent."""
    data = msgspec.json.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes")
    return data


def from_node(data: bytes) -> FromNode:
    """Raises msgspec.DecodeError (of which ValidationError is one)."""
    return _from_node.decode(data)


def from_door(data: bytes) -> FromDoor:
    """Raises msgspec.DecodeError."""
    return _from_door.decode(data)
