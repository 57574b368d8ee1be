"""Entry point of a child interpreter: ``python -s -u PATH/TO/sandbox ROLE FD...``.

The version gate stands above every other import, so that an interpreter that is too old says so
instead of failing on some syntax further down.
"""

import sys

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

EX_CONFIG = 78  # sysexits.h: something was found in an unconfigured or misconfigured state

if sys.version_info < (2, 7) or (3,) <= sys.version_info < (3, 6):
    sys.stderr.write("fgengine needs Python 2.7, or 3.6 or newer; this is %s\n" % sys.version.split()[0])
    sys.exit(EX_CONFIG)


def _import_privately(here):
    # type: (str) -> Any
    """Import the package from *here* without leaving its parent folder on ``sys.path``.

    The parent folder is the engine's site-packages once installed: a function must see nothing of it.
    """
    import types

    package = types.ModuleType("sandbox")
    package.__path__ = [here]
    sys.modules["sandbox"] = package
    return package


def main():
    # type: () -> None
    here = sys.path.pop(0)  # put there by the interpreter because it was given a folder to run
    package = _import_privately(here)
    if sys.argv[1] == "zygote":
        __import__("sandbox.zygote")
        control_fd, engine_pidfd, engine_pid = [int(number) for number in sys.argv[2:5]]
        package.zygote.serve(here, control_fd, engine_pidfd, engine_pid, sys.argv[5])
    elif sys.argv[1] == "house":
        __import__("sandbox.zygote")
        package.zygote.move_in(here, [int(number) for number in sys.argv[2:5]], sys.argv[5])
    else:
        # Not the zygote's module: an interpreter that is started for one function has no time for sockets and ctypes.
        __import__("sandbox.bootstrap")
        numbers = [int(number) for number in sys.argv[2:]]
        door = None
        if numbers[2:]:
            __import__("sandbox.door")
            door = package.door.Door(*numbers[2:])
        package.bootstrap.run(numbers[0], numbers[1], package.bootstrap.Prepared(), door=door)


if __name__ == "__main__":
    main()
