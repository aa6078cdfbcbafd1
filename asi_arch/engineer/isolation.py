"""What this machine offers to contain a candidate: found by trying, told in one line, put in force.

Mechanisms of the Linux kernel, each through a kept package, and all together where they are there.
The wall's server starts in namespaces of its own (`bwrap`): no network, no other process, and of the
file system only Python, read-only. Each child then gives up, before any candidate code, root's user id,
every path (Landlock), and every system call but those of memory, clocks and an open pipe (seccomp).

What it does not protect from: a fault of the kernel, or of one of the calls that are left. At level
`weak`, which is all that other systems than Linux have, only limits and the empty environment hold.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Literal

from asi_arch.engineer.surroundings import environment, visible_paths
from asi_arch.errors import SetupError

Level = Literal["full", "strong", "weak"]
PROBE_SECONDS = 30
FIRST_USER = 2_000_000_000  # + the child's process id: a user id that nobody has
ALLOWED = (  # memory, one open pipe, clocks, signals to oneself, the end
    "brk mmap munmap mprotect mremap madvise futex rseq set_robust_list write close exit exit_group "
    "getpid gettid getuid geteuid getgid getegid rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack "
    "restart_syscall clock_gettime clock_getres gettimeofday time getrandom getrusage times sched_yield "
    "sched_getaffinity getcpu"
).split()
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_PARTS = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/nix/store",
    "/gnu/store",
    "/sys/devices/system/cpu",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What contains candidate code.

    bubblewrap: path of `bwrap`, if it can make namespaces here; else "". seccomp: system calls are
    filtered. landlock: version of Landlock's interface, 0 without. user: each child gets a user id of
    its own, which only root can give. trouble: why bubblewrap does not work though it is there.
    """

    bubblewrap: str = ""
    seccomp: bool = False
    landlock: int = 0
    user: bool = False
    trouble: str = ""

    @property
    def level(self) -> Level:
        """Give `full` (namespaces and filter), `strong` (filter) or `weak`."""
        return ("full" if self.bubblewrap else "strong") if self.seccomp else "weak"

    @property
    def state(self) -> str:
        """Say in one line what is in force, and what is not."""
        parts = {
            "namespaces (bubblewrap)": bool(self.bubblewrap),
            "system-call filter (seccomp)": self.seccomp,
            f"Landlock {self.landlock or ''}".strip(): bool(self.landlock),
        }
        parts |= {"a user id for each candidate": True} if self.user else {}
        there = [name for name, given in parts.items() if given]
        lacking = [name for name, given in parts.items() if not given]
        there.append("limits and an empty environment")
        return f"{self.level}: {', '.join(there)}" + (f"; not {', '.join(lacking)}" if lacking else "")

    @property
    def cure(self) -> str:
        """Say what to install for more; "" where all is there."""
        if sys.platform != "linux":
            return "run candidates of strangers on Linux, or in a virtual machine"
        cures = []
        if self.trouble:
            cures.append(f"bubblewrap is there but refused: {self.trouble}")
        elif not self.bubblewrap:
            cures.append("apt install bubblewrap")
        if not self.seccomp:
            cures.append("pip install pyseccomp, apt install libseccomp2")
        if not self.landlock:
            cures.append("pip install landlock==1.0.0.dev5, Linux 5.13")
        return "; ".join(cures)


def require_isolation(isolation: Isolation) -> None:
    """Raise SetupError, with the cure, unless candidates are contained."""
    if isolation.level == "weak":
        raise SetupError(
            f"isolation is {isolation.state}, and --require-isolation was given; {isolation.cure}"
        )


@cache
def detect(use_bubblewrap: bool = True) -> Isolation:
    """Try every mechanism, once, in at most two processes of their own that take about 0.3 s each."""
    if sys.platform != "linux":
        return Isolation()
    found, trouble = shutil.which("bwrap") if use_bubblewrap else None, ""
    if found:
        inside, trouble = _probe(namespaces(found, environment(trusted=False)))
        if inside is not None:
            return replace(inside, bubblewrap=found)
    plain, _ = _probe(())
    return replace(plain or Isolation(), trouble=trouble)


