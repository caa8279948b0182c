"""Values go where they may and nowhere else, and come back to nobody; over every border of pieces."""

import base64
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.hooks import Site
from cloche.egress.http.framing import Framing
from cloche.egress.http.heads import RequestHead
from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.placeholders import base64_cores, begun_at_end
from cloche.egress.secrecy.redaction import MIN_VALUE_BYTES, RedactedStream, Redaction
from cloche.egress.secrecy.secrets import SecretRefusedError, SiteSecrets, new_placeholder
from cloche.model.egress import Secret

VALUE = 's3cr3t/+"value"_of-api'
SITE = Site("api.example.com", 443, "https")


def a_secret(name="TOKEN", value=VALUE, **more):
    secret = Secret(name=name, hosts=["api.example.com"], **more)
    return GivenSecret(secret=secret, placeholder=new_placeholder(), value=value)


def a_head(target="/", method="GET", **headers):
    fields = ((b"Host", b"api.example.com"), *((k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()))
    return RequestHead(
        method=method, target=target, form="origin", scheme="", host="api.example.com", port=None, version="1.1",
        headers=fields, framing=Framing("none"), keep_alive=True, expects_continue=False, upgrade=None,
    )  # fmt: skip


def into(one, head, site=SITE, own=True):
    return SiteSecrets(site, [one] if own else [], [one]).into_head(head)


def refused(one, head, site=SITE, own=True):
    with pytest.raises(SecretRefusedError) as caught:
        into(one, head, site, own)
    assert (one.value or "-") not in str(caught.value) + repr(caught.value)
    return caught.value


def body_of(one, pieces, head=None, site=SITE):
    body = SiteSecrets(site, [one], [one]).into_body(head or a_head())
    return b"".join([*map(body.piece, pieces), body.end()])


def pieces_of(data, cuts):
    cuts = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def test_a_value_goes_into_any_header_by_default():
    one = a_secret()
    done = into(one, a_head(Authorization=f"Bearer {one.placeholder}"))
    assert dict(done.headers)[b"Authorization"] == b"Bearer " + VALUE.encode()
    assert done.secrets == ("TOKEN",) and VALUE not in repr(done)


def test_only_the_headers_that_the_secret_names():
    one = a_secret(places=["header"], headers=["X-Api-Key"])
    assert dict(into(one, a_head(x_api_key=one.placeholder)).headers)[b"x-api-key"] == VALUE.encode()
    assert "header Authorization" in refused(one, a_head(Authorization=one.placeholder)).reason


def test_basic_authentication_is_decoded_and_encoded_again():
    one = a_secret()
    before = base64.b64encode(f"user:{one.placeholder}".encode()).decode()
    after = dict(into(one, a_head(Authorization=f"basic {before}")).headers)[b"Authorization"]
    assert base64.b64decode(after[6:]) == f"user:{VALUE}".encode()
    only_header = a_secret(places=["header"])
    hidden = base64.b64encode(f"user:{only_header.placeholder}".encode()).decode()
    refused(only_header, a_head(Authorization=f"Basic {hidden}"))


def test_the_query_only_when_asked_and_percent_encoded():
    one = a_secret(places=["query"])
    assert into(one, a_head(f"/v1?key={one.placeholder}&a=1")).target == f"/v1?key={quote(VALUE, safe='')}&a=1"
    refused(a := a_secret(), a_head(f"/?k={a.placeholder}"))


def forms(text):
    encoded = [base64.b64encode(b"x" * n + text.encode() + b"yz").decode() for n in range(3)]
    once = "".join(f"%{byte:02x}" for byte in text.encode())
    percent = [quote(text.replace("-", "%2D")), once, quote(once), quote(quote(once))]
    return [text, text.upper(), text.title(), *percent, *encoded]


@pytest.mark.parametrize("form", range(10))
def test_a_placeholder_in_the_wrong_place_is_seen_in_every_form(form):
    one = a_secret()
    text = forms(one.placeholder)[form]
    refused(one, a_head(f"/{text}"))
    refused(one, a_head(f"/?q={text}"))
    refused(one, a_head(Host2=text), site=Site("api.example.com", 80, "http"))
    assert (
        "may not go to evil.example" in refused(one, a_head(X=text), Site("evil.example", 443, "https"), False).reason
    )
    if form:
        refused(one, a_head(X=text))


def test_method_header_names_and_framing_headers_are_no_place():
    one = a_secret()
    refused(one, a_head(method=one.placeholder))
    refused(one, a_head(**{one.placeholder: "x"}))
    refused(one, a_head(Expect=one.placeholder))


def test_never_over_plain_http():
    one = a_secret(places=["header", "basic", "query", "body"])
    plain = Site("api.example.com", 80, "http")
    assert "plain HTTP" in refused(one, a_head(X=one.placeholder), plain).reason
    with pytest.raises(SecretRefusedError):
        body_of(one, [one.placeholder.encode()], site=plain)


@pytest.mark.parametrize("value", [None, "a\r\nX: y", "a\0b"])
def test_a_value_that_is_unknown_or_would_end_a_header_is_refused(value):
    one = a_secret(value=value)
    assert refused(one, a_head(X=one.placeholder)).code == "secret_missing"


def test_a_placeholder_of_nobody_is_just_text():
    one = a_secret()
    stranger = new_placeholder()
    assert dict(into(one, a_head(X=stranger)).headers)[b"X"] == stranger.encode()


@given(st.binary(max_size=300), st.binary(max_size=300), st.lists(st.integers(0, 700), max_size=8))
def test_a_body_is_replaced_over_any_borders(before, behind, cuts):
    one = a_secret(places=["body"])
    data = before + one.placeholder.encode() + behind
    assert body_of(one, pieces_of(data, cuts)) == before + VALUE.encode() + behind


@given(st.data(), st.lists(st.integers(0, 700), max_size=8))
def test_a_body_never_leaks_a_placeholder_before_it_is_refused(data, cuts):
    one = a_secret()
    case = data.draw(st.sampled_from([str.upper, str.lower, str.title]))
    text = data.draw(st.binary(max_size=200)) + case(one.placeholder).encode() + b"rest"
    body = SiteSecrets(SITE, [one], [one]).into_body(a_head())
    out = b""
    with pytest.raises(SecretRefusedError):
        for piece in pieces_of(text, cuts):
            out += body.piece(piece)
    assert b"cloche-secret-" not in out.lower()


@given(st.lists(st.sampled_from([b"c", b"clo", b"cloche-secret-", b"0123", b"f" * 31, b"x"]), max_size=30))
def test_a_body_without_placeholders_comes_out_as_it_went_in(pieces):
    assert body_of(a_secret(), pieces) == b"".join(pieces)


def test_a_placeholder_that_ends_in_c_is_not_taken_for_the_beginning_of_another():
    one = GivenSecret(
        secret=Secret(name="T", hosts=["a.b"], places=["body"]), placeholder="cloche-secret-" + "c" * 32, value="v" * 9
    )
    assert body_of(one, [one.placeholder.encode()]) == b"v" * 9
    assert begun_at_end(b"xcloche-secret-" + b"c" * 31) == 45


def test_a_value_in_a_body_does_not_end_the_string_around_it():
    one = a_secret(places=["body"])
    text = json.dumps({"key": one.placeholder}).encode()
    done = body_of(one, [text], a_head(content_type="application/json; charset=utf-8"))
    assert json.loads(done) == {"key": VALUE}
    form = body_of(one, [f"k={one.placeholder}".encode()], a_head(content_type="application/x-www-form-urlencoded"))
    assert form == f"k={quote(VALUE, safe='')}".encode()


values = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=MIN_VALUE_BYTES, max_size=60)


