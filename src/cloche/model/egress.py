"""What code in a sandbox may reach (EgressPolicy), what became of an attempt (Decision), and what is written of it.

Pure values. `egress/deciding/policy.py` decides by them, `egress/door.py` carries it out."""

from __future__ import annotations

from typing import Literal

import msgspec

Action = Literal["allow", "deny", "ask"]
#: what the first bytes of a connection are: a TLS hello, an HTTP request, or anything else
Protocol = Literal["tls", "http", "tcp"]
#: pass: the bytes are carried as they are, and only the name in the hello is seen; inspect: the door ends the TLS with
#: an authority that the sandbox trusts, and sees requests
Tls = Literal["pass", "inspect"]
#: where a secret may be put for the placeholder that the code knows
Place = Literal["header", "basic", "query", "body"]

#: ports of a rule that names hosts and no ports; then raw TCP is not meant either
WEB_PORTS = (80, 443)
MAX_RULES = 1000
MAX_PATTERNS = 1000
MAX_SECRETS = 64
#: events.DEFAULT_PROJECT, which is above this in the order of imports
_PROJECT = "default"


class EgressRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """It matches when everything that it says matches; what it leaves empty matches all. The first rule that matches
    decides.

    `hosts`: `example.com`, `*.example.com` (a name below it, one label), `**.example.com` (any number of labels), `*`
    (any name). Never an address. `cidrs`: addresses and ranges, of what the code asked for or what a name turned out to
    be. `preset`: the rules of that preset stand in this place; `action` is allow and the other fields are empty.
    `ports`: "443", "8000-8100"; empty: 80 and 443, and TLS or HTTP only, when the rule allows `hosts`, else any.
    `methods` and `paths` (globs: `*` one segment, `**` any) are of HTTP requests and mean `tls: inspect`.
    `addresses`: ranges inside those that are forbidden otherwise (private, loopback, link-local …) which the names of
    this rule may have. `encrypted_hello`: a hello whose real name is encrypted (ECH) is let through on its outer name.
    """

    action: Action = "allow"
    hosts: list[str] = []
    cidrs: list[str] = []
    preset: str | None = None
    ports: list[str] = []
    protocols: list[Protocol] = []
    methods: list[str] = []
    paths: list[str] = []
    tls: Tls = "pass"
    addresses: list[str] = []
    encrypted_hello: bool = False
    note: str = ""


class EgressBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None: no bound but the door's own. `bytes_out` and `bytes_in` count over the sandbox's life, from the code's
    side; `connections`: open at once; `bytes_per_second`: of both directions of all connections."""

    bytes_out: int | None = None
    bytes_in: int | None = None
    connections: int | None = None
    connections_per_minute: int | None = None
    bytes_per_second: int | None = None


class AcceptRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other sandboxes (names, or `*`) that may connect to these ports ("5432", "8000-8100"; empty: any) of this one."""

    sandboxes: list[str] = []
    ports: list[str] = []


class EgressPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`default`: what happens when no rule matches; "allow" is everything but forbidden ranges. A sandbox without a
    policy (None) is closed. Another sandbox of the node is the host `NAME.sandbox`, and has to accept as well."""

    default: Action = "deny"
    rules: list[EgressRule] = []
    budget: EgressBudget = EgressBudget()
    accept: list[AcceptRule] = []


class SecretSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the node reads the value from, whenever it needs it; exactly one. All None: it was given by the client
    with the request, and a new node has to be given it again; `variable`: the same, from a variable of the client's
    environment that is not called like the secret."""

    file: str | None = None
    keyring: str | None = None
    """`service/user` of the machine's keyring."""
    command: list[str] | None = None
    variable: str | None = None

    @property
    def is_client(self) -> bool:
        """The node cannot read it by itself."""
        return self.file is None and self.keyring is None and self.command is None


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that the code uses and never has. The variable `name` holds a placeholder inside; on the way to `hosts`
    (patterns as in rules), over TLS that the door ends, it is replaced in `places`: "header" (the headers named, none
    named: any), "basic" (inside HTTP basic authentication), "query", "body". Its hosts are allowed (port
    443), but for those that a rule names with methods or paths: there only these requests are."""

    name: str
    hosts: list[str]
    source: SecretSource = SecretSource()
    places: list[Place] = msgspec.field(default_factory=lambda: ["header", "basic"])
    headers: list[str] = []
    placeholder: str | None = None
    """What the code has in the value's place: made by the node, and kept by what is forked or captured. No secret."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`rule`: index in the policy, as words (`rule 3`, `preset pypi`, `default`, `forbidden address`, …). `remedy`: the
    word for `cloche policy allow SANDBOX` that would allow it, where there is one."""

    action: Action
    rule: str
    reason: str = ""
    tls: Tls = "pass"
    remedy: str = ""


class AuditLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision, written when the connection (or the request in it) is over: one line of JSON in
    `HOME/audit/egress.jsonl`. `time`: UTC seconds when it began. `via`: how the code asked: "redirect", "proxy",
    "socks", "dns", "publish", "sandbox"; "inside": it was no TCP, and was refused in the sandbox itself. `verdict`:
    "allowed", "denied", "failed" (allowed, but the other side did not answer), "limit" (a budget was used up),
    "revoked" (a change of policy ended it). `sni` is given where it is not `host`. Bytes from the code's side,
    durations in seconds."""

    time: float
    sandbox_id: str
    sandbox: str | None = None
    project_id: str = _PROJECT
    via: str
    verdict: str
    host: str
    port: int = 0
    rule: str = ""
    reason: str = ""
    protocol: str = ""
    tls: str = ""
    sni: str = ""
    address: str = ""
    method: str = ""
    path: str = ""
    status: int = 0
    process: str = ""
    pid: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    duration_seconds: float = 0.0
    repeated: int = 0
    """So many more of the same, which got no line of their own. Of a line with bytes, those of all of them are in it;
    `duration_seconds` is then the time until the last of them was over, and what they do not have in common is empty.
    Host "*": several."""


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`since`: UTC seconds. Empty `verdicts`: any; `project_id` None: of all projects. The newest `limit` lines, oldest
    first."""

    project_id: str | None = None
    sandbox_id: str | None = None
    since: float | None = None
    verdicts: list[str] = []
    host: str | None = None
    limit: int = 1000


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    lines: list[AuditLine]
    dropped: int = 0
    """Lines that a full disk or a slow one has cost, since the node started."""


class EgressCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Of one sandbox since it was made (bytes), or since the node started (the rest)."""

    sent_bytes: int = 0
    received_bytes: int = 0
    connections_open: int = 0
    connections: int = 0
    denied: int = 0
    failed: int = 0


class EgressState(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /v1/sandboxes/{ref}/egress` answers. `door`: "open" (works), "closed" (no policy), "down" (the door
    does not answer now). `transparent_tcp`: programs that know no proxy work, too. `missing_secrets`: names whose value
    this node was not given."""

    policy: EgressPolicy | None
    secrets: list[Secret] = []
    door: str
    transparent_tcp: bool = False
    counters: EgressCounters = EgressCounters()
    missing_secrets: list[str] = []


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that waits for somebody's answer, in the event `sandbox.egress_ask` too. It is denied when nobody
    has answered by `expires_at` (UTC seconds)."""

    id: str
    sandbox_id: str
    host: str
    port: int
    protocol: str = ""
    method: str = ""
    path: str = ""
    process: str = ""
    expires_at: float = 0.0


Verdict = Literal["once", "always", "deny"]


class AskList(msgspec.Struct, frozen=True, kw_only=True):
    """Connections that wait for an answer, oldest first."""

    asks: list[Ask]


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a sandbox that this machine can reach. `url`: stays the same over restarts, HTTP/1.1,
    WebSockets and HTTP/2 without TLS; `address`: "127.0.0.1:40123", raw TCP (TLS, anything). `any_host`: at the address
    HTTP/1 is answered whatever host it is for, else only for addresses and names below localhost."""

    sandbox_id: str
    port: int
    url: str
    address: str
    any_host: bool = False


class PublicationList(msgspec.Struct, frozen=True, kw_only=True):
    publications: list[Publication]