def namespaces(bubblewrap: str, variables: Mapping[str, str]) -> list[str]:
    """Give the words that, put before a command, run it in namespaces with these variables only.

    It sees /usr and its like, Python and what Python imports, all read-only; /proc of its own; an
    empty /tmp, in which it starts. It sees no other folder, and so no home, study or archive.
    """
    words = [bubblewrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--hostname", "wall", "--clearenv"]
    for name, value in variables.items():
        words += ["--setenv", name, value]
    for path in SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    for path in SYSTEM_PARTS:
        words += ["--ro-bind-try", path, path]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in visible_paths(variables):
        if not path.startswith(tuple(f"{known}/" for known in SYSTEM)):
            words += ["--ro-bind", os.path.realpath(path), path]
    return [*words, "--remount-ro", "/", "--chdir", "/tmp", "--"]


def prepare(isolation: Isolation) -> None:
    """Import, before the first fork, what `give_up` and `filter_calls` need."""
    if isolation.landlock:
        import landlock

        landlock.FSAccess.all()
    if isolation.seccomp:
        import pyseccomp

        pyseccomp.system_arch()


def give_up(isolation: Isolation) -> None:
    """Give up root's user id and every path, for ever. Raises OSError: it could not be done."""
    if isolation.user:
        number = FIRST_USER + os.getpid()
        os.setgroups([])
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)
    if isolation.landlock:
        from landlock import Ruleset

        Ruleset().apply()  # nothing is allowed; sets no_new_privs


def filter_calls(isolation: Isolation) -> None:
    """Give up every system call but ALLOWED, for ever: the others raise PermissionError.

    Sets no_new_privs. A signal can be sent to oneself, as abort() does. Raises OSError: it could not be done.
    """
    if not isolation.seccomp:
        return
    import pyseccomp as seccomp

    calls = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in ALLOWED:
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:  # each processor has its own
            calls.add_rule(seccomp.ALLOW, name)
    calls.add_rule(seccomp.ALLOW, "tgkill", seccomp.Arg(0, seccomp.EQ, os.getpid()))
    limits_asked = seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(2, seccomp.EQ, 0)  # asked, not set
    calls.add_rule(seccomp.ALLOW, "prlimit64", *limits_asked)
    calls.load()


def _probe(before: Sequence[str]) -> tuple[Isolation | None, str]:
    """Try what is there in a process of its own; give None and the last words of one that fails."""
    command = [*before, sys.executable, "-P", "-m", "asi_arch.engineer.isolation"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False,
            stdin=subprocess.DEVNULL, env=environment(trusted=False),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no word"])[-1][:200]
    return Isolation(**json.loads(done.stdout)), ""


def _try_all() -> Isolation:
    """Put in force here whatever works, in the order of a child, and tell what did."""
    for needed in ("torch", "asi_arch.engineer.worker"):
        assert find_spec(needed), f"{needed} cannot be imported"
    found = Isolation(user=os.geteuid() == 0, landlock=_landlock(), seccomp=_seccomp())
    try:
        give_up(Isolation(user=found.user))
    except OSError:  # a user namespace that lacks the number
        found = replace(found, user=False)
    try:
        give_up(Isolation(landlock=found.landlock))
    except OSError:
        found = replace(found, landlock=0)
    try:
        filter_calls(found)
    except OSError:
        found = replace(found, seccomp=False)
    return found


def _landlock() -> int:
    try:
        import landlock

        return int(landlock.landlock_abi_version())
    except (ImportError, OSError):
        return 0


def _seccomp() -> bool:
    try:
        import pyseccomp

        return bool(pyseccomp.system_arch())
    except (ImportError, RuntimeError, OSError, AttributeError):  # without the C library
        return False


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_try_all())))
    sys.stdout.flush()
    os._exit(0)