@settings(max_examples=300)
@given(values, st.binary(max_size=90), st.binary(max_size=90), st.lists(st.integers(0, 400), max_size=10), st.data())
def test_an_echoed_value_is_redacted_over_any_borders(value, before, behind, cuts, data):
    one = a_secret(value=value)
    raw = value.encode()
    percent = quote(value, safe="")
    inner = data.draw(st.sampled_from([
        raw, percent.encode(), re.sub("%..", lambda code: code.group().lower(), percent).encode(),
        json.dumps(value).encode(), base64.b64encode(b"user:" + raw), base64.urlsafe_b64encode(b"me:" + raw + b"!"),
    ]))  # fmt: skip
    redaction = Redaction([one])
    stream = RedactedStream(redaction)
    text = before + inner + behind
    done = b"".join([*map(stream.piece, pieces_of(text, cuts)), stream.end()])
    assert len(done) == len(text)
    assert not any(form in done for form in {raw, *base64_cores(raw)})
    assert redaction.found == {"TOKEN"}


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_what_has_no_value_in_it_is_not_touched(pieces):
    stream = RedactedStream(Redaction([a_secret(value="correct horse battery")]))
    assert b"".join([*map(stream.piece, pieces), stream.end()]) == b"".join(pieces)


def test_a_stream_of_events_is_not_held_back():
    stream = RedactedStream(Redaction([a_secret(value="correct horse battery")]))
    assert stream.piece(b"data: 1\n\n") == b"data: 1\n\n"
    assert stream.piece(b"data: corr") == b"data: "
    assert stream.piece(b"upt\n\n") == b"corrupt\n\n"


def test_short_values_are_not_looked_for():
    assert not Redaction([a_secret(value="1234567")])


def test_the_mask_names_the_secret_where_there_is_room():
    long, short = a_secret(value="0123456789abcdef"), a_secret(value="01234567")
    assert Redaction([long]).whole(b"a 0123456789abcdef b") == b"a [secret TOKEN]** b"
    assert Redaction([short]).whole(b"a 01234567 b") == b"a ******** b"
