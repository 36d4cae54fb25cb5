"""H: honest programs that look as if they were not; whoever holds them holds too much."""

from __future__ import annotations

from tests.plugins.hostile.suite import ADD, Hostile
from tests.plugins.hostile.v_verdict import THRICE, test_of

from evalkit_sandbox.inside.layers import Limits
from evalkit_sandbox.program import Check

#: Standard modules that programs import, most of them late; each without the network and without other programs.
MODULES = """abc array ast asyncio base64 binascii bisect bz2 calendar cmath code codecs collections colorsys
concurrent.futures configparser contextlib copy csv ctypes dataclasses datetime decimal difflib dis doctest enum
fractions functools gc glob gzip hashlib heapq hmac html inspect io ipaddress itertools json keyword linecache locale
logging lzma math multiprocessing numbers operator os pathlib pickle platform pprint queue random re sched secrets
select selectors shelve shlex shutil signal socket sqlite3 stat statistics string stringprep struct subprocess symtable
sys sysconfig tarfile tempfile textwrap threading time timeit token tokenize traceback types typing unicodedata unittest
urllib.parse uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo""".split()  # noqa: SIM905


#: What they wait must not decide: none of them waits for long, but a machine may let it.
USUAL = Limits(idle=30.0)


def returns(answer: str, body: str = "assert candidate(1, 2) == 3") -> tuple[str, Check]:
    """A program that answers with this expression, and its check."""
    return f"def add(a, b):\n    return {answer}\n", test_of(body)


def honest(number: int, name: str, source: str, check: Check = ADD, limits: Limits = USUAL) -> Hostile:
    """One that must pass."""
    return Hostile(number=number, name=name, source=source, reasons=(), honest=True, check=check, limits=limits)


def _answers() -> tuple[Hostile, ...]:
    """Item 84: an expression, and a test in which it equals what is expected."""
    rows = (
        ("fraction", "__import__('fractions').Fraction(6, 2)", "assert candidate(1, 2) == 3"),
        ("half", "__import__('fractions').Fraction(1, 2)", "assert candidate(1, 2) == 0.5"),
        ("decimal", "__import__('decimal').Decimal('3.00')", "assert candidate(1, 2) == 3"),
        ("decimal-exactly", "__import__('decimal').Decimal('3.00')", "assert str(candidate(1, 2)) == '3.00'"),
        ("counter", "__import__('collections').Counter('abba')", "assert candidate(1, 2) == {'a': 2, 'b': 2}"),
        (
            "ordered",
            "__import__('collections').OrderedDict([(2, 1), (1, 2)])",
            "assert list(candidate(1, 2).items()) == [(2, 1), (1, 2)]",
        ),
        ("default", "__import__('collections').defaultdict(int, {1: 2})", "assert candidate(1, 2) == {1: 2}"),
        (
            "named-tuple",
            "__import__('collections').namedtuple('Pair', 'a b')(a, b)",
            "assert candidate(1, 2) == (1, 2)\nassert candidate(1, 2)[1] == 2",
        ),
        ("deque-as-list", "list(__import__('collections').deque([a, b]))", "assert candidate(1, 2) == [1, 2]"),
        ("bool-for-int", "True", "assert candidate(1, 2) == 1"),
        ("int-for-bool", "1", "assert candidate(1, 2) == True"),
        ("int-for-float", "3", "assert candidate(1, 2) == 3.0"),
        ("float-for-int", "3.0", "assert candidate(1, 2) == 3"),
        ("complex", "3 + 0j", "assert candidate(1, 2) == 3"),
        ("text", "type('Text', (str,), {})('abc')", "assert candidate(1, 2) == 'abc'"),
        ("number", "type('Number', (int,), {'__eq__': None, '__hash__': None})(3)", "assert candidate(1, 2) == 3"),
        ("enum", "__import__('enum').IntEnum('Kind', ['A', 'B', 'C'])(3)", "assert candidate(1, 2) == 3"),
        ("range", "range(3)", "assert list(candidate(1, 2)) == [0, 1, 2]\nassert candidate(1, 2) == range(3)"),
        ("bytes", "bytearray(b'abc')", "assert candidate(1, 2) == b'abc'"),
        ("surrogates", "'\\ud800\\udfff'", "assert candidate(1, 2) == '\\ud800\\udfff'"),
        ("nul", "'a\\0b'", "assert candidate(1, 2) == 'a\\0b'"),
        ("big", "10 ** 4000", "assert candidate(1, 2) == 10 ** 4000"),
        ("big-and-negative", "-(1 << 63) - 1", "assert candidate(1, 2) == -(1 << 63) - 1"),
        ("none", "None", "assert candidate(1, 2) is None"),
        ("true", "a < b", "assert candidate(1, 2) is True"),
        ("set", "{1, (2, 'x'), frozenset({3})}", "assert candidate(1, 2) == {1, (2, 'x'), frozenset({3})}"),
        ("sets-of-many", "set(range(20_000))", "assert candidate(1, 2) == set(range(20_000))"),
        ("many", "list(range(50_000))", "assert candidate(1, 2) == list(range(50_000))"),
        ("minus-zero", "-0.0", "assert candidate(1, 2) == 0\nassert str(candidate(1, 2)) == '-0.0'"),
        ("subnormal", "5e-324", "assert candidate(1, 2) == 5e-324\nassert candidate(1, 2) > 0"),
        ("infinite", "float('inf')", "assert candidate(1, 2) == float('inf')"),
        ("no-number", "float('nan')", "answer = candidate(1, 2)\nassert answer != answer"),
        ("deep", "[[[[[[[[[[a]]]]]]]]]]", "assert candidate(1, 2) == [[[[[[[[[[1]]]]]]]]]]"),
        ("same-twice", "[(one := [a]), one]", "assert candidate(1, 2) == [[1], [1]]"),
        ("generator-of-truth", "(n for n in [a])", "assert candidate(1, 2)"),
    )
    return tuple(honest(84, f"answers/{name}", *returns(answer, body)) for name, answer, body in rows)


