"""The filter of system calls: its numbers are the kernel's, and it is run here as the kernel runs it."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit_sandbox.inside import seccomp

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
KILL, ALLOW, REFUSE, UNKNOWN = 0x8000_0000, 0x7FFF_0000, 0x0005_0001, 0x0005_0026
#: Calls that a filter looks at the arguments of.
LOOKED_AT = ("clone", "clone3", "ioctl", "fcntl", "prlimit64", "socketpair", "sendto")
#: From here on numbers stand for 32-bit forms of x86_64's calls.
X32 = 0x4000_0000
FIRST_FREE = 600

#: Why a program may not have it, call by call: whatever else is added to the list, these must not be.
FORBIDDEN = """
fork vfork execve execveat ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kill tkill
tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd socket connect bind listen accept
accept4 sendmsg sendmmsg recvmsg recvmmsg setsockopt shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget
semop semctl semtimedop mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr memfd_create
memfd_secret mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr unshare
setns bpf perf_event_open io_uring_setup io_uring_enter io_uring_register userfaultfd keyctl add_key request_key
personality name_to_handle_at open_by_handle_at prctl arch_prctl seccomp landlock_create_ruleset landlock_add_rule
landlock_restrict_self setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset
setpriority sched_setscheduler sched_setparam sched_setattr sched_setaffinity ioprio_set setrlimit setpgid setsid
sethostname setdomainname reboot kexec_load init_module finit_module delete_module iopl ioperm swapon swapoff
settimeofday clock_settime clock_adjtime adjtimex syslog acct quotactl mknod mknodat chown lchown fchown fchownat
setxattr lsetxattr fsetxattr mlock mlock2 mlockall remap_file_pages mbind migrate_pages move_pages set_mempolicy kcmp
vmsplice splice tee inotify_init inotify_init1 fanotify_init fanotify_mark timerfd_create signalfd signalfd4 eventfd
eventfd2 timer_create lookup_dcookie nfsservctl modify_ldt uselib ustat sysfs vhangup
""".split()  # noqa: SIM905


def run(program: bytes, *, audit: int, number: int, arguments: Iterable[int] = ()) -> int:
    """What the kernel's interpreter would return for a call: BPF, as far as seccomp allows it."""
    assert len(program) % 8 == 0
    assert 0 < len(program) // 8 <= 4096
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    padded = (*arguments, *[0] * 6)[:6]
    data = struct.pack("<iIQ6Q", number - (1 << 32) if number >> 31 else number, audit, 0xDEAD_BEEF, *padded)
    accumulator, at = 0, 0
    for _ in lines:  # all jumps lead onward, so none is run twice
        code, then, otherwise, value = lines[at]
        at += 1
        match code:
            case 0x20:  # load a word
                assert value % 4 == 0
                assert value < 64
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x06:  # return
                return int(value)
            case 0x05:  # jump
                at += value
            case 0x15:  # if it is equal
                at += then if accumulator == value else otherwise
            case 0x35:  # if it is greater or equal
                at += then if accumulator >= value else otherwise
            case 0x25:  # if it is greater
                at += then if accumulator > value else otherwise
            case 0x45:  # if any bit is set
                at += then if accumulator & value else otherwise
            case _:
                raise AssertionError(
                    f"an instruction that seccomp does not have, or that this test does not: {code:#x}"
                )
    raise AssertionError("the program has no end")


class Filter:
    """The filter of one architecture."""

    def __init__(self, machine: str, *, more: Iterable[str] = (), less: Iterable[str] = ()) -> None:
        self.column, self.audit = MACHINES[machine]
        self.program = seccomp.program(machine, more=more, less=less)

    def number(self, name: str) -> int:
        """Of a call that the list has for this architecture."""
        found = seccomp._NUMBERS[name][self.column]
        assert found is not None
        return found

    def __call__(self, call: str | int, *arguments: int) -> int:
        number = call if isinstance(call, int) else self.number(call)
        return run(self.program, audit=self.audit, number=number, arguments=arguments)

    def listed(self) -> dict[str, int]:
        """The calls of this architecture, less those of judges."""
        found = {name: numbers[self.column] for name, numbers in seccomp._NUMBERS.items()}
        return {name: number for name, number in found.items() if number is not None and name not in seccomp.JUDGING}


