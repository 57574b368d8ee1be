"""The kernel's limits: real groups where this machine has them, and the files of version 2 where it has none.

Children are processes of this very interpreter. Each waits for a line before it does anything, ends when its standard
input does, and takes or forks no more than its test says, should the limit not hold.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.cgroups import files, owner
from engine.cgroups import mounts as cgroup_mounts
from engine.cgroups.controller import Controller, Unavailable, probe
from engine.cgroups.limits import Group, Places
from engine.cgroups.mounts import V1, V2, Tree
from engine.clock import NS_PER_S, monotonic_ns
from engine.scratch import is_in_memory

MB = 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534

GROW = """
    import mmap
    def grow(megabytes):
        block = mmap.mmap(-1, megabytes << 20)
        for at in range(0, megabytes << 20, 4096):
            block[at:at + 1] = b"x"
        return block
"""
FORK = """
    import os, signal, sys
    def fork(count):
        # Children that end with their standard input, as many as can be had.
        for number in range(count):
            try:
                pid = os.fork()
            except OSError as error:
                return number, error.errno
            if not pid:
                sys.stdin.read()
                os._exit(0)
        return count, 0
"""
BECOME_NOBODY = f"""
    import os
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
"""

Starter = Callable[..., "subprocess.Popen[str]"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and give groups away")


def tell(child: subprocess.Popen[str], line: str = "go") -> str:
    """Let *child* go on, and return the line that it answers; an empty one when it ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def wait_dead(pid: int) -> bool:
    """Wait until *pid*, which need not be a child of ours, has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(10_000))
    finally:
        os.close(pidfd)


def own_directories() -> list[str]:
    """The directories below our own groups that this process made."""
    mine = f"fgengine-{os.getpid()}-"
    return [
        os.path.join(tree.own, name)
        for tree in cgroup_mounts.trees()
        for name in os.listdir(tree.own)
        if name.startswith(mine)
    ]


@pytest.fixture(autouse=True)
def _no_group_is_left() -> Iterator[None]:
    before = own_directories()
    yield
    assert before == own_directories()


@pytest.fixture
def controller() -> Iterator[Controller]:
    found = probe()
    if isinstance(found, Unavailable):
        pytest.skip(found.reason)
    yield found
    found.close()


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts children; they are killed in the end."""
    with ExitStack() as ends:

        def starter(*sources: str) -> subprocess.Popen[str]:
            source = "\n".join(map(textwrap.dedent, ("import sys; sys.stdin.readline()", *sources)))
            child = subprocess.Popen(
                [sys.executable, "-c", source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            ends.enter_context(child)
            ends.callback(child.kill)
            return child

        yield starter


def tree_of(controller_name: str) -> Tree:
    """Our own group in the tree of version 1 of this controller, when it is ours to make groups in."""
    for tree in cgroup_mounts.trees():
        if controller_name in tree.controllers and os.access(tree.own, os.W_OK):
            return tree
    pytest.skip(f"no cgroup v1 {controller_name} tree to make groups in")


@pytest.fixture
def given_group() -> Iterator[str]:
    """A memory group of version 1 below our own, for tests to fill."""
    path = os.path.join(tree_of("memory").own, f"fgtest-{os.getpid()}")
    files.make(path)
    yield path
    assert files.destroy(path, monotonic_ns() + 5 * NS_PER_S)


@pytest.fixture
def given_v2_group() -> Iterator[str]:
    """A group of version 2 below our own, for tests to fill."""
    for tree in cgroup_mounts.trees():
        if tree.version == V2 and os.access(tree.own, os.W_OK):
            break
    else:
        pytest.skip("no cgroup v2 tree to make groups in")
    path = os.path.join(tree.own, f"fgtest-{os.getpid()}")
    files.make(path)
    yield path
    assert files.destroy(path, monotonic_ns() + 5 * NS_PER_S)


# Limits


def test_growth_over_the_limit_is_killed_by_the_kernel_and_counted(controller: Controller, start: Starter) -> None:
    """The process dies of SIGKILL, and the count tells who sent it."""
    group = controller.create(64 * MB)
    child = start(GROW, "grow(200); print('alive', flush=True)")
    group.add(child.pid)

    assert 0 == group.oom_kills()
    assert "" == tell(child)
    assert -signal.SIGKILL == child.wait()
    assert 1 == group.oom_kills()
    assert group.remove()


def test_growth_below_the_limit_goes_on(controller: Controller, start: Starter) -> None:
    """A limit of 64 MB lets a process grow by 40 MB, and nothing is counted."""
    group = controller.create(64 * MB)
    child = start(GROW, "block = grow(40); print('alive', flush=True)")
    group.add(child.pid)

    assert "alive" == tell(child)
    assert 0 == group.oom_kills()
    assert 0 == child.wait()
    assert group.remove()


def test_descendants_share_the_limit(controller: Controller, start: Starter) -> None:
    """Two processes of 40 MB each do not fit in 64 MB: what is forked in a group is born there."""
    group = controller.create(64 * MB)
    child = start(
        GROW,
        """
        import os
        pid = os.fork()
        if not pid:
            sys.stdin.readline()
        block = grow(40)
        if not pid:
            os._exit(0)
        print('holds', flush=True)
        os.wait()
        """,
    )
    group.add(child.pid)

    assert "holds" == tell(child)
    assert 0 == group.oom_kills()
    child.communicate("go\n", timeout=10)
    assert group.oom_kills() in {1, 2}  # version 1 kills another when the first takes long to end; version 2 kills all
    assert group.remove()


def test_files_in_memory_count_but_cache_of_files_does_not(
    controller: Controller, start: Starter, tmp_path: Path
) -> None:
    """100 MB go to a disk through a group of 64 MB, and do not fit in a file that is in memory alone."""
    if is_in_memory(str(tmp_path)):
        pytest.skip("the temporary folder is in memory")
    group = controller.create(64 * MB)
    child = start(
        f"""
        import os
        def fill(fd):
            for _ in range(100):
                os.write(fd, bytes(1 << 20))
        fill(os.open({str(tmp_path / "file")!r}, os.O_CREAT | os.O_WRONLY))
        print("written", flush=True)
        fill(os.memfd_create("file"))
        """
    )
    group.add(child.pid)

    assert "written" == tell(child)
    assert 0 == group.oom_kills()
    assert -signal.SIGKILL == child.wait()
    assert 1 == group.oom_kills()
    assert group.remove()


def limits_tasks(controller: Controller) -> None:
    if not controller.limits_tasks:
        pytest.skip("; ".join(controller.missing))


def test_fork_over_the_limit_fails(controller: Controller, start: Starter) -> None:
    """With a limit of one task the first fork fails: shown before the next test forks in a loop."""
    limits_tasks(controller)
    group = controller.create(256 * MB, max_tasks=1)
    child = start(FORK, "print(*fork(1), flush=True)")
    group.add(child.pid)

    assert f"0 {errno.EAGAIN}" == tell(child)
    assert 0 == child.wait()
    assert group.remove()


def test_forks_stop_at_the_limit_and_not_before(controller: Controller, start: Starter) -> None:
    """Of 13 forks under a limit of 8 tasks 7 succeed, the process itself being the eighth."""
    limits_tasks(controller)
    group = controller.create(256 * MB, max_tasks=8)
    child = start(FORK, "print(*fork(8 + 5), flush=True); sys.stdin.readline()")
    group.add(child.pid)

    assert f"7 {errno.EAGAIN}" == tell(child)
    assert "8\n" == files.read(str(group._pids), "pids.current")
    assert 8 == len(files.members(*group._directories))
    files.kill(*group._directories)
    assert group.remove()


def test_thread_over_the_limit_fails(controller: Controller, start: Starter) -> None:
    """Threads are tasks too."""
    limits_tasks(controller)
    group = controller.create(256 * MB, max_tasks=2)
    child = start(
        """
        import threading
        done = threading.Event()
        started = 0
        try:
            for _ in range(5):
                threading.Thread(target=done.wait).start()
                started += 1
        except RuntimeError:
            pass
        done.set()
        print(started, flush=True)
        """
    )
    group.add(child.pid)

    assert "1" == tell(child)
    assert 0 == child.wait()
    assert group.remove()


def test_threads_of_a_process_are_counted(start: Starter) -> None:
    """By which an owner whose main thread has ended is told from one that is dead."""
    child = start("import threading; threading.Thread(target=sys.stdin.readline).start(); print(1, flush=True)")
    tell(child)

    assert 2 == files.count_threads(child.pid)
    assert "" == tell(child)
    assert 0 == child.wait()
    assert 0 == files.count_threads(child.pid)


# Ends

DAEMONS = """
    first = os.fork()
    if not first:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    os.waitpid(first, 0)
    fork(3)
    sys.stdin.read()
"""


@pytest.mark.parametrize("at_once", [True, False])
def test_kill_takes_all_that_is_in_the_group(controller: Controller, start: Starter, *, at_once: bool) -> None:
    """Also a daemon of its own session, which has left the process tree."""
    group = controller.create(256 * MB)
    if not at_once:  # as on a machine that has version 1 alone
        assert group._pids is None or files.remove(tuple(d for d in group._directories if d != group._memory), 0)
        group._directories = (group._memory,)
    elif not controller.kills_at_once:
        pytest.skip("; ".join(controller.missing))
    child = start(FORK, DAEMONS)
    group.add(child.pid)
    daemon = int(tell(child))

    assert {child.pid, daemon} <= files.members(*group._directories)
    files.kill(*group._directories)
    assert wait_dead(daemon)
    assert -signal.SIGKILL == child.wait()
    assert group.remove()
    assert frozenset() == files.members(*group._directories)


def test_kill_takes_what_forks_meanwhile(controller: Controller, start: Starter) -> None:
    """Each of 2,000 generations is forked by the one before, which ends: killed one by one, as on version 1 alone."""
    group = controller.create(256 * MB, max_tasks=4)
    child = start(
        """
        import os
        print("forks", flush=True)
        for _ in range(2000):
            if os.fork():
                os._exit(0)
        print("was not killed")
        """
    )
    group.add(child.pid)
    tell(child)
    files.kill(group._memory)

    assert child.stdout is not None
    assert "" == child.stdout.read()
    assert group.remove()


def test_kill_looks_again_for_what_was_forked_since(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it finds nobody new; who is listed no more when its pidfd is open is not signalled."""
    first, second, left = (start("sys.stdin.read()") for _ in range(3))
    both = frozenset({first.pid, second.pid})
    alone = frozenset({first.pid})
    listings = [alone | {left.pid}, alone, both, both, both]
    monkeypatch.setattr(files, "members", lambda *_groups: listings.pop(0))
    files.kill("any")

    assert [] == listings
    assert [-signal.SIGKILL] * 2 == [first.wait(), second.wait()]
    assert left.poll() is None


def test_remove_waits_for_the_last_process_but_not_for_ever(controller: Controller, start: Starter) -> None:
    """A group with a process stays, and can be removed when that has ended, also before it is reaped."""
    group = controller.create(256 * MB)
    child = start("sys.stdin.read()")
    group.add(child.pid)

    assert not group.remove(0)
    assert all(map(os.path.isdir, group._directories))
    files.kill(*group._directories)
    assert group.remove()  # the zombie is reaped afterwards
    assert [False] * len(group._directories) == [*map(os.path.exists, group._directories)]
    assert group.remove()


def test_group_with_a_dying_process_is_removed_on_version_1(controller: Controller, start: Starter) -> None:
    """Version 1 does not tell when a group is empty: its processes are waited for, that of 100 MB for some ms."""
    group = controller.create(256 * MB)
    rest = tuple(each for each in group._directories if each != group._memory)
    group._directories = (group._memory,)
    child = start(GROW, "block = grow(100); print('holds', flush=True); sys.stdin.read()")
    group.add(child.pid)
    tell(child)

    files.kill(*group._directories)
    assert group.remove()
    assert -signal.SIGKILL == child.wait()
    assert files.remove(rest, 0)


def test_process_that_is_gone_before_it_is_waited_for_is_no_hindrance(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was listed, and was reaped before it could be opened."""
    gone = start()
    gone.communicate("go\n")
    listings = [frozenset({gone.pid}), frozenset[int]()]
    monkeypatch.setattr(files, "members", lambda *_groups: listings.pop(0))

    assert files.wait_empty(("any",), monotonic_ns() + NS_PER_S)
    assert [] == listings


def test_processes_of_other_namespaces_are_not_waited_for_nor_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed as 0, which to a signal would mean our own process group."""
    listings = [frozenset({0})] * 4
    monkeypatch.setattr(files, "members", lambda *_groups: listings.pop())

    assert not files.wait_empty(("any",), monotonic_ns() + 60 * NS_PER_S)
    files.kill("any")
    assert [] == listings  # one for the wait; two for the kill, and one more that shows nobody new


def test_group_with_a_dying_process_is_removed_on_version_2(given_v2_group: str, start: Starter) -> None:
    """A rmdir that comes too early waits for the kernel's word that the group is empty."""
    child = start("sys.stdin.read()")
    files.write(given_v2_group, "cgroup.procs", str(child.pid))

    assert not files.remove((given_v2_group,), 0)
    files.kill(given_v2_group)
    assert files.remove((given_v2_group,), monotonic_ns() + 5 * NS_PER_S)
    assert -signal.SIGKILL == child.wait()


def test_close_kills_and_removes_what_is_left(start: Starter) -> None:
    """Groups that nobody removed go with the engine, and what is in them too."""
    before = own_directories()  # the engine that other tests share has some
    found = probe()
    if isinstance(found, Unavailable):
        pytest.skip(found.reason)
    child = start("sys.stdin.read()")
    found.create(256 * MB).add(child.pid)
    found.create(256 * MB)
    assert before != own_directories()
    found.close()

    assert before == own_directories()
    assert -signal.SIGKILL == child.wait()


def test_add_of_a_process_that_is_gone_is_an_error(controller: Controller, start: Starter) -> None:
    """It names the file, and the group can be removed."""
    child = start()
    tell(child)
    child.wait()
    group = controller.create(256 * MB)

    with pytest.raises(ProcessLookupError, match=r"cgroup\.procs"):
        group.add(child.pid)
    assert group.remove()


def test_create_that_fails_leaves_nothing(controller: Controller) -> None:
    """Directories that were made before the kernel refused are removed."""
    with pytest.raises(OSError, match=r"Invalid argument: .*memory\."):
        controller.create(-5)
    assert [[]] * len(controller._parents) == [
        [each.name for each in os.scandir(parent.path) if each.is_dir()] for parent in controller._parents
    ]


# Whose a group is

ENGINE = """
    import subprocess
    from engine.cgroups.controller import probe
    controller = probe()
    if not hasattr(controller, "create"):
        print(controller.reason, flush=True)
        sys.exit()
    member = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], stdin=subprocess.DEVNULL)
    group = controller.create(1 << 28)
    group.add(member.pid)
    print(member.pid, *(parent.path for parent in controller._parents), flush=True)
    sys.stdin.read()
"""


def test_groups_of_a_dead_engine_are_swept_with_what_is_in_them(start: Starter) -> None:
    """An engine's groups are left alone while it lives; after its SIGKILL the next one clears them away."""
    first = start(ENGINE)
    answer = tell(first)
    pid, *paths = answer.split(" ")
    if not pid.isdigit():
        pytest.skip(answer)
    with_first = probe()
    assert isinstance(with_first, Controller)
    with_first.close()
    assert all(map(os.path.isdir, paths))
    assert Path(f"/proc/{pid}").exists()

    first.kill()
    first.wait()
    after_first = probe()
    assert isinstance(after_first, Controller)
    after_first.close()
    assert [False] * len(paths) == [*map(os.path.exists, paths)]
    assert wait_dead(int(pid))


def test_sweep_leaves_alone_what_is_not_known_to_be_abandoned(given_group: str, start: Starter) -> None:
    """Foreign names, living owners, owners in other namespaces, groups of another user; also when they are empty."""
    own_name = owner.own_name()
    prefix, pid, ticks, namespaces, number = own_name.split("-")
    gone = start()
    gone.communicate("go\n")
    dead = "-".join((prefix, str(gone.pid), ticks, namespaces, number))
    reused = f"{prefix}-{pid}-1-{namespaces}-{number}"
    elsewhere = "-".join((prefix, str(gone.pid), ticks, "1.1", number))
    strange = ["other", "fgengine-", f"fgengine-{gone.pid}", f"{dead}0", f"x{dead}", "fgtest-1"]
    kept = {own_name, elsewhere, *strange}
    for name in kept | {dead, reused}:
        files.make(os.path.join(given_group, name))
    if os.geteuid() == 0:
        others = dead[:-1] + ("1" if dead[-1] == "0" else "0")
        files.make(os.path.join(given_group, others))
        os.chown(os.path.join(given_group, others), NOBODY, NOBODY)
        kept.add(others)
    owner.sweep(given_group)

    assert kept == {entry.name for entry in os.scandir(given_group) if entry.is_dir()}


def test_zombie_owner_is_dead(given_group: str, start: Starter) -> None:
    """An engine whose parent has not reaped it yet has ended all the same."""
    child = start(
        """
        from engine.cgroups import owner
        print(owner.own_name(), flush=True)
        """
    )
    name = tell(child)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    files.make(os.path.join(given_group, name))
    owner.sweep(given_group)

    assert not os.path.exists(os.path.join(given_group, name))


# Ordinary users


@as_root
def test_ordinary_user_without_a_group_of_its_own_is_told_why(start: Starter) -> None:
    """The reason names the controller, the permission and the place."""
    tree = tree_of("memory")
    child = start("from engine.cgroups.controller import probe", BECOME_NOBODY, "print(probe(), flush=True)")

    assert f"Unavailable(reason='memory: Permission denied: {tree.own}/fgengine-" in tell(child)
    assert 0 == child.wait()


def give_away(group: str, *files: str) -> None:
    """Make *group* and *files* in it Nobody's."""
    for path in (group, *(os.path.join(group, name) for name in files)):
        os.chown(path, NOBODY, NOBODY)


@as_root
def test_ordinary_user_can_use_a_group_that_was_given_to_it(given_group: str, start: Starter) -> None:
    """A memory group of version 1, delegated by root: the limit holds and the group is removed; there is no more."""
    give_away(given_group, "cgroup.procs")
    child = start(
        "from engine.cgroups.controller import probe",
        GROW,
        BECOME_NOBODY,  # last: it may not be able to read the modules any more
        """
        controller = probe()
        print(controller.version, controller.limits_tasks, controller.kills_at_once, *controller.missing, flush=True)
        sys.stdin.readline()
        group = controller.create(64 << 20, max_tasks=2)
        pid = os.fork()
        if not pid:
            sys.stdin.readline()
            grow(200)
            os._exit(0)
        group.add(pid)
        print("added", flush=True)
        status = os.waitpid(pid, 0)[1]
        print(status, group.oom_kills(), group.remove(), flush=True)
        controller.close()
        """,
    )
    files.write(given_group, "cgroup.procs", str(child.pid))

    version, limits, at_once, missing = tell(child).split(" ", 3)
    assert ("1", "False", "False") == (version, limits, at_once)
    assert "pids: Permission denied" in missing
    assert "added" == tell(child)
    assert f"{signal.SIGKILL:d} 1 True" == tell(child)
    assert 0 == child.wait()
    assert [] == [entry.name for entry in os.scandir(given_group) if entry.is_dir()]


@as_root
@pytest.mark.parametrize("whole", [True, False])
def test_ordinary_user_kills_at_once_in_a_given_group_of_version_2(
    given_group: str, given_v2_group: str, start: Starter, *, whole: bool
) -> None:
    """When it may put processes there, which takes the right to write to the group that both places have in common."""
    give_away(given_group, "cgroup.procs")
    give_away(given_v2_group, *(["cgroup.procs"] if whole else []))
    child = start(
        "from engine.cgroups import files; from engine.cgroups.controller import probe",
        BECOME_NOBODY,
        """
        controller = probe()
        group = controller.create(1 << 28)
        pid = os.fork()
        if not pid:
            sys.stdin.read()
            os._exit(0)
        group.add(pid)
        files.kill(*group._directories)
        os.waitpid(pid, 0)
        removed = group.remove()
        controller.close()
        print(controller.kills_at_once, removed, *controller.missing, flush=True)
        """,
    )
    for group in (given_group, given_v2_group):
        files.write(group, "cgroup.procs", str(child.pid))

    at_once, removed, missing = tell(child).split(" ", 2)
    assert (str(whole), "True") == (at_once, removed)
    assert whole == (f"cgroup.kill: Permission denied: {given_v2_group}/cgroup.procs" not in missing)
    assert 0 == child.wait()


# What /proc tells

HYBRID_MOUNTS = rb"""23 1 259:0 / / rw - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 master:1 - cgroup cgroup rw,memory
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup systemd rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 none rw,nsdelegate
"""


def test_parse_finds_our_group_in_every_tree() -> None:
    """Version 1 by its controllers or by its name, version 2 by the empty field."""
    membership = b"9:name=systemd:/user.slice\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/user.slice/x:y.scope\n"

    assert [
        Tree(V1, frozenset({"name=systemd"}), "/sys/fs/cgroup/systemd/user.slice"),
        Tree(V1, frozenset({"memory"}), "/sys/fs/cgroup/memory/a/b"),
        Tree(V1, frozenset({"cpu", "cpuacct"}), "/sys/fs/cgroup/cpu,cpuacct"),
        Tree(V2, frozenset(), "/sys/fs/cgroup/unified/user.slice/x:y.scope"),
    ] == cgroup_mounts.parse(membership, HYBRID_MOUNTS)


def test_parse_leaves_out_what_is_not_mounted() -> None:
    """A hierarchy that is there and mounted nowhere cannot be used."""
    assert [] == cgroup_mounts.parse(b"8:pids:/\n", HYBRID_MOUNTS)


def test_parse_undoes_octal_escapes() -> None:
    """Blanks, tabs, line ends and backslashes in mountinfo are octal, in /proc/PID/cgroup they are not."""
    mounts = rb"41 31 0:38 /with\040blank /mnt/a\011b\134c\012d rw - cgroup2 none rw" + b"\n"

    assert ["/mnt/a\tb\\c\nd/e f"] == [tree.own for tree in cgroup_mounts.parse(b"0::/with blank/e f\n", mounts)]


@pytest.mark.parametrize(
    ("group", "root", "own"),
    [
        (b"/docker/abc", b"/docker/abc", ["/point"]),
        (b"/docker/abc/x", b"/docker/abc", ["/point/x"]),
        (b"/docker/abcd", b"/docker/abc", []),
        (b"/docker", b"/docker/abc", []),
        (b"/", b"/", ["/point"]),
        (b"/x", b"/", ["/point/x"]),
        # A cgroup namespace: its root is /, and what is beside it begins with /..
        (b"/../x", b"/", []),
        (b"/", b"/../..", []),
    ],
)
def test_parse_follows_a_mount_of_a_part(group: bytes, root: bytes, own: list[str]) -> None:
    """A container mounts its own group as the whole tree: the way to our group starts there."""
    mounts = b"41 31 0:38 " + root + b" /point rw - cgroup2 cgroup2 rw\n"

    assert own == [tree.own for tree in cgroup_mounts.parse(b"0::" + group + b"\n", mounts)]


def test_trees_are_those_that_list_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What /proc tells is believed only when the group tells the same: something else may be mounted over it."""
    trees = [Tree(V2, frozenset(), str(tmp_path / name)) for name in ("ours", "theirs", "gone")]
    for tree, pid in zip(trees, (os.getpid(), 1), strict=False):
        os.mkdir(tree.own)
        Path(tree.own, "cgroup.procs").write_text(f"2\n{pid}\n", encoding="ascii")
    monkeypatch.setattr(cgroup_mounts, "parse", lambda *_texts: trees)

    assert trees[:1] == cgroup_mounts.trees()


def test_machine_with_groups_has_trees() -> None:
    """Where the usual place is mounted our own group is found."""
    if not os.path.exists("/sys/fs/cgroup/cgroup.procs") and not os.path.isdir("/sys/fs/cgroup/memory"):
        pytest.skip("no cgroup filesystem in the usual place")
    assert cgroup_mounts.trees()


def test_no_tree_at_all_is_a_reason() -> None:
    """Where nothing is mounted there is nothing to try."""
    assert Unavailable("memory: no cgroup tree with this controller shows our own group") == probe(trees=[])


# Version 2, whose memory controller needs a machine that has it not in version 1: the files, in a folder


class Version2:
    """A folder that looks like a tree of version 2: the kernel's files come and go with a group."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.without: set[str] = set()
        self.refused: dict[tuple[str, str], int] = {}
        self.make(str(root))
        self._rmdir = os.rmdir
        monkeypatch.setattr(files, "make", self.make)
        monkeypatch.setattr(files, "write", self.write)
        monkeypatch.setattr(os, "rmdir", self.remove)

    def tree(self) -> Tree:
        return Tree(V2, frozenset(), str(self.root))

    def make(self, group: str) -> None:
        os.makedirs(group, exist_ok=True)
        files = dict.fromkeys(("cgroup.subtree_control", "cgroup.procs", "cgroup.kill", "memory.oom.group"), "")
        files |= dict.fromkeys(("memory.max", "memory.swap.max", "pids.max"), "max\n")
        files["cgroup.controllers"] = "cpu memory pids\n"
        files["cgroup.events"] = "populated 0\nfrozen 0\n"
        files["memory.events"] = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"
        for name in files.keys() - self.without:
            Path(group, name).write_text(files[name], encoding="ascii")

    def write(self, group: str, name: str, text: str) -> None:
        path = Path(group, name)
        if (name, text) in self.refused:
            raise OSError(self.refused[name, text], "refused", str(path))
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "not there", str(path))
        if name == "cgroup.subtree_control":
            words = set(path.read_text(encoding="ascii").split())
            words = words | {text[1:]} if text[0] == "+" else words - {text[1:]}
            text = " ".join(sorted(words))
        path.write_text(text, encoding="ascii")

    def remove(self, path: str) -> None:
        if str(path).startswith(f"{self.root}/"):
            for entry in [*os.scandir(path)]:
                if entry.is_file():
                    os.unlink(entry.path)
        self._rmdir(path)

    def texts(self, group: str, *names: str) -> list[str]:
        return [Path(group, name).read_text(encoding="ascii") for name in names]


@pytest.fixture
def version2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version2:
    return Version2(tmp_path / "own", monkeypatch)


def opened(found: Controller | Unavailable) -> Controller:
    assert isinstance(found, Controller), found
    return found


def kept_by(controller: Controller) -> tuple[int, bool, bool, bool]:
    """The version; and whether it counts swap, limits tasks and kills at once."""
    return controller.version, controller.counts_swap, controller.limits_tasks, controller.kills_at_once


def test_version_2_sets_all_limits_in_one_group(version2: Version2) -> None:
    """No swap, and the whole group dies when one process of it must."""
    controller = opened(probe(trees=[version2.tree()]))
    group = controller.create(64 * MB, max_tasks=8)

    assert (2, True, True, True) == kept_by(controller)
    assert () == controller.missing
    assert 1 == len(group._directories)
    assert [str(64 * MB), "0", "1", "8"] == version2.texts(
        group._memory, "memory.max", "memory.swap.max", "memory.oom.group", "pids.max"
    )
    group.add(4711)
    assert ["4711"] == version2.texts(group._memory, "cgroup.procs")
    version2.write(group._memory, "cgroup.procs", "")
    files.kill(*group._directories)
    assert ["1", "0"] == version2.texts(group._memory, "cgroup.kill", "pids.max")
    assert group.remove()
    controller.close()
    assert [] == [entry for entry in os.scandir(version2.root) if entry.is_dir()]


def test_version_2_tells_kills(version2: Version2) -> None:
    """``oom_kill`` is neither ``oom`` nor ``oom_group_kill``; it is read through a descriptor that is kept."""
    controller = opened(probe(trees=[version2.tree()]))
    group = controller.create(64 * MB)

    assert 2 == group.oom_kills()
    assert group._events_fd is not None
    assert not os.get_inheritable(group._events_fd)
    group.forget()
    assert group._events_fd is None
    controller.close()


def test_version_2_of_an_older_kernel_does_without(version2: Version2) -> None:
    """No cgroup.kill before 5.14, no memory.swap.max without swap accounting."""
    version2.without = {"cgroup.kill", "memory.swap.max"}
    controller = opened(probe(trees=[version2.tree()]))
    controller.create(64 * MB)

    assert (2, False, True, False) == kept_by(controller)
    assert ("cgroup.kill: not before Linux 5.14",) == controller.missing
    controller.close()


def test_version_2_allows_controllers_and_forbids_them_again(version2: Version2) -> None:
    """What was allowed in our own group before stays as it was."""
    version2.write(str(version2.root), "cgroup.subtree_control", "+pids")
    controller = opened(probe(trees=[version2.tree()]))

    for path in (str(version2.root), controller._memory.path):
        assert ["memory pids"] == version2.texts(path, "cgroup.subtree_control")
    controller.close()
    assert ["pids"] == version2.texts(str(version2.root), "cgroup.subtree_control")


def test_version_2_refuses_limits_below_a_group_with_processes(version2: Version2) -> None:
    """That is the rule for all groups but the root; the reason says so, and nothing is left."""
    version2.refused["cgroup.subtree_control", "+memory"] = errno.EBUSY
    found = probe(trees=[version2.tree()])

    path = version2.root / "cgroup.subtree_control"
    assert (
        Unavailable(f"memory: the kernel lets a group have processes or limits below it, never both: {path}") == found
    )
    assert [] == [entry for entry in os.scandir(version2.root) if entry.is_dir()]
    assert [""] == version2.texts(str(version2.root), "cgroup.subtree_control")


def test_version_2_takes_a_group_that_the_user_hands_over(version2: Version2) -> None:
    """Beside our own, where there are no processes; our own stays as it is."""
    own = version2.root / "engine"
    given = version2.root / "given"
    for each in (own, given):
        version2.make(str(each))
    controller = opened(probe(str(given), trees=[Tree(V2, frozenset(), str(own))]))
    group = controller.create(64 * MB)

    assert group._memory.startswith(f"{given}/fgengine-{os.getpid()}-")
    assert ["", "memory pids"] == [
        *version2.texts(str(own), "cgroup.subtree_control"),
        *version2.texts(str(given), "cgroup.subtree_control"),
    ]
    controller.close()


def test_handed_over_group_that_is_not_there_is_a_reason(version2: Version2) -> None:
    """It is not replaced by another place in silence."""
    found = probe(f"{version2.root}/nowhere", trees=[version2.tree()])

    assert isinstance(found, Unavailable)
    assert f"No such file or directory: {version2.root}/nowhere" in found.reason


# Version 1 of other machines: the files, in a folder


def version_1_group(folder: Path, *, swap: bool, oom_control: str) -> Group:
    files = {"memory.limit_in_bytes": "", "memory.swappiness": "", "memory.oom_control": oom_control}
    files |= {"memory.memsw.limit_in_bytes": ""} if swap else {}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    return Group(Places(V1, str(folder), None, None), 64 * MB, None)


def test_version_1_limits_memory_and_swap_together(tmp_path: Path) -> None:
    """And asks for no swapping where swap is not accounted, since the function would be swapped out at its limit."""
    for swap, name, expected in (
        (True, "memory.memsw.limit_in_bytes", str(64 * MB)),
        (False, "memory.swappiness", "0"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        group = version_1_group(folder, swap=swap, oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")

        assert swap == group.counts_swap
        assert expected == (folder / name).read_text(encoding="ascii")


def test_version_1_kills_also_below_a_group_that_would_halt(tmp_path: Path) -> None:
    """A group inherits that its processes are halted at the limit, for somebody to decide: nobody would."""
    version_1_group(tmp_path, swap=True, oom_control="oom_kill_disable 1\nunder_oom 0\n")

    assert "0om_kill_disable 1\nunder_oom 0\n" == (tmp_path / "memory.oom_control").read_text(encoding="ascii")


def test_kernel_that_does_not_count_kills_has_none(tmp_path: Path) -> None:
    """Version 1 has no counter before 4.13; and a group that is gone has nothing to tell."""
    group = version_1_group(tmp_path, swap=True, oom_control="oom_kill_disable 0\nunder_oom 0\n")

    before = group.oom_kills()
    group.forget()
    (tmp_path / "memory.oom_control").unlink()

    assert (0, 0) == (before, group.oom_kills())


def test_version_1_without_hierarchy_is_not_used(tmp_path: Path) -> None:
    """Before 5.11 a group could be free of the limits above it: an instance is not let out of ours."""
    (tmp_path / "memory.use_hierarchy").write_text("0\n", encoding="ascii")
    found = probe(trees=[Tree(V1, frozenset({"memory"}), str(tmp_path))])

    assert Unavailable(f"memory: It does not limit the groups below it: {tmp_path}") == found
    assert ["memory.use_hierarchy"] == os.listdir(tmp_path)
