"""`cloche policy`."""

from __future__ import annotations

import difflib
import json
import shlex
import sys
from collections.abc import Iterable, Sequence

import click
import msgspec

from cloche.cli import arguments, execution, failure, policies, policy_asks, policy_log, policyview, render
from cloche.model.egress import EgressPolicy
from cloche.model.egress_pairs import is_pair, pair_words, with_pairs
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk import egress_values
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.egress_values import EgressInfo, SuggestionInfo, rule_word, words

#: of a secret that is given on standard input
MAX_SECRET_BYTES = 64 << 10


@click.group("policy")
def command() -> None:
    """See and change what sandboxes may reach.

    A policy is words with commas: a preset (pypi), a host (api.example.com, *.example.com, db.example.com:5432), an
    address (192.0.2.0/24), each with ! in front to deny it or ? to be asked. The first that matches decides, and the
    rest is refused. Budgets are words, too: out=10m and in=1g (bytes in all), connections=100 (at once; 600/min: new
    ones), rate=5m/s. accept=web:8000 lets the sandbox `web` connect to that port, if its own policy has the host
    NAME.sandbox. Changes hold at once, for connections that are open too.

    \b
    cloche run --net pypi,api.example.com -- python3 job.py
    cloche run --net pypi,out=10m,rate=1m/s -- python3 job.py
    cloche policy allow work api.example.com
    cloche policy log --denied --since 1h
    """


@command.command("show")
@arguments.json_flag
@click.argument("box", metavar="BOX")
def show(box: str, as_json: bool) -> int:
    """Show what BOX may reach, its secrets without their values, and what went through.

    \b
    cloche policy show work
    cloche policy show --json work
    """
    sandbox = execution.found(box)
    _show(sandbox.egress(), sandbox.name or sandbox.id, as_json)
    return 0


@command.command("allow")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("words", nargs=-1, required=True, metavar="HOST…")
def allow(box: str, words: Sequence[str], as_json: bool) -> int:
    """Let BOX reach these too: hosts, presets, or anything that a policy's words may be.

    They go before all that its policy says. A closed sandbox is opened for them, and only for them.

    \b
    cloche policy allow work api.example.com db.example.com:5432
    cloche policy allow work 'GET https://api.example.com/v1/**'
    """
    sandbox = execution.found(box)
    return _changed(sandbox.allow(*_rules(sandbox, words)), as_json)


@command.command("deny")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("words", nargs=-1, required=True, metavar="HOST…")
def deny(box: str, words: Sequence[str], as_json: bool) -> int:
    """Let BOX not reach these, whatever else its policy says. Connections to them that are open end.

    \b
    cloche policy deny work api.example.com '**.tracker.example'
    """
    sandbox = execution.found(box)
    return _changed(sandbox.deny(*_rules(sandbox, words)), as_json)


@command.command("set")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("policy", metavar="POLICY")
def set_(box: str, policy: str, as_json: bool) -> int:
    """Put POLICY in the place of the one that BOX has: words, none, allow, or @FILE in YAML or JSON.

    \b
    cloche policy set work pypi,api.example.com,out=10m
    cloche policy set work none
    cloche policy set work @policy.yaml
    """
    wanted = policies.read(policy)
    return _changed(execution.found(box).set_policy(wanted), as_json)


@command.command("suggest")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print a file for --net @FILE instead.")
@arguments.json_flag
@click.argument("box", metavar="BOX")
def suggest(box: str, as_yaml: bool, as_json: bool) -> int:
    """Write the smallest policy that would have allowed what was tried in BOX. Read it before you use it.

    The words go to stdout; a command that takes them goes to stderr.

    \b
    cloche policy suggest work
    cloche policy suggest --yaml work > policy.yaml
    """
    sandbox = execution.found(box)
    found = sandbox.suggest_policy()
    if as_json:
        render.print_json(msgspec.to_builtins(found))
    elif as_yaml:
        render.write(_yaml(found))
    else:
        _suggested(found, sandbox)
    return 0


@command.command("presets")
@arguments.json_flag
@click.argument("preset", required=False, metavar="[NAME]")
def presets(preset: str | None, as_json: bool) -> int:
    """List the presets, or show what one of them allows.

    \b
    cloche policy presets
    cloche policy presets pypi
    """
    known = Node().egress_presets()
    chosen = [found for found in known if preset in (None, found.name)]
    if not chosen:
        raise NotFoundError(f"there is no preset {preset!r}", remedy=_close([found.name for found in known], preset))
    if as_json:
        render.print_json({"presets": msgspec.to_builtins(chosen)})
    elif preset is None:
        render.print_table(("NAME", "FOR"), [(found.name, found.summary) for found in chosen])
    else:
        _lines(policyview.preset(chosen[0]))
    return 0