@pytest.fixture(params=MACHINES)
def filter_(request: pytest.FixtureRequest) -> Filter:
    return Filter(request.param)


def _headers(machine: str) -> dict[str, int]:
    """The numbers of an architecture's calls in the headers that are installed here; skips where none are."""
    if machine == "x86_64":
        places = [Path("/usr/include/asm"), *Path("/usr/include").glob("*/asm")]
        file = next((place / "unistd_64.h" for place in places if (place / "unistd_64.h").is_file()), None)
        if file is None:
            pytest.skip("the kernel's header asm/unistd_64.h is not installed")
        return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)\s", file.read_text())}
    if not Path("/usr/include/asm-generic/unistd.h").is_file():
        pytest.skip("the kernel's header asm-generic/unistd.h is not installed")
    if not (preprocessor := shutil.which("cpp")):
        pytest.skip("asm-generic/unistd.h has its numbers behind conditions, and cpp, which decides them, is missing")
    # What arch/arm64's own unistd.h defines before it includes this one.
    wanted = ("NEW_STAT", "RENAMEAT", "SET_GET_RLIMIT", "SYS_CLONE3", "MEMFD_SECRET")
    source = "".join(f"#define __ARCH_WANT_{name}\n" for name in wanted)
    source += "#define __BITS_PER_LONG 64\n#include <asm-generic/unistd.h>\n"
    done = subprocess.run(
        [preprocessor, "-dM", "-U__LP64__", "-"], input=source, capture_output=True, text=True, check=True
    )
    defined = dict(re.findall(r"#define (__NR\w+) (\S+)", done.stdout))
    found = {}
    for name, written in defined.items():
        value = written
        while not value.isdigit() and value in defined:
            value = defined[value]
        if name.startswith("__NR_") and value.isdigit():
            found[name.removeprefix("__NR_")] = int(value)
    return found


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    headers = _headers(machine)
    assert headers["openat"] == MACHINES_OPENAT[machine]  # these are the headers of that architecture
    column = MACHINES[machine][0]
    wrong = {
        name: (numbers[column], headers.get(name))
        for name, numbers in seccomp._NUMBERS.items()
        # An older header does not have every call; what it has must agree.
        if numbers[column] != headers.get(name) and (name in headers or (numbers[column] or 0) < 424)
    }
    assert wrong == {}


#: One number that the two have not in common.
MACHINES_OPENAT = {"x86_64": 257, "aarch64": 56}


def test_no_number_stands_for_two_calls() -> None:
    for column in (0, 1):
        numbers = [found[column] for found in seccomp._NUMBERS.values() if found[column] is not None]
        assert len(numbers) == len(set(numbers))


def test_newer_calls_have_one_number_everywhere() -> None:
    assert [name for name, (one, other) in seccomp._NUMBERS.items() if (one or 0) >= 424 and one != other] == []
    assert [name for name, (one, other) in seccomp._NUMBERS.items() if (other or 0) >= 424 and one != other] == []


def test_an_architecture_without_a_list_is_an_error() -> None:
    with pytest.raises(KeyError):
        seccomp.program("riscv64")


def test_every_call_that_is_not_listed_is_refused(filter_: Filter) -> None:
    listed = set(filter_.listed().values())
    for number in {*range(FIRST_FREE)} - listed:
        assert filter_(number) == REFUSE, number
    for number in (FIRST_FREE, 1000, 1 << 20, X32 - 1):
        assert filter_(number) == REFUSE


def test_every_call_that_is_listed_is_allowed(filter_: Filter) -> None:
    for name, number in filter_.listed().items():
        if name not in LOOKED_AT:
            assert filter_(number, *[(1 << 64) - 1] * 6) == ALLOW, name
            assert filter_(number) == ALLOW, name


