"""How an instance in a container gets its files: it asks the first process of its cell, which may still mount.

An instance gives up every privilege before anything else, so that one which is started ahead can have threads, and
one which is started by exec needs nothing but two descriptors. It asks once, and only our own code runs before that;
afterwards the cell has closed its ends, and listens to nobody.
"""

import errno
import os

from sandbox.compat import read_some, write_all
from sandbox.wire import FrameReader, loads, write_frame

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_QUESTIONS, _ANSWERS = "/opt/function/.questions", "/opt/function/.answers"
_DONE = b"done"


class Door(object):
    """The instance's side."""

    def __init__(self, question_fd, answer_fd):
        # type: (int, int) -> None
        self.fds = (question_fd, answer_fd)

    def fetch(self, place):
        # type: (dict[str, Any]) -> None
        """Have the files put in their places, and shut the door.

        Raises:
            OSError: The kernel refused; the text says what.
        """
        question_fd, answer_fd = self.fds
        write_frame(question_fd, place)
        os.close(question_fd)
        answer = b""
        while True:
            more = read_some(answer_fd, 4096)
            if not more:
                break
            answer += more
        os.close(answer_fd)
        if answer != _DONE:
            words = answer.decode("utf-8", "replace") or u"it ended without a word"
            raise OSError(errno.EPERM, "the container cannot be made: " + str(words))


def make():
    # type: () -> None
    """In the cell: make the door, before the instance is there."""
    for path in (_QUESTIONS, _ANSWERS):
        os.mkfifo(path, 0o600)


def enter():
    # type: () -> Door
    """In the instance, as long as it has the rights: the door of the cell that it is in."""
    return Door(os.open(_QUESTIONS, os.O_WRONLY), os.open(_ANSWERS, os.O_RDONLY))


def serve(put):
    # type: (Any) -> None
    """In the cell: *put* the files that the instance asks for in their places, and answer how that went."""
    question_fd, answer_fd = os.open(_QUESTIONS, os.O_RDONLY), os.open(_ANSWERS, os.O_WRONLY)
    for path in (_QUESTIONS, _ANSWERS):
        os.unlink(path)
    frame = FrameReader(question_fd).read()
    if frame is not None:
        try:
            put(loads(frame[0]))
            answer = _DONE
        except (OSError, IOError) as error:
            answer = (u"%s" % (error,)).encode("utf-8", "replace")
        write_all(answer_fd, answer)
    os.close(question_fd)
    os.close(answer_fd)