@command.command("secret")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from standard input: its first line.")
@click.option("--remove", is_flag=True, help="Take the secret of this name away.")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("spec", metavar="SPEC")
def secret(box: str, spec: str, from_stdin: bool, remove: bool, as_json: bool) -> int:
    """Give BOX a secret, or a new value of one: GITHUB_TOKEN@api.github.com, and more as in `cloche run --secret`.

    Prints the secrets that it has, never their values. Their hosts may be reached, whatever the policy does not deny.

    \b
    cloche policy secret work GITHUB_TOKEN@api.github.com
    pass show api | cloche policy secret work --stdin API_KEY@api.example.com:header=X-Api-Key
    cloche policy secret work --remove API_KEY
    """
    if remove and from_stdin:
        raise InvalidError("--remove takes no value", remedy="leave --stdin out")
    sandbox = execution.found(box)
    if remove:
        return _kept(sandbox.remove_secret(spec), as_json)
    return _kept(sandbox.give_secret(spec, _first_line() if from_stdin else None), as_json)


def _close(names: list[str], name: str | None) -> str:
    close = difflib.get_close_matches(name or "", names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"


def _rules(sandbox: Sandbox, words: Sequence[str]) -> list[str]:
    """Raises InvalidError, with the command that would do it, for words that are of the whole policy."""
    wanted = _each(words)
    pairs = [word for word in wanted if is_pair(word)]
    if pairs:
        whole = with_pairs(sandbox.egress().policy or EgressPolicy(), pairs)
        all_words = ",".join([*(word for word in wanted if word not in pairs), egress_values.words(whole)])
        raise InvalidError(
            f"{pairs[0]!r} is of the whole policy, and no rule that is allowed or denied",
            remedy=f"cloche policy set {sandbox.name or sandbox.id} {shlex.quote(all_words)}",
        )
    return wanted


def _each(words: Sequence[str]) -> list[str]:
    """Words may also come with commas between them, as in `--net`; a rule in JSON has its own."""
    return [part for word in words for part in ([word] if "{" in word else word.split(",")) if part]


def _changed(info: EgressInfo, as_json: bool) -> int:
    if as_json:
        render.print_json(_as_json(info))
    else:
        render.write(f"{render.clean(words(info.policy))}\n")
    return 0


def _kept(info: EgressInfo, as_json: bool) -> int:
    if as_json:
        render.print_json(_as_json(info))
    else:
        _lines(render.clean(policyview.secret(secret)) for secret in info.secrets)
    return 0


def _show(info: EgressInfo, box: str, as_json: bool) -> None:
    if as_json:
        render.print_json(_as_json(info))
    else:
        _lines(policyview.state(info, box))


def _as_json(info: EgressInfo) -> dict[str, object]:
    return {"words": words(info.policy), **msgspec.to_builtins(info)}


def _suggested(found: SuggestionInfo, sandbox: Sandbox) -> None:
    if uncarried := [one for one in found.tried if one.protocol in policyview.UNCARRIED]:
        failure.say(f"cloche: no policy allows {policyview.places(uncarried)}: only TCP leaves a sandbox")
    if not found.words:
        failure.say("cloche: nothing was tried that a policy could allow")
        return
    render.write(f"{render.clean(','.join(found.words))}\n")
    command = _command(found.words, sandbox)
    failure.say(f"  try: {render.clean(command)}" if command else "cloche: its policy says all of them already")


def _command(wanted: Sequence[str], sandbox: Sandbox) -> str:
    """What is missing is added to a policy of rules; one that is closed or wide open is replaced. "": nothing is."""
    box, has = sandbox.name or sandbox.id, sandbox.known.spec.egress
    if has is None:
        return f"cloche policy set {box} {shlex.quote(','.join(wanted))}"
    if has.default == "allow":
        return f"cloche policy set {box} {shlex.quote(','.join([*wanted, *pair_words(has)]))}"
    known = {rule_word(rule) for rule in has.rules}
    missing = [word for word in wanted if word not in known]
    return f"cloche policy allow {box} {shlex.join(missing)}" if missing else ""


def _yaml(found: SuggestionInfo) -> str:
    tried = "".join(f"# tried: {render.clean(one.host)}:{one.port} ({one.count} times)\n" for one in found.tried)
    rules = "".join(f"  - {json.dumps(word)}\n" for word in found.words)
    return f"{tried}default: deny\nrules:{f'{chr(10)}{rules}' if rules else ' []' + chr(10)}"


def _first_line() -> str:
    line = sys.stdin.buffer.readline(MAX_SECRET_BYTES + 1).rstrip(b"\r\n")
    if not line or len(line) > MAX_SECRET_BYTES:
        raise InvalidError(
            f"standard input has no value of at most {MAX_SECRET_BYTES >> 10} KiB on its first line",
            field="secret",
            remedy="pass show api | cloche policy secret --stdin BOX NAME@HOST",
        )
    return line.decode("utf-8", "surrogateescape")


def _lines(lines: Iterable[str]) -> None:
    render.write("".join(f"{line}\n" for line in lines))


for leaf in (policy_log.log, policy_asks.asks, policy_asks.answer):
    command.add_command(leaf)