def test_what_harms_is_not_listed() -> None:
    listed = seccomp._NUMBERS.keys() - set(seccomp.JUDGING)
    assert listed & set(FORBIDDEN) == set()


@pytest.mark.parametrize("machine", MACHINES)
def test_what_harms_is_refused_by_the_number_that_the_kernel_gives_it(machine: str) -> None:
    headers, refuses = _headers(machine), Filter(machine)
    known = [name for name in FORBIDDEN if name in headers]
    assert len(known) > 100
    assert [name for name in known if refuses(headers[name]) != REFUSE] == []


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(MACHINES)),
    st.integers(0, (1 << 32) - 1),
    st.lists(st.integers(0, (1 << 64) - 1), max_size=6),
)
def test_no_number_at_all_leads_past_the_list(machine: str, number: int, arguments: list[int]) -> None:
    one = _FILTERS[machine]
    if number not in one.listed().values():
        assert one(number, *arguments) == REFUSE


_FILTERS = {machine: Filter(machine) for machine in MACHINES}


def test_another_architecture_is_killed(filter_: Filter) -> None:
    others = [audit for _, audit in MACHINES.values() if audit != filter_.audit]
    i386, arm, riscv = 0x4000_0003, 0x4000_0028, 0xC000_00F3
    for audit in (*others, i386, arm, riscv, 0, 62, (1 << 32) - 1):
        for number in (0, 1, 11, 63, 64, 93, 231, X32):
            assert run(filter_.program, audit=audit, number=number) == KILL


def test_numbers_of_32_bit_forms_are_refused(filter_: Filter) -> None:
    for number in range(FIRST_FREE):
        assert filter_(X32 | number) == REFUSE
    for number in (1 << 31, (1 << 31) | 1, (1 << 32) - 1, X32 | 0x2000_0000):
        assert filter_(number) == REFUSE


HIGH = 1 << 32
THREAD = 0x0001_0000
#: What libc asks for when it starts a thread, and when it forks.
PTHREAD = 0x003D_0F00
FORK = 0x0120_0011


def test_clone_makes_threads_only(filter_: Filter) -> None:
    assert filter_("clone", PTHREAD) == ALLOW
    assert filter_("clone", THREAD) == ALLOW
    for flags in (
        0,
        17,
        FORK,
        0x0000_4111,
        0x1000_0000,
        0x7E02_0000,
        ~THREAD & 0xFFFF_FFFF,
        HIGH * THREAD,
        THREAD >> 1,
    ):
        assert filter_("clone", flags) == REFUSE, hex(flags)
    assert filter_("clone", FORK, PTHREAD, PTHREAD, PTHREAD, PTHREAD, PTHREAD) == REFUSE


def test_clone3_is_not_there(filter_: Filter) -> None:
    """What it asks for lies in memory, where no filter looks; libc, hearing that it is unknown, asks clone."""
    assert filter_("clone3", 0x7FFF_0000, 88) == UNKNOWN


def test_ioctl_asks_and_does_not_do(filter_: Filter) -> None:
    allowed = {0x5401: "TCGETS", 0x541B: "FIONREAD", 0x5421: "FIONBIO", 0x5450: "FIONCLEX", 0x5451: "FIOCLEX"}
    # Terminals and sockets (0x54.., 0x89..), file systems, devices; TIOCSTI is 0x5412, TIOCLINUX 0x541C.
    for request in (*range(0x10000), 0x4004_6611, 0xC020_660B, 0x8008_6601, 0x5412 << 16):
        assert filter_("ioctl", 0, request) == (ALLOW if request in allowed else REFUSE), hex(request)
    assert filter_("ioctl", 0x5401, 0x5412, 0x5401) == REFUSE


def test_fcntl_copies_and_locks_and_sends_no_signals(filter_: Filter) -> None:
    allowed = {*range(8), 36, 37, 38, 1030, 1032}
    for command in (*range(2048), 1 << 31, (1 << 32) - 1):
        assert filter_("fcntl", 0, command) == (ALLOW if command in allowed else REFUSE), command
    # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ, F_ADD_SEALS
    assert allowed.isdisjoint({8, 10, 15, 1024, 1026, 1031, 1033})


