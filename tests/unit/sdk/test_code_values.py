"""What an execution comes to: bounds, formats, and values that lie."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.guest_api.events import encode
from cloche.model.code import CodeEnded, CodeOutput, CodeResult
from cloche.sdk.code import Execution, Result, harmless
from cloche.sdk.code_events import RESULT_BYTES, CodeCollector, EventDecoder

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def result(**data: object) -> Result:
    return Result(kind="value", data={name.replace("__", "/"): value for name, value in data.items()})


def test_formats_of_a_result() -> None:
    one = result(text__plain="2", text__html="<b>2</b>", image__png=base64.b64encode(PNG).decode(),
                 image__jpeg=base64.b64encode(b"\xff\xd8x").decode(), application__json={"a": [1]}, text__latex="$2$",
                 text__markdown="*2*")  # fmt: skip
    assert (one.text, one.html, one.png, one.jpeg) == ("2", "<b>2</b>", PNG, b"\xff\xd8x")
    assert (one.json, one.latex, one.markdown, one.svg) == ({"a": [1]}, "$2$", "*2*", None)
    assert set(one._repr_mimebundle_()) == {"text/plain", "image/png", "image/jpeg"}


def test_formats_that_lie() -> None:
    for lie in ("no base64 \udcff", "A", base64.b64encode(b"<script>").decode(), 7, None, ["x"], {"a": 1}):
        one = result(image__png=lie, text__plain=lie, text__html=lie)
        assert one.png is None and (one.text is None or isinstance(one.text, str))
        assert one.html is None or one.html.isprintable() or "\ufffd" in one.html
        repr(one), one._repr_mimebundle_()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.none() | st.text() | st.lists(st.integers()), max_size=4), st.text())
def test_what_is_shown_by_itself_is_harmless(data: dict[str, object], printed: str) -> None:
    one = Result(kind="value", data=data)
    done = Execution(id="x", context_id="c", status="ok", stdout=printed, results=[one])
    for shown in (repr(one), repr(done), done._repr_mimebundle_()["text/plain"], one._repr_mimebundle_()["text/plain"]):
        assert harmless(shown) == shown
        shown.encode()


def test_output_and_results_are_kept_up_to_a_bound() -> None:
    collector = CodeCollector(10)
    results = CodeCollector(2 * RESULT_BYTES + 100)
    for number in range(5):
        collector.take(CodeOutput(seq=number + 1, stream="stdout", text="abcd"))
        results.take(CodeResult(seq=number + 1, kind="display", data={"text/plain": "abcd"}))
    collector.take(CodeEnded(seq=9, status="ok"))
    done = collector.execution()
    assert (done.stdout, done.truncated, done.status, done.stderr) == ("abcdabcdab", True, "ok", "")
    kept = results.execution()
    assert (len(kept.results), kept.truncated, kept.text) == (2, True, None)


def test_an_execution_that_never_ended_is_not_ok() -> None:
    done = CodeCollector(10).execution()
    assert (done.ok, done.state_kept) == (False, False)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=5), st.integers(1, 40))
def test_any_cut_of_the_bytes_gives_the_same_events(texts: list[str], step: int) -> None:
    events = [CodeOutput(seq=number, stream="stdout", text=text) for number, text in enumerate(texts, 1)]
    stream, decoder = b"".join(map(encode, events)), EventDecoder()
    assert [found for at in range(0, len(stream), step) for found in decoder.feed(stream[at : at + step])] == events
