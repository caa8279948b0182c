"""What a value looks like: its representations, bounded and sent."""

METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
PLAIN = frozenset((int, str, float, bool, bytes, list, dict, tuple, set, complex, frozenset, type(None)))
#: what is longer the guest drops, and a frame that is too long ends the context
LONGEST_TYPE = 128
MOST_METADATA = 1 << 20

WRONG = (Exception, SystemExit)  # what a method that shows a value may raise without an effect


def plain(value):
    try:
        text = repr(value)
        return text if type(text) is str else str.__str__(text)
    except WRONG as error:
        return "<%s object: its repr raised %s>" % (name_of(type(value)), describe(error))


def name_of(kind):
    try:
        return str(type.__dict__["__name__"].__get__(kind))
    except Exception:
        return "?"


def describe(error):
    try:
        return "%s: %s" % (name_of(type(error)), error)
    except Exception:
        return name_of(type(error))


def method_of(value, name):
    """Looked up on the class, so that objects that answer to every name (mocks, proxies) do not."""
    for kind in type.__dict__["__mro__"].__get__(type(value)):
        if name in type.__dict__["__dict__"].__get__(kind):
            return getattr(value, name)
    return None


def bundle(value):
    """What a value looks like: a dict of MIME types, and one of metadata."""
    kind = type(value)
    if kind in PLAIN:
        return {"text/plain": plain(value)}, {}
    data, metadata = {}, {}
    figure = figure_png(value)
    if figure:
        data["image/png"] = figure
    try:
        method = method_of(value, "_repr_mimebundle_")
        if method is not None:
            found = method(include=None, exclude=None)
            if isinstance(found, tuple) and len(found) == 2:
                found, metadata = found
            if isinstance(found, dict):
                data.update(found)
    except WRONG:
        pass
    for mime, name in METHODS:
        if mime not in data:
            try:
                method = method_of(value, name)
                found = method() if method is not None else None
                if isinstance(found, tuple) and len(found) == 2:
                    found, metadata[mime] = found
            except WRONG:
                continue
            if found is not None:
                data[mime] = found
    if "text/plain" not in data:
        data["text/plain"] = plain(value)
    return data, metadata


def encoded(mime, value):
    """The bytes of one representation; None when it is not what its type says."""
    if mime.endswith("json"):
        import json

        return json.dumps(value, allow_nan=False).encode()
    if isinstance(value, (bytes, bytearray)):
        if not mime.startswith("image/") or mime == "image/svg+xml":
            return bytes(value)
        import binascii

        return binascii.b2a_base64(value, newline=False)
    return raw(value) if isinstance(value, str) else None


def result(kind, data, metadata):
    parts, left_out = [], []
    for mime, value in list(data.items())[:64]:
        try:
            body = encoded(mime, value) if isinstance(mime, str) and len(mime) <= LONGEST_TYPE else None
        except WRONG:
            body = None
        if body is None:
            continue
        parts.append((raw(mime), body))
    while sum([len(body) for _, body in parts]) > MOST:
        largest = max(parts, key=lambda part: len(part[1]))
        parts.remove(largest)
        left_out.append(largest[0])
    told = b"{}"
    if metadata:
        try:
            told = encoded("json", metadata)
        except WRONG:
            pass
    if len(told) > MOST_METADATA:
        told = b"{}"
    flat = [told, b"\n".join(left_out)]
    for mime, body in parts:
        flat += (mime, body)
    return frame(kind, fields(flat))


def display(
    *values, include=None, exclude=None, metadata=None, transient=None, display_id=None, raw=False, clear=False, **rest
):
    """Show values: as rich as they know to be. With raw=True a value is a dict of MIME types itself."""
    for value in values:
        if raw and isinstance(value, dict):
            show(b"d", value, metadata or {})
        elif not shows_itself(value):
            data, found = bundle(value)
            show(b"d", data, metadata or found)


def shows_itself(value):
    if type(value) in PLAIN:
        return False
    try:
        method = method_of(value, "_ipython_display_")
        if method is None:
            return False
        method()
        return True
    except WRONG:
        return False


def show(kind, data, metadata):
    encoded_result = result(kind, data, metadata)
    out.flush()
    if getpid() != PID:
        write(1, raw(str(data.get("text/plain", ""))) + b"\n")
        return
    state.unsynced = True
    send(encoded_result)
    release()


def show_value(value):
    """The last expression of the code: shown, and kept as `_`, `__`, `___`."""
    if value is None:
        return
    names = builtins.__dict__
    if names.get("_") is not value:
        names["___"], names["__"], names["_"] = names.get("__", ""), names.get("_", ""), value
    if not shows_itself(value):
        show(b"v", *bundle(value))
