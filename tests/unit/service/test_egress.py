"""Policies and secrets over the life of a sandbox, with an engine and a door in memory."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest

from cloche.egress.auditing.audit import AuditWriter
from cloche.engines.fake.box import MACHINES
from cloche.guest_api.egress import EgressAttempt
from cloche.model.egress import AuditLine, EgressPolicy, EgressRule, Secret, SecretSource
from cloche.model.errors import EngineError, InvalidError, NotFoundError, UnavailableError, WrongStateError
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec
from cloche.model.snapshot import ForkSpec, SnapshotSpec
from cloche.model.template import TemplateSpec, Warm, WarmContext
from cloche.service import warming
from cloche.service.egress_log import LogQuery
from cloche.service.pool import PoolSettings
from tests.unit.service.place import Place, until

pytestmark = pytest.mark.anyio
ALLOWS = EgressRule(hosts=["api.example.com"])
POLICY = EgressPolicy(rules=[ALLOWS])
OTHER = EgressPolicy(rules=[EgressRule(hosts=["b.example"])])
TOKEN = Secret(name="TOKEN", hosts=["api.example.com"])
VALUE = "s3cr3t-value-of-the-test"


def guest(place, sandbox):
    """The guest in the fake box."""
    return MACHINES[place.home][sandbox.id]._guest


async def opened(place, name="box", **spec):
    return await place.create(name, egress=POLICY, **spec)


async def with_secret(place, name="box", **more):
    spec = SandboxSpec(name=name, secrets=[TOKEN], **more)
    return await place.services.sandboxes.create(spec, session_secrets={"TOKEN": VALUE})


class TestCreate:
    async def test_a_closed_one_never_hears_of_the_door(self, place):
        made = await place.create("box")
        await place.services.sandboxes.remove("box", force=True)
        assert place.door.log == []
        assert made.spec.egress is None

    async def test_guest_and_door_are_told_before_it_runs(self, place):
        made = await opened(place)
        attached = place.door.attached[made.id]
        assert (attached.policy, attached.name, attached.project_id) == (POLICY, "box", "default")
        assert guest(place, made).egress.mode == "open"
        assert guest(place, made).egress.authority_pem is None
        assert guest(place, made).egress.proxy_env

    @pytest.mark.parametrize("rule", [{"tls": "inspect"}, {"methods": ["GET"]}, {"paths": ["/v1/**"]}])
    async def test_the_authority_is_trusted_where_the_door_may_look_inside(self, place, rule):
        policy = EgressPolicy(rules=[ALLOWS, EgressRule(hosts=["b.example"], **rule)])
        made = await place.create("box", egress=policy)
        assert guest(place, made).egress.authority_pem == "PEM of the fake door"

    async def test_without_a_door_nothing_is_left(self, place):
        place.door.broken = True
        with pytest.raises(UnavailableError):
            await opened(place)
        assert (place.left(), place.door.attached) == ([], {})
        assert (await place.services.sandboxes.find()).sandboxes == []

    async def test_a_door_that_refuses_leaves_nothing(self, place):
        place.door.fails_next = EngineError("no")
        with pytest.raises(EngineError):
            await opened(place)
        assert (place.left(), place.door.attached) == ([], {})

    async def test_what_is_wrong_is_named(self, place):
        with pytest.raises(InvalidError) as wrong:
            await place.create("box", egress=EgressPolicy(rules=[EgressRule(preset="no-such-preset")]))
        assert "preset" in wrong.value.details["field"] or "preset" in wrong.value.message
        assert place.left() == []


class TestSecrets:
    async def test_the_code_gets_a_placeholder_and_the_door_the_value(self, place):
        made = await with_secret(place)
        (given,) = place.door.attached[made.id].secrets
        assert given.value == VALUE
        assert given.placeholder.startswith("cloche-secret-")
        assert guest(place, made).egress.placeholders == {"TOKEN": given.placeholder}
        assert guest(place, made).egress.authority_pem == "PEM of the fake door"
        assert made.spec.secrets[0].placeholder == given.placeholder

    async def test_its_hosts_are_what_a_sandbox_without_a_policy_may_reach(self, place):
        made = await with_secret(place)
        assert made.spec.egress == EgressPolicy()

    async def test_a_value_that_nobody_gave_refuses_the_create(self, place):
        with pytest.raises(InvalidError) as missing:
            await place.create("box", secrets=[TOKEN])
        assert missing.value.details["field"] == "session.secrets.TOKEN"
        assert place.left() == []

    async def test_a_value_for_no_secret_is_refused(self, place):
        with pytest.raises(InvalidError):
            await place.services.sandboxes.create(SandboxSpec(), session_secrets={"OTHER": "x"})

    async def test_a_client_does_not_choose_the_placeholder(self, place):
        first = await with_secret(place, "first")
        stolen = Secret(name="TOKEN", hosts=["evil.example"], placeholder=first.spec.secrets[0].placeholder)
        spec = SandboxSpec(name="second", secrets=[stolen])
        second = await place.services.sandboxes.create(spec, session_secrets={"TOKEN": "mine"})
        assert second.spec.secrets[0].placeholder != first.spec.secrets[0].placeholder
        assert place.door.attached[second.id].secrets[0].value == "mine"

    async def test_a_file_is_read_by_the_node(self, place, tmp_path):
        (tmp_path / "token").write_text("from a file\n")
        secret = Secret(name="TOKEN", hosts=["a.example"], source=SecretSource(file=str(tmp_path / "token")))
        made = await place.create("box", secrets=[secret])
        assert place.door.attached[made.id].secrets[0].value == "from a file"

    async def test_a_file_that_is_not_there_refuses_the_create(self, place, tmp_path):
        secret = Secret(name="TOKEN", hosts=["a.example"], source=SecretSource(file=str(tmp_path / "none")))
        with pytest.raises(UnavailableError):
            await place.create("box", secrets=[secret])
        assert place.left() == []

    async def test_a_new_value_keeps_the_placeholder(self, place):
        made = await with_secret(place)
        await place.services.egress.set_secret("box", "TOKEN", TOKEN, "newer")
        (given,) = place.door.attached[made.id].secrets
        assert (given.value, given.placeholder) == ("newer", made.spec.secrets[0].placeholder)

    async def test_one_for_a_closed_sandbox_opens_it_for_its_hosts(self, place):
        made = await place.create("box")
        state = await place.services.egress.set_secret("box", "TOKEN", TOKEN, VALUE)
        assert (state.door, state.policy, state.missing_secrets) == ("open", EgressPolicy(), [])
        assert place.door.attached[made.id].secrets[0].value == VALUE
        assert guest(place, made).egress.placeholders.keys() == {"TOKEN"}

    async def test_one_is_taken_away(self, place):
        made = await with_secret(place)
        state = await place.services.egress.remove_secret("box", "TOKEN")
        assert state.secrets == place.door.attached[made.id].secrets == []
        with pytest.raises(NotFoundError):
            await place.services.egress.remove_secret("box", "TOKEN")

    async def test_the_value_is_nowhere_but_in_memory(self, place):
        made = await with_secret(place)
        await place.services.egress.set_policy("box", POLICY)
        events = await place.services.sandboxes.events(made.id)
        state = await place.services.egress.state("box")
        row = await place.store.get(made.id)
        assert VALUE not in repr((events, state, row, place.services._core.secrets, place.door.attached))

    async def test_nothing_of_a_removed_one_stays_in_memory(self, place):
        await with_secret(place)
        await place.services.sandboxes.remove("box", force=True)
        assert vars(place.services._core.secrets) == {"_waiting": {}, "_given": {}, "_read": {}}

    async def test_nothing_of_a_failed_create_stays_in_memory(self, place):
        place.door.fails_next = EngineError("no")
        with pytest.raises(EngineError):
            await with_secret(place)
        assert vars(place.services._core.secrets) == {"_waiting": {}, "_given": {}, "_read": {}}


class TestChange:
    async def test_a_closed_one_is_opened_and_closed_again(self, place):
        made = await place.create("box")
        state = await place.services.egress.set_policy("box", POLICY)
        assert (state.door, state.policy) == ("open", POLICY)
        assert (guest(place, made).egress.mode, place.door.attached[made.id].policy) == ("open", POLICY)
        state = await place.services.egress.set_policy("box", None)
        assert (state.door, state.policy, place.door.attached) == ("closed", None, {})
        assert guest(place, made).egress.mode == "closed"

    async def test_the_row_is_the_first_to_know_and_an_event_tells(self, place):
        made = await opened(place)
        place.points.clear()
        await place.services.egress.set_policy("box", OTHER)
        assert place.points[0] == "policy.row_written"
        assert (await place.store.get(made.id)).sandbox.spec.egress == OTHER
        assert (await place.services.sandboxes.events("box"))[-1].kind == "sandbox.egress_changed"

    async def test_a_rule_comes_first_and_once(self, place):
        await opened(place)
        rule = EgressRule(hosts=["b.example"])
        await place.services.egress.add_rule("box", rule)
        state = await place.services.egress.add_rule("box", rule)
        assert state.policy.rules == [rule, ALLOWS]

    async def test_a_rule_opens_what_was_closed(self, place):
        await place.create("box")
        state = await place.services.egress.add_rule("box", ALLOWS)
        assert (state.door, state.policy) == ("open", POLICY)

    async def test_to_deny_what_is_closed_changes_nothing(self, place):
        await place.create("box")
        state = await place.services.egress.add_rule("box", EgressRule(action="deny", hosts=["b.example"]))
        assert (state.door, state.policy, place.door.log) == ("closed", None, [])

    async def test_a_rule_goes(self, place):
        await opened(place)
        state = await place.services.egress.remove_rule("box", ALLOWS)
        assert state.policy.rules == []
        with pytest.raises(NotFoundError):
            await place.services.egress.remove_rule("box", ALLOWS)

    async def test_nothing_changes_while_no_door_can_be_started(self, place):
        made = await place.create("box")
        place.door.broken = True
        with pytest.raises(UnavailableError):
            await place.services.egress.set_policy("box", POLICY)
        assert (await place.store.get(made.id)).sandbox.spec.egress is None

    async def test_a_door_that_dies_when_the_row_is_written_begins_with_the_new_one(self, place, monkeypatch):
        made = await opened(place)
        asked, ready = [], place.door.ready

        async def dies():
            asked.append(1)
            place.door.broken = len(asked) > 1
            return await ready()

        monkeypatch.setattr(place.door, "ready", dies)
        with pytest.raises(UnavailableError):
            await place.services.egress.set_policy("box", OTHER)
        assert (await place.store.get(made.id)).sandbox.spec.egress == OTHER
        assert place.door.attached[made.id].policy == OTHER

    async def test_the_door_is_told_when_the_guest_does_not_answer(self, place):
        made = await opened(place)
        place.engine.kill_guest(made.id)
        with pytest.raises(Exception):  # noqa: B017 - whatever the guest's end is called
            await place.services.egress.set_policy("box", OTHER)
        assert place.door.attached == {} or place.door.attached[made.id].policy == OTHER

    async def test_one_that_the_door_does_not_take_is_offered_to_it_again(self, place):
        made = await place.create("box")
        place.door.fails_next = EngineError("no")
        with pytest.raises(EngineError):
            await place.services.egress.set_policy("box", POLICY)
        assert place.door.attached == {}
        state = await place.services.egress.set_policy("box", OTHER)
        assert (state.door, place.door.attached[made.id].policy) == ("open", OTHER)

    async def test_a_stopped_one_has_it_at_its_next_start(self, place):
        made = await opened(place)
        await place.services.sandboxes.stop("box", grace_seconds=0)
        state = await place.services.egress.set_policy("box", OTHER)
        assert (state.door, place.door.attached) == ("closed", {})
        await place.services.sandboxes.start("box")
        assert place.door.attached[made.id].policy == OTHER

    async def test_a_paused_guest_is_told_when_it_goes_on(self, place):
        made = await place.create("box")
        await place.services.sandboxes.pause("box")
        await place.services.egress.set_policy("box", POLICY)
        assert (guest(place, made).egress.mode, made.id in place.door.attached) == ("closed", True)
        await place.services.sandboxes.resume("box")
        assert guest(place, made).egress.mode == "open"

    async def test_one_that_has_failed_has_no_policy_to_change(self, place):
        made = await opened(place)
        place.engine.kill_guest(made.id)
        await until(lambda: failed(place, made.id))
        with pytest.raises(WrongStateError):
            await place.services.egress.set_policy("box", None)
        assert place.door.attached == {}


async def failed(place, sandbox_id) -> bool:
    return (await place.store.get(sandbox_id)).sandbox.state == "failed"


class TestLife:
    async def test_stop_and_start(self, place):
        made = await with_secret(place)
        await place.services.sandboxes.stop("box", grace_seconds=0)
        assert place.door.attached == {}
        await place.services.sandboxes.start("box")
        assert place.door.attached[made.id].secrets[0].value == VALUE

    async def test_suspend_and_resume(self, place):
        made = await opened(place)
        await place.services.sandboxes.suspend("box")
        assert place.door.attached == {}
        await place.services.sandboxes.resume("box")
        assert place.door.attached[made.id].policy == POLICY
        assert guest(place, made).egress.mode == "open"

    async def test_a_policy_of_one_that_is_suspended_holds_when_it_wakes(self, place):
        made = await opened(place)
        await place.services.sandboxes.suspend("box")
        await place.services.egress.set_policy("box", None)
        await place.services.sandboxes.resume("box")
        assert (guest(place, made).egress.mode, place.door.attached) == ("closed", {})

    async def test_removal_and_expiry(self, place):
        await opened(place, ttl_seconds=10)
        place.clock.forward(11)
        await until(lambda: not place.door.attached and not place.left())

    async def test_the_end_of_a_guest(self, place):
        made = await opened(place)
        place.engine.kill_guest(made.id)
        await until(lambda: not place.door.attached)

    async def test_a_fork_has_its_parents_policy_placeholders_and_values(self, place):
        parent = await with_secret(place)
        (child,) = await place.services.forking.fork("box", ForkSpec(names=["child"]))
        mine, its = place.door.attached[parent.id], place.door.attached[child.id]
        assert (its.policy, its.secrets, its.name) == (mine.policy, mine.secrets, "child")
        assert child.spec.secrets == parent.spec.secrets

    async def test_a_fork_that_the_door_refuses_leaves_no_fork(self, place):
        parent = await opened(place)
        place.door.fails_next = EngineError("no")
        with pytest.raises(EngineError):
            await place.services.forking.fork("box", ForkSpec(count=2))
        assert list(place.door.attached) == [parent.id]
        assert place.left() == [parent.id]

    async def test_a_snapshot_has_the_policy_and_no_values(self, place):
        parent = await with_secret(place)
        snapshot = await place.services.snapshots.create("box", SnapshotSpec(name="snap"))
        assert VALUE not in repr(snapshot)
        made = await place.create("again", snapshot="snap")
        (given,) = place.door.attached[made.id].secrets
        assert (given.value, given.placeholder) == (None, parent.spec.secrets[0].placeholder)
        assert (await place.services.egress.state("again")).missing_secrets == ["TOKEN"]

    async def test_a_value_may_come_with_a_create_from_a_snapshot(self, place):
        await with_secret(place)
        await place.services.snapshots.create("box", SnapshotSpec(name="snap"))
        spec = SandboxSpec(name="again", snapshot="snap")
        made = await place.services.sandboxes.create(spec, session_secrets={"TOKEN": "anew"})
        assert place.door.attached[made.id].secrets[0].value == "anew"

    async def test_one_from_a_snapshot_may_be_closed(self, place):
        await opened(place)
        await place.services.snapshots.create("box", SnapshotSpec(name="snap"))
        spec = SandboxSpec(name="again", snapshot="snap")
        made = await place.services.sandboxes.create(spec, said=frozenset({"name", "snapshot", "egress"}))
        assert made.spec.egress is None
        assert (guest(place, made).egress.mode, made.id in place.door.attached) == ("closed", False)

    async def test_a_template_gives_its_policy_unless_the_create_says_another(self, place):
        template = TemplateSpec(spec=SandboxSpec(egress=POLICY, secrets=[TOKEN]))
        await place.services.templates.put("web", template)
        spec = SandboxSpec(name="one", template="web")
        one = await place.services.sandboxes.create(spec, session_secrets={"TOKEN": VALUE})
        assert one.spec.egress == POLICY
        other = Secret(name="OTHER", hosts=["b.example"])
        spec = SandboxSpec(name="two", template="web", egress=OTHER, secrets=[other])
        two = await place.services.sandboxes.create(spec, session_secrets={"TOKEN": VALUE, "OTHER": "b"})
        assert two.spec.egress == OTHER
        assert [secret.name for secret in two.spec.secrets] == ["TOKEN", "OTHER"]
        assert one.spec.secrets[0].placeholder != two.spec.secrets[0].placeholder
        assert (await place.services.templates.get("web")).spec.secrets == [TOKEN]


class TestNewNode:
    async def test_everything_is_attached_again_before_it_answers(self, place, tmp_path):
        (tmp_path / "token").write_text("from a file")
        read = Secret(name="READ", hosts=["a.example"], source=SecretSource(file=str(tmp_path / "token")))
        spec = SandboxSpec(name="box", egress=POLICY, secrets=[TOKEN, read])
        made = await place.services.sandboxes.create(spec, session_secrets={"TOKEN": VALUE})
        await place.restart()
        attached = place.door.attached[made.id]
        assert attached.policy == POLICY
        assert [(given.secret.name, given.value) for given in attached.secrets] == [
            ("TOKEN", None), ("READ", "from a file")]  # fmt: skip
        assert [given.placeholder for given in attached.secrets] == [each.placeholder for each in made.spec.secrets]
        assert (await place.services.egress.state("box")).missing_secrets == ["TOKEN"]

    async def test_a_missing_value_is_given_again(self, place):
        made = await with_secret(place)
        await place.restart()
        state = await place.services.egress.set_secret("box", "TOKEN", TOKEN, "again")
        assert (state.missing_secrets, place.door.attached[made.id].secrets[0].value) == ([], "again")

    async def test_a_door_that_is_broken_keeps_no_node_from_starting(self, place):
        made = await opened(place)
        make = place.make

        def broken() -> None:
            make()
            place.door.broken = True

        place.make = broken
        await place.restart()
        assert (await place.services.egress.state("box")).door == "down"
        assert (await place.services.sandboxes.get("box")).state == "running"
        assert made.id not in place.door.attached

    async def test_traffic_is_kept(self, place):
        made = await opened(place)
        place.door.count(made.id, sent_bytes=100, received_bytes=200, denied=3)
        await place.services._core.door.keep({made.id})
        await place.restart()
        assert place.door.attached[made.id].counters.sent_bytes == 100
        stats = await place.services.sandboxes.stats("box")
        assert (stats.sent_bytes, stats.received_bytes) == (100, 200)


class TestTold:
    async def test_events_of_the_door_are_events_of_the_sandbox(self, place):
        made = await opened(place)
        place.door.happen(made.id, "egress_denied", host="x.example", port=443)
        await until(lambda: told(place, made.id, "sandbox.egress_denied"))
        event = (await place.services.sandboxes.events("box"))[-1]
        assert event.data == {"host": "x.example", "port": 443}

    async def test_a_flood_is_dropped_and_counted(self, place):
        made = await opened(place)
        for number in range(2000):
            place.door.happen(made.id, "egress_denied", host=f"{number}.example")
        assert place.services._egress_events.dropped > 1000
        await until(lambda: told(place, made.id, "sandbox.egress_denied"))

    async def test_what_is_no_event_or_too_large_is_dropped(self, place):
        made = await opened(place)
        place.door.happen(made.id, "removed")
        place.door.happen(made.id, "egress_denied", host="x" * 100_000)
        assert place.services._egress_events.dropped == 2

    async def test_a_question_waits_for_its_answer(self, place):
        made = await opened(place)
        ask(place, made)
        (found,) = (await place.services.egress.asks("box")).asks
        assert (found.id, found.host) == ("ask_1", "new.example")
        await place.services.egress.answer("box", "ask_1", "once")
        assert ("answer", "ask_1=once") in place.door.log
        assert (await place.services.egress.asks("box")).asks == []
        with pytest.raises(NotFoundError):
            await place.services.egress.answer("box", "ask_1", "once")

    async def test_always_is_a_rule(self, place):
        made = await opened(place)
        ask(place, made)
        await place.services.egress.answer("box", "ask_1", "always")
        rules = (await place.services.egress.state("box")).policy.rules
        assert rules == [EgressRule(hosts=["new.example"], ports=["443"], protocols=["tls"]), ALLOWS]

    async def test_a_question_of_another_sandbox_cannot_be_answered(self, place):
        made = await opened(place)
        await place.create("other")
        ask(place, made)
        with pytest.raises(NotFoundError):
            await place.services.egress.answer("other", "ask_1", "always")

    async def test_a_question_ends_with_its_time(self, place):
        made = await opened(place)
        ask(place, made)
        place.clock.forward(31)
        assert (await place.services.egress.asks("box")).asks == []

    async def test_traffic_keeps_a_sandbox_from_being_idle(self, place):
        made = await opened(place, idle_timeout_seconds=10)
        for _ in range(5):
            place.clock.forward(6)
            place.door.count(made.id, sent_bytes=1)
            await until(lambda: made.id in place.left())
        place.clock.forward(11)
        await until(lambda: place.left() == [])

    async def test_traffic_is_in_the_statistics(self, place):
        made = await opened(place)
        place.door.count(made.id, sent_bytes=7, received_bytes=9)
        stats = await place.services.sandboxes.stats("box")
        assert (stats.sent_bytes, stats.received_bytes) == (7, 9)
        await place.create("closed")
        stats = await place.services.sandboxes.stats("closed")
        assert (stats.sent_bytes, stats.received_bytes) == (None, None)


def ask(place, made) -> None:
    place.door.happen(made.id, "egress_ask", id="ask_1", sandbox_id="sb_lie", host="new.example", port=443,
                      protocol="tls", expires_at=place.clock.now() + 30)  # fmt: skip


async def told(place, sandbox_id, kind) -> bool:
    return kind in [event.kind for event in await place.store.events(sandbox_id)]


class TestLog:
    async def test_an_empty_log(self, place):
        await place.create("box")
        page = await place.services.egress_log.find(LogQuery(sandbox="box"))
        assert page.lines == []

    async def test_a_project_sees_its_own_lines_and_no_others(self, place):
        writer = AuditWriter(place.services.egress_log._directory)
        for project in ("default", "other"):
            writer.write(AuditLine(time=1.0, sandbox_id="sb_1", via="dns", verdict="denied", host="a.example",
                                   project_id=project))  # fmt: skip
        writer.close()
        for project in ("default", "other"):
            page = await place.services.egress_log.find(LogQuery(), project_id=project)
            assert [line.project_id for line in page.lines] == [project]

    async def test_unknown_words_are_refused(self, place):
        with pytest.raises(InvalidError):
            await place.services.egress_log.find(LogQuery(verdicts=("good",)))
        with pytest.raises(NotFoundError):
            await place.services.egress_log.find(LogQuery(sandbox="nobody"))

    async def test_what_a_closed_one_tried_is_suggested(self, place):
        made = await place.create("box")
        guest(place, made).attempts = [EgressAttempt(host="api.example.com", port=443, count=3, last=1.0)]
        found = await place.services.egress_log.suggestion("box")
        assert found.words == ["api.example.com"]

    async def test_presets_are_there(self, place):
        assert "pypi" in [preset.name for preset in place.services.egress_log.presets()]


class TestPool:
    async def test_a_member_is_closed_until_somebody_has_it(self, tmp_path):
        async with Place(tmp_path, pool=PoolSettings(size=1, quiet_seconds=0)) as place:
            await filled(place)
            assert place.door.log == []
            made = await with_secret(place)
            (pool,) = (await place.services.pool.report()).pools
            assert pool.hits == 1
            assert place.door.attached[made.id].secrets[0].value == VALUE
            assert guest(place, made).egress.mode == "open"

    async def test_a_member_that_the_door_refuses_is_made_anew(self, tmp_path):
        async with Place(tmp_path, pool=PoolSettings(size=1, quiet_seconds=0)) as place:
            await filled(place)
            place.door.fails_next = EngineError("no")
            made = await with_secret(place)
            assert place.door.attached.keys() == {made.id}
            assert place.door.attached[made.id].secrets[0].value == VALUE

    async def test_warm_contexts_have_no_variables_of_secrets(self, tmp_path, monkeypatch):
        monkeypatch.setattr(warming, "warm", AsyncMock())
        async with Place(tmp_path) as place:
            warm = Warm(size=1, contexts=[WarmContext()])
            spec = SandboxSpec(secrets=[TOKEN], egress=POLICY)
            await place.services.templates.put("web", TemplateSpec(spec=spec, warm=warm))
            await place.services.pool.start()
            await until(lambda: ready(place))
            asked = SandboxSpec(template="web")
            await place.services.sandboxes.create(asked, session_secrets={"TOKEN": VALUE})
            assert (await place.services.pool.report()).pools[0].misses == {"secrets": 1}


async def filled(place) -> None:
    await place.services.pool.start()
    await until(lambda: ready(place))


async def ready(place) -> bool:
    return (await place.services.pool.report()).pools[0].ready == 1


async def test_processes_see_placeholders(place):
    made = await with_secret(place)
    done = await place.services.processes.start("box", ProcessSpec(argv=["env"]))
    assert done.id
    assert made.spec.secrets[0].placeholder in repr(guest(place, made).processes[done.id].env)
