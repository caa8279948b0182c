"""Decides what a sandbox may reach. The first rule that matches wins; what is not known yet makes it undecided.

A decision never changes to a better one when more is known: asking early is safe. It is undecided only while the rest
could change it, so that no name is looked up for an answer that is no anyway."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from cloche.egress.deciding import ranges
from cloche.egress.deciding.attempt import Attempt, Decided, Need, Undecided
from cloche.egress.deciding.hostindex import HostIndex, kind_of
from cloche.egress.deciding.presets import Preset, load
from cloche.egress.deciding.rules import ReadyRule, numbered_words, ready
from cloche.model.egress import WEB_PORTS, EgressPolicy, EgressRule, Secret
from cloche.model.errors import InvalidError

__all__ = ["Attempt", "Compiled", "Decided", "Need", "Undecided", "compile_policy", "remedy_words"]

_MACHINE = Decided(action="deny", rule="name of this machine", reason="localhost is the sandbox itself")
_LOCAL = ReadyRule(action="deny", words="local name", reason="no rule names it, and it is of a network of its own")


class Compiled:
    """A policy made ready; it never changes (but for the machine's own addresses in `own`, which it only looks at)."""

    def __init__(self, policy: EgressPolicy, own: Container[str] = ()) -> None:
        """Without rules: `compile_policy` is what makes one."""
        self._rules: list[ReadyRule] = []
        self._hosts = HostIndex()
        self._secret_hosts = HostIndex()
        self._own = own
        self._default = ReadyRule(action=policy.default, words="default", reason=_reason(policy))
        #: rules that name no host, and those for any name, by what they are held against
        self._for_addresses: list[int] = []
        self._for_names: list[int] = []
        self._for_local: list[int] = []
        self._for_named: list[int] = []

    def decide(self, attempt: Attempt) -> Decided | Undecided:
        """Never raises. An address that is known is held against the forbidden ranges as well, so: decide by name
        first, and by each of its addresses before one is dialled."""
        kind = "public" if attempt.is_address else kind_of(attempt.host)
        if kind == "machine":
            return _MACHINE
        address = attempt.host if attempt.is_address else attempt.address
        default = self._default if kind == "public" or self._default.action != "allow" else _LOCAL
        has_secret = not attempt.is_address and bool(self._secret_hosts.find(attempt.host))
        pending: list[tuple[ReadyRule, list[Need]]] = []
        for rule in self._candidates(attempt.host, kind, attempt.is_address):
            needs = rule.unknown(attempt, address)
            if needs == []:
                return self._conclude(rule, pending, address, has_secret)
            if needs is not None:
                pending.append((rule, needs))
        return self._conclude(default, pending, address, has_secret)

    def may_resolve(self, name: str) -> bool:
        """Whether the name may be answered: some port and protocol of it could be allowed or asked for. The answer can
        be made without a look-up (`may_look_up`): what the guest gives out is no address of the name."""
        kind = kind_of(name)
        if kind == "machine":
            return False
        for rule in self._candidates(name, kind, False):
            if rule.action != "deny":
                return True
            if rule.is_unconditional:
                return False
        return self._default.action == "ask" or (self._default.action == "allow" and kind == "public")

    def may_look_up(self, name: str) -> bool:
        """Whether name servers may hear the name before a connection is decided: a rule allows it by name, or all
        names. Not when somebody is to be asked, and not for the sake of a range of addresses: any name at all would be
        sent to whoever serves it, and with TXT records answers come back. `may_resolve` holds then, too."""
        kind = kind_of(name)
        if kind == "machine":
            return False
        for rule in self._candidates(name, kind, False):
            if rule.action == "allow" and (rule.has_hosts or not rule.networks):
                return True
            if rule.action != "allow" and rule.is_unconditional:
                return False
        return self._default.action == "allow" and kind == "public"

    def _add(self, rule: ReadyRule, hosts: Sequence[str]) -> None:
        """Raises ValueError for a host that is none."""
        number = len(self._rules)
        self._rules.append(rule)
        for host in hosts:
            if host != "*":
                self._hosts.add(host, number)
        if hosts and "*" not in hosts:
            return
        if not hosts:
            self._for_addresses.append(number)
        self._for_names.append(number)
        # who allows any name means public ones; who allows a private range may mean names of that network
        if rule.action != "allow" or (rule.networks and not hosts):
            self._for_local.append(number)
        if rule.action != "allow":
            self._for_named.append(number)

    def _candidates(self, host: str, kind: str, is_address: bool) -> Iterator[ReadyRule]:
        """Rules whose hosts match, in their order."""
        if is_address:
            return map(self._rules.__getitem__, self._for_addresses)
        general = {"public": self._for_names, "local": self._for_local, "named": self._for_named}[kind]
        found = self._hosts.find(host)
        return map(self._rules.__getitem__, sorted({*general, *found}) if found else general)

    def _conclude(
        self, last: ReadyRule, pending: list[tuple[ReadyRule, list[Need]]], address: str | None, has_secret: bool
    ) -> Decided | Undecided:
        decided = self._decided(last, address, has_secret)
        possible = [self._decided(rule, address, has_secret) for rule, _ in pending]
        if all(other.action == decided.action == "deny" for other in possible):
            # an address that is out of reach says more than that no rule is left
            return next(
                (other for (rule, _), other in zip(pending, possible, strict=True) if rule.action != "deny"), decided
            )
        looks_inside = any(other.tls == "inspect" for other in [decided, *possible])
        needs = frozenset(need for _, rule_needs in pending for need in rule_needs)
        return Undecided(needs=needs, tls="inspect" if looks_inside else "pass")

    def _decided(self, rule: ReadyRule, address: str | None, has_secret: bool) -> Decided:
        if rule.action != "deny" and address is not None:
            reason = ranges.forbidden(address, self._own)
            if reason is not None and not ranges.is_opened(address, rule.opened):
                return Decided(action="deny", rule=reason, reason=f"{rule.words} does not open {address}", tls=rule.tls)
        return Decided(
            action=rule.action,
            rule=rule.words,
            reason=rule.reason,
            tls="inspect" if has_secret else rule.tls,
            opened=rule.opened,
            encrypted_hello=rule.encrypted_hello,
            secret_host=has_secret,
            is_of_request=rule.is_of_requests,
        )

    def _add_secret(self, secret: Secret, index: int, narrowed: frozenset[str]) -> None:
        """Behind the rules, so that one that denies wins. Hosts of which a rule allows some requests only are not
        opened to the others by it."""
        opened = [host for host in secret.hosts if host.lower() not in narrowed]
        implied = EgressRule(hosts=opened, ports=["443"], protocols=["tls"], tls="inspect")
        try:
            if opened:
                self._add(ready(implied, f"secret {secret.name}"), opened)
            for host in secret.hosts:
                self._secret_hosts.add(host, index)
        except ValueError as error:
            raise _wrong(f"secrets[{index}].hosts", error) from error


def compile_policy(
    policy: EgressPolicy,
    secrets: Sequence[Secret] = (),
    presets: Callable[[str], Preset] = load,
    own: Container[str] = (),
) -> Compiled:
    """`policy` and `secrets` are checked. Raises InvalidError naming the field (an unknown preset, a name that IDNA
    does not know)."""
    compiled = Compiled(policy, own)
    for index, rule in enumerate(policy.rules):
        for words, part in _parts(rule, index, presets):
            try:
                compiled._add(ready(part, words), part.hosts)
            except ValueError as error:
                raise _wrong(f"egress.rules[{index}].hosts", error) from error
    for index, secret in enumerate(secrets):
        compiled._add_secret(secret, index, _narrowed(policy))
    return compiled


def _narrowed(policy: EgressPolicy) -> frozenset[str]:
    """Hosts that rules name together with methods or paths."""
    about_requests = (rule for rule in policy.rules if rule.action == "allow" and (rule.methods or rule.paths))
    return frozenset(host.lower() for rule in about_requests for host in rule.hosts)


def remedy_words(attempt: Attempt, own: Container[str] = ()) -> str | None:
    """The shortest word for `cloche policy allow SANDBOX WORD` that would allow it; None when no word can, or when
    nobody should be told one. `own`: addresses of this machine."""
    address = attempt.host if attempt.is_address else attempt.address
    forbidden = ranges.forbidden(address, own) if address is not None else None
    if forbidden == ranges.METADATA or (not attempt.is_address and kind_of(attempt.host) == "machine"):
        return None
    if attempt.is_address:
        return f"{_bracketed(attempt.host)}:{attempt.port}"
    is_web = attempt.port in WEB_PORTS and attempt.protocol != "tcp" and "." in attempt.host
    place = attempt.host if is_web else f"{attempt.host}:{attempt.port}"
    return f"{place}@{_bracketed(address)}" if address is not None and forbidden else place


def _parts(rule: EgressRule, index: int, presets: Callable[[str], Preset]) -> Iterable[tuple[str, EgressRule]]:
    if rule.preset is None:
        return [(numbered_words(rule, index + 1), rule)]
    try:
        preset = presets(rule.preset)
    except InvalidError as error:
        # its name says which rule it is
        raise InvalidError(error.message, field=f"egress.rules[{index}].preset", remedy=error.remedy) from error
    return [(f"preset {preset.name}", part) for part in preset.rules]


def _reason(policy: EgressPolicy) -> str:
    return "no rule allows it" if policy.default == "deny" else ""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _wrong(field: str, error: Exception) -> InvalidError:
    remedy = error.remedy if isinstance(error, InvalidError) else None
    return InvalidError(f"{field}: {error}", field=field, remedy=remedy)
