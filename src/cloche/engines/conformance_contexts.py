"""The part of the engines' suite that is about code contexts; `conformance` passes it on.

An image need not have any interpreter: the cases branch on the languages that the guest names, and in a box that has
none the refusal itself is the case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cloche.engines.bench import Bench, Sandbox
from cloche.model.code import (
    LANGUAGES,
    Accepted,
    CodeEnded,
    CodeError,
    CodeEvent,
    CodeOutput,
    CodeResult,
    CodeSpec,
    ContextSpec,
    Language,
    Started,
)
from cloche.model.errors import InterpreterMissingError, NotFoundError, WrongStateError

PATIENCE_SECONDS = 20.0
#: code that gives 42 as its value, or prints it where a language has no values; that fails; and that never ends
ANSWERS: dict[Language, str] = {"python": "6 * 7", "javascript": "6 * 7", "bash": "echo $((6 * 7))"}
KEEPS: dict[Language, tuple[str, str]] = {
    "python": ("kept = 41", "print(kept + 1)"),
    "javascript": ("let kept = 41", "console.log(kept + 1)"),
    "bash": ("kept=41", "echo $((kept + 1))"),
}
FAILS: dict[Language, str] = {"python": "1 / 0", "javascript": "throw new Error('no')", "bash": "false"}
ENDLESS: dict[Language, str] = {
    "python": "print('on', flush=True)\nwhile True: pass",
    "javascript": "console.log('on'); while (true) {}",
    "bash": "echo on; while :; do :; done",
}


class Ran:
    """What an execution said."""

    def __init__(self, events: list[CodeEvent]) -> None:
        self.events = events
        self.stdout = "".join(one.text for one in events if isinstance(one, CodeOutput) and one.stream == "stdout")
        self.values = [one.data.get("text/plain") for one in events if isinstance(one, CodeResult)]
        self.error = next((one for one in events if isinstance(one, CodeError)), None)
        assert isinstance(events[-1], CodeEnded)
        self.ended = events[-1]

    @property
    def answer(self) -> str:
        return "".join(map(str, self.values)) or self.stdout.strip()


async def _collected(events: AsyncIterator[CodeEvent]) -> Ran:
    return Ran([event async for event in events])


async def _run(sandbox: Sandbox, code: str, language: Language = "python", context_id: str | None = None) -> Ran:
    async with sandbox.guest.execute(CodeSpec(code=code, language=language, context_id=context_id)) as events:
        return await asyncio.wait_for(_collected(events), PATIENCE_SECONDS)


async def _need(sandbox: Sandbox, language: Language) -> None:
    if language not in (await sandbox.guest.list_contexts()).languages:
        pytest.skip(f"the image has no interpreter of {language}")


async def test_languages_that_are_not_there_are_refused_by_name(boxes: Bench) -> None:
    sandbox = await boxes.create()
    there = (await sandbox.guest.list_contexts()).languages
    assert set(there) <= set(LANGUAGES)
    for language in LANGUAGES:
        if language not in there:
            for refused in (sandbox.guest.create_context(ContextSpec(language=language)), _run(sandbox, "", language)):
                with pytest.raises(InterpreterMissingError) as caught:
                    await refused
                assert caught.value.details.get("languages") == there
    assert (await sandbox.guest.list_contexts()).contexts == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_code_runs_and_its_context_remembers(boxes: Bench, language: Language) -> None:
    sandbox = await boxes.create()
    await _need(sandbox, language)
    first = await _run(sandbox, ANSWERS[language], language)
    accepted, started = first.events[:2]
    assert isinstance(accepted, Accepted) and isinstance(started, Started)
    assert (first.answer, first.ended.status, started.number) == ("42", "ok", 1)
    remember, recall = KEEPS[language]
    assert (await _run(sandbox, remember, language)).ended.status == "ok"
    assert (await _run(sandbox, recall, language)).stdout == "42\n"
    (known,) = (await sandbox.guest.list_contexts()).contexts
    assert (known.id, known.default, known.executions, known.state) == (accepted.context_id, True, 3, "idle")
    assert await sandbox.guest.list_processes() == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_code_that_fails_is_a_result(boxes: Bench, language: Language) -> None:
    sandbox = await boxes.create()
    await _need(sandbox, language)
    failed = await _run(sandbox, FAILS[language], language)
    assert failed.ended.status == "error" and failed.ended.state_kept and failed.error is not None
    assert (await _run(sandbox, ANSWERS[language], language)).answer == "42"


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_interrupt_ends_the_code_and_keeps_the_state(boxes: Bench, language: Language) -> None:
    sandbox = await boxes.create()
    await _need(sandbox, language)
    remember, recall = KEEPS[language]
    await _run(sandbox, remember, language)
    async with sandbox.guest.execute(CodeSpec(code=ENDLESS[language], language=language)) as events:
        said: list[CodeEvent] = []
        while not isinstance(event := await asyncio.wait_for(anext(events), PATIENCE_SECONDS), CodeOutput):
            said.append(event)
        assert isinstance(said[0], Accepted)
        await sandbox.guest.interrupt_context(said[0].context_id)
        ran = await asyncio.wait_for(_collected(events), PATIENCE_SECONDS)
    assert (ran.ended.status, ran.ended.state_kept) == ("interrupted", True)
    assert (await _run(sandbox, recall, language)).stdout == "42\n"


async def test_contexts_are_apart_and_go_when_they_are_removed(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await _need(sandbox, "bash")
    one, other = [await sandbox.guest.create_context(ContextSpec(language="bash")) for _ in range(2)]
    await _run(sandbox, "kept=1", "bash", one.id)
    assert (await _run(sandbox, "echo [$kept]", "bash", other.id)).stdout == "[]\n"
    assert (await sandbox.guest.restart_context(one.id)).executions == 0
    assert (await _run(sandbox, "echo [$kept]", "bash", one.id)).stdout == "[]\n"
    await sandbox.guest.remove_context(one.id)
    with pytest.raises(NotFoundError):
        await sandbox.guest.context(one.id)
    with pytest.raises(NotFoundError):
        await _run(sandbox, "true", "bash", one.id)
    with pytest.raises(WrongStateError):
        await sandbox.guest.interrupt_context(other.id)


async def test_events_are_there_again_over_a_new_channel(boxes: Bench) -> None:
    first = await boxes.create()
    await _need(first, "bash")
    ran = await _run(first, "echo one; echo two >&2; false", "bash")
    accepted = ran.events[0]
    assert isinstance(accepted, Accepted)
    await first.close()
    again = await boxes.enter(first.box, configure=False)
    async with again.guest.execution(accepted.execution_id, follow=True) as events:
        assert (await _collected(events)).events == ran.events
    async with again.guest.execution(accepted.execution_id, after=2) as events:
        assert [event async for event in events] == ran.events[2:]
    with pytest.raises(NotFoundError):
        async with again.guest.execution("x_" + "0" * 26) as events:
            await anext(events)


__all__ = [name for name in dir() if name.startswith("test_")]
