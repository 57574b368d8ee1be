"""What a function may do with processes: everything, with those that it started. The shield is not in its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import FunctionMaker

SOURCE = r'''
import ctypes, errno, fcntl, multiprocessing, os, resource, shutil, signal, socket, subprocess, sys, tempfile, threading
import time

libc = ctypes.CDLL(None, use_errno=True)


def square(number):
    return number * number


def subprocesses():
    """Output, status, a group of its own, terminate."""
    words = subprocess.check_output("echo one; (echo two | cat)", shell=True).decode().split()
    family = "sleep 20 & echo started; wait"
    group = subprocess.Popen(["sh", "-c", family], stdout=subprocess.PIPE, preexec_fn=os.setsid)
    group.stdout.readline()
    os.killpg(group.pid, signal.SIGTERM)
    group.stdout.close()
    return words + [group.wait() == -signal.SIGTERM]


def stop_and_continue():
    """Job control of a child."""
    pid = os.fork()
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    told = []
    os.kill(pid, 0)
    os.kill(pid, signal.SIGSTOP)
    told.append(os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]))
    os.kill(pid, signal.SIGCONT)
    told.append(os.WIFCONTINUED(os.waitpid(pid, os.WCONTINUED)[1]))
    os.kill(pid, signal.SIGKILL)
    told.append(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL)
    return told


def pools():
    """Processes, threads, locks and queues of multiprocessing."""
    pool = multiprocessing.Pool(2)
    try:
        return pool.map(square, range(5))
    finally:
        pool.terminate()
        pool.join()


def threads():
    """Started from a thread that is not the main one, and signalled."""
    heard = []
    thread = threading.Thread(target=lambda: heard.append(threading.current_thread() is thread))
    thread.start()
    thread.join()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.get_ident(), 0)
    return heard


def signals_of_its_own():
    """To itself, to a parent that is its own, when a parent dies."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, lambda number, frame: os.write(writing, b"u"))
        if os.fork() == 0:
            os.kill(os.getppid(), signal.SIGUSR1)
            os._exit(0)
        try:
            os.wait()
            time.sleep(0)
        finally:
            libc.prctl(1, signal.SIGKILL)
            os._exit(0)
    heard = os.read(reading, 1) == b"u"
    os.waitpid(child, 0)
    return heard


def told_by_the_kernel():
    """SIGIO of a pipe (F_SETOWN) for a child."""
    ready, telling = os.pipe()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        os.write(telling, b"!")
        time.sleep(20)
        os._exit(0)
    os.read(ready, 1)
    fcntl.fcntl(reading, fcntl.F_SETOWN, child)
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK | 0o20000)
    os.write(writing, b"!")
    return os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGIO


def limits_and_priorities():
    """Its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
    told = [resource.getrlimit(resource.RLIMIT_CPU) == (1000, 1000), -os.nice(0) + os.nice(1)]
    told.append(libc.prctl(36, 1, 0, 0, 0))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
        told.append(resource.prlimit(os.getpid(), resource.RLIMIT_CPU) == (1000, 1000))
    return told


def files():
    """From folder to folder, a hard link, a look at its own process and at its children."""
    folder = tempfile.mkdtemp()
    for name in ("one", "other"):
        os.mkdir(os.path.join(folder, name))
    open(folder + "/one/file", "w").close()
    os.rename(folder + "/one/file", folder + "/other/file")
    os.rename(folder + "/other", folder + "/one/other")
    os.link(folder + "/one/other/file", folder + "/again")
    shutil.rmtree(folder)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    seen = [os.readlink("/proc/%s/cwd" % pid) == os.getcwd() for pid in ("self", child.pid)]
    child.communicate()
    return seen


def sockets():
    """Named, abstract and over loopback."""
    for family, address in ((socket.AF_UNIX, "\0fgengine-%d" % os.getpid()), (socket.AF_INET, ("127.0.0.1", 0))):
        server, client = socket.socket(family), socket.socket(family)
        server.bind(address)
        server.listen(1)
        client.connect(server.getsockname())
        server.close(), client.close()
    return True


def pidfds():
    """The newest ways, where the runtime has them."""
    if not hasattr(os, "pidfd_open"):
        return [True]
    import asyncio

    async def watched():
        process = await asyncio.create_subprocess_exec("sleep", "20")
        process.terminate()
        return await process.wait()

    watcher = asyncio.PidfdChildWatcher() if hasattr(asyncio, "PidfdChildWatcher") else None
    loop = asyncio.new_event_loop()
    if watcher:
        watcher.attach_loop(loop)
        asyncio.set_child_watcher(watcher)
    told = [loop.run_until_complete(watched()) == -signal.SIGTERM]
    loop.close()
    process = subprocess.Popen(["sleep", "20"])
    pidfd = os.pidfd_open(process.pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    return told + [process.wait() == -signal.SIGKILL]


def handler(event, context):
    return globals()[event]()
'''

# 2.7 and 3.6 have no async def at their disposal, or not in this form: it is compiled where it runs.
OLD_SOURCE = SOURCE[: SOURCE.index("def pidfds():")] + SOURCE[SOURCE.index("def handler(event") :]

FREEDOMS = {
    "subprocesses": ["one", "two", True],
    "stop_and_continue": [True, True, True],
    "pools": [0, 1, 4, 9, 16],
    "threads": [True],
    "signals_of_its_own": True,
    "told_by_the_kernel": True,
    "files": [True, True],
    "sockets": True,
    "pidfds": [True, True],
}


@pytest.fixture(params=["fork", "spawn"])
def starting_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Both ways to start an instance."""
    with Engine(start_method=request.param) as own:
        yield own


@pytest.mark.slow
@pytest.mark.parametrize("what", FREEDOMS)
def test_function_does_what_it_likes_with_its_own(
    starting_engine: Engine, make_function: FunctionMaker, runtime: str, what: str
) -> None:
    """Processes, threads, signals, pools, files and sockets work as anywhere."""
    if what == "pidfds" and runtime != "python3.9":
        pytest.skip("3.9 brought them")
    source = SOURCE if runtime == "python3.9" else OLD_SOURCE
    result = starting_engine.invoke(make_function(source, timeout_s=15.0, main_thread=what == "pidfds"), what)

    assert (Status.SUCCESS, FREEDOMS[what]) == (result.status, result.value), result.error


def test_function_sets_its_own_limits_and_priorities(
    starting_engine: Engine, make_function: FunctionMaker, runtime: str
) -> None:
    """By the number 0, which is how it is done everywhere, and reads them by any."""
    source = SOURCE if runtime == "python3.9" else OLD_SOURCE
    result = starting_engine.invoke(make_function(source), "limits_and_priorities")

    assert [True, 1, 0, *([True] if runtime != "python2.7" else [])] == result.value, result.error