def _imports() -> Hostile:
    tests = "".join(f"    assert candidate({name!r}) == {name!r}\n" for name in MODULES)
    check = Check(setup="def load(name):\n    pass\n", test=f"def check(candidate):\n{tests}", entry_point="load")
    source = "def load(name):\n    import importlib\n    return importlib.import_module(name).__name__\n"
    return honest(85, "late-imports", source, check)


PROGRAMS: tuple[Hostile, ...] = (
    honest(
        82,
        "recursion-900",
        "def deep(n):\n    return n if n == 0 else 1 + deep(n - 1)\n\n"
        "def add(a, b):\n    return deep(900) - 900 + a + b\n",
    ),
    honest(
        82,
        "recursion-20000",
        "import sys\nsys.setrecursionlimit(10**6)\n\ndef deep(n):\n    return n if n == 0 else 1 + deep(n - 1)\n\n"
        "def add(a, b):\n    return deep(20_000) - 20_000 + a + b\n",
    ),
    honest(
        82,
        "memory",
        "def add(a, b):\n    block = bytearray(200 << 20)\n    block[:: 1 << 12] = b'x' * len(block[:: 1 << 12])\n"
        "    return a + b if block[4096] == 120 else 0\n",
    ),
    honest(
        82,
        "work",
        "import time\n\ndef add(a, b):\n    while time.process_time() < 2: pass\n    return a + b\n",
    ),
    honest(
        82,
        "waiting",
        "import time\n\ndef add(a, b):\n    time.sleep(0.2)\n    return a + b\n",
    ),
    honest(
        83,
        "prints",
        "import sys\nprint('x' * (1 << 20))\nprint('y' * (1 << 20), file=sys.stderr)\n\n"
        "def add(a, b):\n    print(a, b, flush=True)\n    return a + b\n",
    ),
    honest(83, "reads-nothing", "import sys\nassert sys.stdin.read() == ''\n\ndef add(a, b):\n    return a + b\n"),
    honest(
        83,
        "temporary-file",
        "import os, tempfile\n\ndef add(a, b):\n"
        "    with open('numbers.txt', 'w') as file:\n        file.write(f'{a} {b}')\n"
        "    with open('numbers.txt') as file:\n        a, b = map(int, file.read().split())\n"
        "    os.rename('numbers.txt', 'others.txt')\n    os.remove('others.txt')\n"
        "    with tempfile.TemporaryFile(dir='.') as file:\n        file.write(b'x' * 1000)\n"
        "    return a + b\n",
    ),
    honest(
        83,
        "temporary-files-again-and-again",
        "import os, time\n\ndef add(a, b):\n    until = time.monotonic() + 0.5\n"
        "    while time.monotonic() < until:\n        for n in range(50):\n            open(f'f{n}', 'w').close()\n"
        "        for n in range(50):\n            os.remove(f'f{n}')\n    return a + b\n",
    ),
    honest(
        83,
        "threads",
        "import threading\nfrom concurrent.futures import ThreadPoolExecutor\n\ndef add(a, b):\n    found = []\n"
        "    threads = [threading.Thread(target=found.append, args=(n,)) for n in range(10)]\n"
        "    for one in threads: one.start()\n    for one in threads: one.join()\n"
        "    with ThreadPoolExecutor(4) as pool:\n        assert sum(pool.map(abs, range(10))) == sum(found)\n"
        "    return a + b\n",
    ),
    honest(
        83,
        "event-loop",
        "import asyncio\n\nasync def later(a, b):\n    await asyncio.sleep(0.01)\n    return a + b\n\n"
        "def add(a, b):\n    return asyncio.run(later(a, b))\n",
    ),
    *_answers(),
    honest(
        85,
        "memoises",
        "from functools import lru_cache\nseen = {}\n\n@lru_cache(None)\ndef slow(n):\n    return n\n\n"
        "def add(a, b):\n    if (a, b) not in seen:\n        seen[a, b] = slow(a) + slow(b)\n    return seen[a, b]\n",
        THRICE,
    ),
    honest(
        85,
        "changes-its-argument",
        "def add(a, b):\n    a.sort()\n    a.append(b)\n    return a\n",
        test_of("given = [2, 1]\nassert candidate(given, 3) == [1, 2, 3]\nassert candidate([5, 4], 6) == [4, 5, 6]"),
    ),
    honest(
        85,
        "own-names",
        "class Adder:\n    def __init__(self, a): self.a = a\n    def to(self, b): return self.a + b\n\n"
        "METADATA = {'author': 'me'}\n\ndef check(candidate):\n    assert candidate(1, 1) == 2\n\n"
        "def candidate(a, b):\n    return Adder(a).to(b)\n\ndef add(a, b):\n    return candidate(a, b)\n\n"
        "check(add)\nassert add(2, 2) == 4\n",
    ),
    honest(
        85,
        "run-as-a-script",
        "import sys\n\ndef add(a, b):\n    return a + b\n\nif __name__ == '__main__':\n"
        "    print(add(int(input()), int(input())))\n    sys.exit(0)\n",
    ),
    _imports(),
    honest(
        85,
        "imports-many",
        "".join(f"import {name}\n" for name in MODULES[:60]) + "\ndef add(a, b):\n    return a + b\n",
    ),
    *(
        honest(85, f"function-as-{name}", source, THRICE)
        for name, source in (
            ("lambda", "add = lambda a, b: a + b\n"),
            ("partial", "import functools\nadd = functools.partial(lambda c, a, b: a + b, None)\n"),
            ("object", "class Add:\n    def __call__(self, a, b):\n        return a + b\n\nadd = Add()\n"),
            ("class", "class add:\n    def __new__(cls, a, b):\n        return a + b\n"),
            ("method", "class Add:\n    def plus(self, a, b):\n        return a + b\n\nadd = Add().plus\n"),
            ("built-in", "import operator\nadd = operator.add\n"),
            ("wrapper", "import functools\n\n@functools.cache\ndef add(a, b):\n    return a + b\n"),
        )
    ),
    honest(
        85,
        "forgiven-exception",
        "def add(a, b):\n    if b == 0:\n        raise ValueError('no zero')\n    return a + b\n",
        test_of(
            "assert candidate(1, 2) == 3\ntry:\n    candidate(1, 0)\nexcept ValueError:\n    return\n"
            "raise AssertionError"
        ),
    ),
    honest(
        85,
        "keywords",
        "def add(a, b=2, *, c=0):\n    return a + b + c\n",
        test_of("assert candidate(1) == 3\nassert candidate(1, b=4) == 5\nassert candidate(a=1, c=1) == 4"),
    ),
    honest(
        86,
        "catches-broadly",
        "def add(a, b):\n    try:\n        try:\n            return a // 0\n        except Exception:\n"
        "            pass\n        finally:\n            a = int(a)\n        raise KeyboardInterrupt\n"
        "    except BaseException:\n        return a + b\n",
    ),
    honest(
        86,
        "times-itself",
        "import random, time\n\ndef add(a, b):\n    began = time.perf_counter()\n    random.seed(7)\n"
        "    first = random.random()\n    random.seed(7)\n    assert first == random.random()\n"
        "    assert time.perf_counter() >= began and time.time() > 1e9\n    return a + b\n",
    ),
    honest(
        86,
        "own-random",
        "import random\nrng = random.Random(3)\n\ndef add(a, b):\n    rng.shuffle([1, 2, 3])\n    random.seed()\n"
        "    return a + b\n",
        test_of(
            "import random\nfor _ in range(5):\n    x, y = random.randint(0, 99), random.randint(0, 99)\n"
            "    assert candidate(x, y) == x + y"
        ),
    ),
    honest(
        86,
        "frightful-words",
        "import os, signal, socket, subprocess\n\n"
        "WORDS = 'kill fork socket eval exec import os; os.system(\"rm -rf /\") __subclasses__ /etc/passwd'\n\n"
        "def kill(fork):\n    return fork\n\nclass socket_:\n    eval = staticmethod(kill)\n\n"
        "def add(a, b):\n    ptrace = socket_.eval(a)\n    return ptrace + eval('b') if 'fork' in WORDS else None\n",
    ),
    honest(
        86,
        "frames-and-signals-of-its-own",
        "import inspect, signal, sys\n\ndef add(a, b):\n"
        "    signal.signal(signal.SIGTERM, lambda *_: None)\n    name = inspect.currentframe().f_code.co_name\n"
        "    assert sys._getframe().f_code.co_name == name == 'add'\n"
        "    exec('c = a + b', {}, place := {'a': a, 'b': b})\n"
        "    return place['c']\n",
    ),
)