def test_limits_are_those_of_the_process_itself(filter_: Filter) -> None:
    assert filter_("prlimit64", 0, 7, 0x1000, 0x2000) == ALLOW
    for pid in (1, 2, 4711, (1 << 31) - 1, (1 << 32) - 1):
        assert filter_("prlimit64", pid, 0, 0, 0) == REFUSE


def test_pairs_of_sockets_are_of_one_family(filter_: Filter) -> None:
    for family in range(64):
        assert filter_("socketpair", family, 1, 0, 0x1000) == (ALLOW if family == 1 else REFUSE), family
    assert filter_("socketpair", (1 << 32) - 1, 1) == REFUSE


def test_nothing_is_sent_to_an_address(filter_: Filter) -> None:
    assert filter_("sendto", 3, 0x1000, 10, 0, 0, 0) == ALLOW
    assert filter_("sendto", (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, 0, (1 << 64) - 1) == ALLOW
    for address in (1, 0x7FFF_0000_1000, HIGH, HIGH * 0x7FFF, (1 << 32) - 1, (1 << 64) - 1):
        assert filter_("sendto", 3, 0x1000, 10, 0, address, 16) == REFUSE, hex(address)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_look_at_arguments_does_not_change_what_comes_behind_it(machine: str, name: str) -> None:
    """No argument that equals another call's number is taken for it."""
    one = _FILTERS[machine]
    for number in (*one.listed().values(), 59, 57):
        answers = {one(name, *[number] * 6), one(name, number), one(name, 0, number), one(name, 0, 0, 0, 0, number)}
        assert answers <= {ALLOW, REFUSE, UNKNOWN}
        assert one(59 if machine == "x86_64" else 221, *[number] * 6) == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_left_out_is_refused_and_nothing_else(machine: str) -> None:
    whole = _FILTERS[machine]
    for less in (seccomp.NAMING, seccomp.MARKING, seccomp.NAMING | seccomp.MARKING):
        part = Filter(machine, less=less)
        for name, number in whole.listed().items():
            if name not in LOOKED_AT:
                assert part(number) == (REFUSE if name in less else ALLOW), name


@pytest.mark.parametrize("machine", MACHINES)
def test_a_judge_has_a_few_calls_more(machine: str) -> None:
    judge, candidate = Filter(machine, more=seccomp.JUDGING), _FILTERS[machine]
    for name in seccomp.JUDGING:
        assert judge(name) == ALLOW
        assert candidate(candidate.number(name)) == REFUSE
    for number in {*range(FIRST_FREE)} - {candidate.number(name) for name in seccomp.JUDGING}:
        assert judge(number) == candidate(number)


def test_all_that_reaches_files_by_name_to_change_them_is_known_as_such() -> None:
    """Without Landlock and namespaces nothing else would guard files."""
    naming = re.compile(r"^(open|rename|mkdir|rmdir|unlink|symlink|link|mknod|truncate|creat)")
    assert {name for name in seccomp._NUMBERS if naming.match(name)} == set(seccomp.NAMING)
    assert seccomp._NUMBERS.keys() >= seccomp.NAMING | seccomp.MARKING


@pytest.mark.skipif(os.uname().machine not in MACHINES, reason="this machine's architecture has no list")
def test_every_jump_leads_forward_and_every_path_to_an_answer() -> None:
    for one in _FILTERS.values():
        lines = [struct.unpack_from("=HBBI", one.program, at) for at in range(0, len(one.program), 8)]
        for at, (code, then, otherwise, _) in enumerate(lines):
            if code not in (0x20, 0x06):
                assert max(at + 1 + then, at + 1 + otherwise) < len(lines)
        assert lines[-1][0] == 0x06
        assert {value for code, _, _, value in lines if code == 0x06} == {KILL, ALLOW, REFUSE, UNKNOWN}
