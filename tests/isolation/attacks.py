"""What functions try at both isolation levels, and what docs/security.md says comes of it.

Each attack is the body of ``attack(target)``, for 2.7 as well, and returns whether it got through. It touches only
what the test made: the canary's files, process and listeners, a neighbour's instance, and the engine's own process,
which it asks for rights and does nothing with them. *target* has the paths and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

STOPPED: Final = "stopped"
OPEN: Final = "open"
UNLESS_ROOT: Final = "stopped, unless the engine is root"
LANDLOCK: Final = "stopped by Landlock, where Linux is 6.12 or newer"
DEPENDS: Final = "up to the kernel's settings"


@dataclass(frozen=True)
class Attack:
    """One thing that is tried.

    Attributes:
        title: What it is, as docs/security.md names it.
        source: What is run.
        process: What comes of it at the level of a process.
        container: What comes of it in a container.
        description: Further fields of the Function.
    """

    title: str
    source: str
    process: str
    container: str = STOPPED
    description: dict[str, Any] = field(default_factory=dict)


def _reads(path: str) -> str:
    return f"return b'secret' in open({path}, 'rb').read()"


ATTACKS: Final = {
    "canary file": Attack("read a file of the host", _reads("target['file']"), OPEN),
    "canary folder": Attack("list a folder of the host", "return bool(os.listdir(target['folder']))", OPEN),
    "engine source": Attack("read the engine's own source", "return bool(open(target['engine']).read())", OPEN),
    "other code": Attack("read another function's code", _reads("target['other_code']"), OPEN),
    "other tmp": Attack("read another instance's temporary files", _reads("target['other_tmp']"), OPEN),
    "write": Attack(
        "write outside of the temporary folder",
        "open(os.path.join(target['folder'], 'written'), 'w').close(); return True",
        OPEN,
    ),
    "write code": Attack(
        "change its own code",
        "open(os.path.join(os.path.dirname(__file__), 'written'), 'w').close(); return True",
        OPEN,
    ),
    "see": Attack("see a process of the host", "return os.path.exists('/proc/%d' % target['pid'])", OPEN),
    "signal": Attack("signal a process of the host", "os.kill(target['pid'], 18); return True", LANDLOCK),
    "signal engine": Attack("signal the engine", "os.kill(target['engine_pid'], 18); return True", LANDLOCK),
    "ptrace": Attack(
        "trace a process of the host",
        "seize = call('ptrace', 0x4206, target['pid'], 0, 0)\n    return seize == 0",
        LANDLOCK,
    ),
    "memory": Attack(
        "open the engine's memory", "open('/proc/%d/mem' % target['engine_pid'], 'rb').close(); return True", LANDLOCK
    ),
    "listener": Attack(
        "connect to a listener on the host's loopback",
        "socket.create_connection(('127.0.0.1', target['port']), 5).close(); return True",
        OPEN,
    ),
    "abstract socket": Attack(
        "connect to an abstract unix socket",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + target['abstract']); s.close(); return True",
        OPEN,
    ),
    "vsock": Attack(
        "make a socket to the host's host (vsock)",
        "socket.socket(40, socket.SOCK_STREAM).close(); return True",
        DEPENDS,
    ),
    "lease": Attack(
        "hold up whoever opens a file of its user (a lease)",
        "import fcntl\n"
        "    handle, path = tempfile.mkstemp()\n"
        "    os.close(handle)\n"
        "    handle = os.open(path, os.O_RDONLY)\n"
        "    fcntl.fcntl(handle, 1024, fcntl.F_WRLCK); return True",
        OPEN,
    ),
    "unix socket": Attack(
        "connect to a unix socket in the host's file system",
        "s = socket.socket(socket.AF_UNIX); s.connect(target['socket']); s.close(); return True",
        OPEN,
    ),
    "mount": Attack(
        "mount a file system",
        "place = tempfile.mkdtemp()\n"
        "    done = libc.mount(b'tmpfs', place.encode(), b'tmpfs', 0, None) == 0\n"
        "    done and libc.umount2(place.encode(), 2)\n"
        "    return done",
        UNLESS_ROOT,
    ),
    "namespace": Attack(
        "make a user namespace, to be root in it",
        "pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(0 if libc.unshare(0x10000000) == 0 else 1)\n"
        "    return os.waitpid(pid, 0)[1] == 0",
        DEPENDS,
    ),
    "mknod": Attack(
        "make a device file",
        "os.mknod(os.path.join(tempfile.mkdtemp(), 'null'), 0o020666, os.makedev(1, 3)); return True",
        UNLESS_ROOT,
    ),
    "setuid": Attack(
        "gain the rights of a setuid program",
        "said = subprocess.Popen([target['setuid'], '-u'], stdout=subprocess.PIPE).communicate()[0]\n"
        "    return int(said) != os.geteuid()",
        STOPPED,
    ),
    "keyring": Attack(
        "put a key into a keyring of the kernel", "return call('add_key', b'user', b'canary', b'x', 1, -2) > 0", DEPENDS
    ),
    "limits": Attack(
        "raise its own limit of descriptors",
        "most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 1, most + 1)); return True",
        UNLESS_ROOT,
    ),
    "sysctl": Attack(
        "open a setting of the kernel for writing",
        "os.close(os.open('/proc/sys/vm/swappiness', os.O_WRONLY)); return True",
        UNLESS_ROOT,
    ),
    "fill tmp": Attack(
        "fill the temporary folder past its limit",
        "return fill(tempfile.gettempdir(), 24)",
        STOPPED,
        description={"tmp_mb": 8, "memory_mb": 256},
    ),
    "fill shm": Attack("fill /dev/shm with 96 MB", "return fill('/dev/shm', 96)", OPEN, description={"memory_mb": 512}),
    "inodes": Attack(
        "make 100,000 files",
        "folder = tempfile.mkdtemp()\n"
        "    for number in range(100000):\n"
        "        os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_WRONLY))\n"
        "    return True",
        OPEN,
        description={"timeout_s": 60.0, "memory_mb": 512},
    ),
    "symlink": Attack("follow a link in its code to a file of the host", _reads("here('link')"), OPEN),
    "descriptors": Attack(
        "leave by a descriptor that was left open",
        "return any(os.path.isdir('/proc/self/fd/' + each) for each in os.listdir('/proc/self/fd'))",
        STOPPED,
    ),
    "exe": Attack(
        "write to its interpreter by /proc/self/exe",
        "os.close(os.open('/proc/self/exe', os.O_WRONLY)); return True",
        STOPPED,
    ),
    "proc root": Attack(
        "leave by the root of another process",
        "for pid in [each for each in os.listdir('/proc') if each.isdigit()]:\n"
        "        for root in ('/root', '/root/.host', '/cwd', '/cwd/.host'):\n"
        "            try:\n"
        "                if b'secret' in open('/proc/' + pid + root + target['file'], 'rb').read():\n"
        "                    return True\n"
        "            except EnvironmentError:\n"
        "                pass\n"
        "    return False",
        OPEN,
    ),
    "host root": Attack("read the host's root where a zygote has it", _reads("'/.host' + target['file']"), STOPPED),
    "kernel calls": Attack(
        "reach the kernel by io_uring, bpf or userfaultfd",
        "return any(call(name, 0, 0, 0) >= 0 or ctypes.get_errno() not in (1, 38)"
        " for name in ('io_uring_setup', 'bpf', 'userfaultfd'))",
        DEPENDS,
    ),
}

SOURCE: Final = '''
import ctypes, os, platform, resource, socket, subprocess, tempfile, time

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "ptrace": (101, 117), "add_key": (248, 217), "io_uring_setup": (425, 425), "bpf": (321, 280),
    "userfaultfd": (323, 282),
}


def call(name, *arguments):
    number = NUMBERS[name][platform.machine() != "x86_64"]
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(each) if isinstance(each, int) else each
                                                 for each in arguments])


def here(name):
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def fill(folder, megabytes):
    """Whether all of it could be written; the engine has some time to notice."""
    handle, path = tempfile.mkstemp(dir=folder)
    try:
        for _ in range(megabytes):
            if os.write(handle, b"x" * 1048576) != 1048576:
                return False
        time.sleep(1)
        return True
    finally:
        os.close(handle)
        os.unlink(path)


def attack(target):
    {attack}


def handler(event, context):
    try:
        return bool(attack(event))
    except (EnvironmentError, ValueError) as error:
        print(repr(error))
        return False
'''
