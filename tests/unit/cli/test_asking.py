"""Questions of the door on a terminal: what they look like, what an answer means, and whose the keys are meanwhile."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace

import msgspec
import pytest

from cloche.cli import asking, execution, question
from cloche.cli.gate import CTRL_C, Gate, is_begun
from cloche.model.egress import Ask, Verdict
from cloche.model.egress_words import parse_policy

ASK = Ask(id="ask_1", sandbox_id="sb_1", host="example.org", port=443, process="pip", expires_at=130.0)
LATER = 1e12


def test_a_question_in_one_line() -> None:
    assert question.line(ASK).startswith("cloche: pip wants to reach example.org:443. Allow it?")
    seen = Ask(id="a", sandbox_id="sb_1", host="::1", port=80, method="GET", path="/a")
    assert question.what(seen) == "the code wants to reach [::1]:80 (GET /a)"
    assert question.told(ASK, "work").splitlines()[1] == "  try: cloche policy answer work ask_1 once|always|deny"


def test_what_the_code_chose_cannot_act_on_the_terminal() -> None:
    hostile = Ask(
        id="a\n", sandbox_id="s", host="x\x1b[2J", port=1, process="p\r\n" * 50, method="G\x07", path="/\x9b" * 999
    )
    for text in (question.line(hostile), *question.panel(hostile, "box\x1b", 80, now=0.0)):
        assert text.isprintable()
    assert "\x1b" not in question.told(hostile, "box") and len(question.line(hostile)) < 3000


@pytest.mark.parametrize("columns", [1, 24, 80, 300])
def test_a_panel_fits(columns: int) -> None:
    lines = question.panel(ASK, "work", columns, now=100.0)
    assert max(map(len, lines)) <= max(20, columns - 2)
    assert "30 s" in " ".join(lines) and "example.org:443" in "".join(lines)


@pytest.mark.parametrize(
    ("typed", "verdict"),
    [("o\n", "once"), ("Always", "always"), (" d ", "deny"), ("", None), ("y", None), ("once more", None)],
)
def test_words_of_an_answer(typed: str, verdict: Verdict | None) -> None:
    assert question.verdict_of(typed) == verdict


@pytest.mark.parametrize(("pieces", "verdict"), [
    ([b"o", b"\r"], "once"), ([b"a\r"], "always"), ([b"x\r", b"d\r"], "deny"), ([b"\x03"], "deny"),
    ([b"\x1b[A", b"o\n"], "once"), ([b"ax\x7f\r"], "always"), ([b"o"], None), ([b"\xff\xfe\r"], None),
])  # fmt: skip
def test_keys_of_an_answer(pieces: list[bytes], verdict: Verdict | None) -> None:
    line = question.Typed()
    assert [found for piece in pieces if (found := line.take(piece))] == ([verdict] if verdict else [])


@pytest.mark.parametrize(("shown", "begun"), [
    (b"", False), (b"plain", False), (b"\x1b", True), (b"\x1b[", True), (b"\x1b[3", True), (b"\x1b[31m", False),
    (b"\x1b]0;title", True), (b"\x1b]0;title\x07", False), (b"\x1b]0;t\x1b\\", False), (b"\x1b(", True),
    (b"\x1b(B", False), (b"\x1b7", False), ("é".encode(), False), ("é".encode()[:1], True), ("漢".encode()[:2], True),
    (b"\x80\x80a\xe2", True), (b"\x80\x80\x80", False),
])  # fmt: skip
def test_output_is_not_cut_inside_a_sequence(shown: bytes, begun: bool) -> None:
    assert is_begun(shown) is begun


def test_the_command_waits_while_there_is_a_question() -> None:
    gate, shown = Gate(), []
    with gate.taken() as keys:
        writer = threading.Thread(target=gate.write, args=(b"later", shown.append))
        writer.start()
        assert gate.typed(b"o") and keys is not None and keys.get(timeout=5) == b"o"
        assert shown == []
    writer.join(5)
    assert shown == [b"later"] and not gate.typed(b"x")


def test_the_end_of_the_command_takes_a_question_back() -> None:
    gate = Gate()
    entered, heard = threading.Event(), []

    def ask() -> None:
        with gate.taken() as keys:
            entered.set()
            assert keys is not None
            heard.append(keys.get(timeout=30))

    asker = threading.Thread(target=ask)
    asker.start()
    entered.wait(5)
    gate.close()
    asker.join(5)
    assert heard == [b""]
    with gate.taken() as keys:
        assert keys is None


class Box:
    """A sandbox with questions."""

    id, name = "sb_1", "work"

    def __init__(self, *asks: Ask) -> None:
        self.waiting = asks
        self.answers: list[tuple[str, str]] = []

    def new_asks(self, since: float) -> tuple[Ask, ...]:
        return self.waiting

    def answer(self, ask: Ask, verdict: Verdict) -> None:
        self.answers.append((ask.id, verdict))


class Face:
    def __init__(self, *verdicts: Verdict | None) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[str] = []

    def ask(self, ask: Ask, box: str) -> Verdict | None:
        self.asked.append(ask.id)
        return self.verdicts.pop(0)


def test_between_cells_it_is_said_how_to_answer() -> None:
    told: list[str] = []
    face = asking.CellFace(told.append)
    with face.during() as gate:
        gate.write(b"shown", lambda data: None)
        assert gate.is_in_line
    assert face.ask(ASK, "work") is None
    assert told == [question.told(ASK, "work")]


def test_a_question_leaves_the_terminal_at_the_beginning_of_a_line() -> None:
    gate = Gate()
    gate.write(b"no line", lambda data: None)
    with gate.taken() as keys:
        assert gate.is_in_line and keys is not None
        gate.interrupt()
        assert keys.get_nowait() == CTRL_C
    assert not gate.is_in_line


def test_what_was_denied_is_not_asked_again() -> None:
    other = Ask(id="c", sandbox_id="sb_1", host="other.example", port=443)
    again = [Ask(id=name, sandbox_id="sb_1", host="example.org", port=443) for name in "ab"]
    box, face = Box(*again, other), Face("deny", "once")
    asking.Asker(box, face).run(0.0)  # type: ignore[arg-type]
    assert face.asked == ["a", "c"] and box.answers == [("a", "deny"), ("b", "deny"), ("c", "once")]


def test_after_a_new_beginning_it_is_asked_again() -> None:
    box, face = Box(), Face("deny", "once")
    asker = asking.Asker(box, face)  # type: ignore[arg-type]
    for _ in range(2):
        asker.settle(msgspec.structs.replace(ASK, expires_at=LATER))
        asker.forget()
    assert [verdict for _, verdict in box.answers] == ["deny", "once"]


def test_without_an_answer_nothing_is_said() -> None:
    box, face = Box(msgspec.structs.replace(ASK, expires_at=LATER)), Face(None)
    asking.Asker(box, face).run(0.0)  # type: ignore[arg-type]
    assert box.answers == [] and face.asked == ["ask_1"]


def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    face = Face()
    asking.Asker(Box(ASK), face).run(0.0)  # type: ignore[arg-type]
    assert face.asked == []


@pytest.mark.parametrize(("net", "can"), [
    (None, False), ("deny", False), ("ask", True), ("a.example,?b.example", True), ("a.example,!b.example", False),
])  # fmt: skip
def test_which_policies_ask(net: str | None, can: bool) -> None:
    known = SimpleNamespace(spec=SimpleNamespace(egress=None if net is None else parse_policy(net)))
    assert (execution.asks_of(SimpleNamespace(known=known), 0.0) is not None) is can  # type: ignore[arg-type]


def test_keys_from_before_the_question_could_be_read_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(asking.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(asking.time, "time", lambda: 0.0)

    class Keys(queue.Queue[bytes]):
        def get(self, block: bool = True, timeout: float | None = None) -> bytes:
            piece = super().get(block, timeout)
            now[0] = 1.0 if piece == b"." else now[0]
            return piece

    keys = Keys()
    for piece in (b"a\r", b".", b"d\r"):
        keys.put(piece)
    assert asking._typed(keys, 60.0, lambda text: None) == "deny"
