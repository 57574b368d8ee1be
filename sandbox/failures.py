"""What went wrong in the function, as the platform's three keys, and the full story for its log.

Exceptions belong to the function: their text, their type's name and their traceback are read in ways
that hostile classes cannot bend, and nothing here imports a module after the function's code has run.
"""

import io
import struct
import sys

from sandbox.compat import PY2, text_type, to_text

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

MAX_MESSAGE_CHARS = 64 * 1024
MAX_FRAMES = 50

# The interpreter's own printer: it follows __cause__ and __context__, copes with a __str__ that raises,
# and needs no import of traceback (4-8 ms in a fresh interpreter).
_print_exception = sys.__excepthook__
_class_name = type.__dict__["__name__"].__get__
_cut = text_type.__getitem__
_pack = struct.pack


class Failure(object):
    """The three keys of the platform, before they become JSON."""

    def __init__(self, message, type_name, frames=()):
        # type: (str, str, Any) -> None
        self.message = message
        self.type_name = type_name
        self.frames = list(frames)

    def to_dict(self, prefix=""):
        # type: (str) -> dict[str, Any]
        """The platform's error object, its message behind *prefix*."""
        return {"errorMessage": prefix + self.message, "errorType": self.type_name, "stackTrace": self.frames}


def describe(kind, error, trace, roots):
    # type: (type, BaseException, Any, list[str]) -> Failure
    """Describe *error*: its text, its class *kind*, and those frames of *trace* that lie below *roots*."""
    return Failure(_message_of(error, kind), name_of(kind), _own_frames(trace, roots))


def indescribable(kind):
    # type: (type) -> Failure
    """What can be told of an exception whose every attribute may be a trap: its class."""
    return Failure(_unprintable(kind), name_of(kind))


def describe_syntax_error(error, roots):
    # type: (SyntaxError, list[str]) -> Failure
    """Describe source that does not compile, in the words that the platform is known to have used for it."""
    path = _shorten(to_text(error.filename or "?"), roots)
    frames = [u'File "%s", line %s' % (path, error.lineno)]
    if error.text:
        frames.append(u"    " + to_text(error.text).strip())
    module = path[2:-3].replace(u"/", u".") if path.startswith(u"./") and path.endswith(u".py") else path
    message = u"Syntax error in module '%s'(%s)" % (module, _message_of(error, type(error)))
    return Failure(message, name_of(type(error)), frames)


def print_to_log(stderr, roots, _exc_info=sys.exc_info):
    # type: (Any, list[str], Any) -> None
    """Write the exception that is being handled, chained causes included, from the function's first frame on."""
    kind, error, trace = _exc_info()
    held = getattr(sys, "stderr", None)
    try:
        while trace is not None and trace.tb_next is not None and not _is_own(trace, roots):
            trace = trace.tb_next
        sys.stderr = stderr
        if not PY2:
            BaseException.with_traceback(error, trace)
        _print_exception(kind, error, trace)
        if PY2:
            # Its printer can leave an exception pending, of a metaclass for example, that would come up anywhere
            # after it. Here it comes up here: a -1 makes the interpreter ask whether there is one.
            _pack("b", -1)
    except BaseException:  # noqa: BLE001, S110  # an exception's own methods may raise anything while it is printed
        pass
    finally:
        if held is not None:
            sys.stderr = held


def name_of(kind):
    # type: (Any) -> str
    """The name of the class *kind*, past whatever its metaclass says."""
    # 2.7: a class that derives from nothing is no type.
    return to_text(_class_name(kind) if isinstance(kind, type) else kind.__name__)[:MAX_MESSAGE_CHARS]


def _unprintable(kind):
    # type: (type) -> str
    return u"<unprintable %s object>" % name_of(kind)


def _message_of(error, kind):
    # type: (BaseException, type) -> str
    try:
        if issubclass(kind, SystemExit):  # isinstance() would ask the object for a __class__
            code = error.code  # type: ignore[attr-defined]  # mypy learns from isinstance() alone
            text = u"user code called sys.exit(%s)" % (u"" if code is None else repr(code))
        elif PY2 and issubclass(kind, KeyError):
            text = to_text(str(error))  # str() quotes the key, unicode() does not: as 3.x shows it
        else:
            text = text_type(error)
    except BaseException:  # noqa: BLE001  # a hostile __str__
        try:
            text = to_text(str(error))  # 2.7: a message of bytes that are not ASCII
        except BaseException:  # noqa: BLE001  # as above
            text = _unprintable(kind)
    return _cut(text, slice(0, MAX_MESSAGE_CHARS))  # str() may give a subclass, with methods of the function's own


def _own_frames(trace, roots):
    # type: (Any, list[str]) -> list[str]
    frames = []  # type: list[tuple[str, int, str]]
    while trace is not None:
        if _is_own(trace, roots):
            code = trace.tb_frame.f_code
            frames.append((code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    lines = []  # type: list[str]
    for index, (path, number, name) in enumerate(frames):
        left_out = len(frames) - MAX_FRAMES
        if left_out > 0 and MAX_FRAMES // 2 <= index < MAX_FRAMES // 2 + left_out:
            if index == MAX_FRAMES // 2:
                lines.append("[%d frames left out]" % left_out)
            continue
        lines.append('File "%s", line %d, in %s' % (_shorten(to_text(path), roots), number, to_text(name)))
        source = _source_line(path, number)
        if source:
            lines.append("    " + source)
    return lines


def _is_own(trace, roots):
    # type: (Any, list[str]) -> bool
    path = to_text(trace.tb_frame.f_code.co_filename)
    return any(path.startswith(root + "/") for root in roots)


def _shorten(path, roots):
    # type: (str, list[str]) -> str
    for root in roots:
        if path.startswith(root + "/"):
            return "." + path[len(root) :]
    return path


def _source_line(path, number, _open=io.open):
    # type: (str, int, Any) -> str
    try:
        with _open(path, "rb") as source:
            for at, line in enumerate(source, 1):
                if at == number:
                    return to_text(line).strip()[:1000]
    except (IOError, OSError):
        pass
    return ""
