"""What went wrong in the function, as the platform's three keys, and the full story for its log.

Exceptions belong to the function: their text, their type's name and their traceback are read in ways
that hostile classes cannot bend, and nothing here imports a module after the function's code has run.
"""

import io
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


def describe(error, trace, roots):
    # type: (BaseException, Any, list[str]) -> Failure
    """Describe *error*: its text, its class, and those frames of *trace* that lie below *roots*."""
    kind = type(error)
    return Failure(_message_of(error, kind), _name_of(kind), _own_frames(trace, roots))


def describe_syntax_error(error, module, roots):
    # type: (SyntaxError, str, list[str]) -> Failure
    """Describe source that does not compile, in the platform's own words (functiongraph.md, section 3.2)."""
    message = "Syntax error in module '%s'(%s)" % (module, _message_of(error, type(error)))
    frames = []
    if error.filename:
        frames.append('File "%s", line %s' % (_shorten(to_text(error.filename), roots), error.lineno))
        if error.text:
            frames.append("    " + to_text(error.text).strip())
    return Failure(message, _name_of(type(error)), frames)


def print_to_log(error, trace, stderr, roots):
    # type: (BaseException, Any, Any, list[str]) -> None
    """Write the full traceback, chained causes included, from the function's first frame on."""
    while trace is not None and trace.tb_next is not None and not _is_own(trace, roots):
        trace = trace.tb_next
    held, sys.stderr = sys.stderr, stderr
    try:
        if not PY2:
            BaseException.with_traceback(error, trace)
        _print_exception(type(error), error, trace)
    except BaseException:  # noqa: BLE001, S110  # an exception's own methods may raise anything while it is printed
        pass
    finally:
        sys.stderr = held


def _message_of(error, kind):
    # type: (BaseException, type) -> str
    try:
        if isinstance(error, SystemExit):
            text = u"user code called sys.exit(%s)" % (u"" if error.code is None else repr(error.code))
        elif PY2 and isinstance(error, KeyError):
            text = to_text(str(error))  # str() quotes the key, unicode() does not: as 3.x shows it
        else:
            text = text_type(error)
    except BaseException:  # noqa: BLE001  # a hostile __str__
        try:
            text = to_text(str(error))  # 2.7: a message of bytes that are not ASCII
        except BaseException:  # noqa: BLE001
            text = u"<unprintable %s object>" % _name_of(kind)
    return text[:MAX_MESSAGE_CHARS]


def _name_of(kind):
    # type: (type) -> str
    return to_text(_class_name(kind))[:MAX_MESSAGE_CHARS]


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
                    return line.decode("utf-8", "replace").strip()[:1000]
    except (IOError, OSError):
        pass
    return ""
