"""V: programs that are wrong and want to be called right."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from tests.plugins.hostile.suite import ADD, AMPLE, IDLE, SHORT, Hostile

from evalkit_sandbox.program import Check

#: Candidate and test in one process, as other harnesses do: there most of these win.
SPLIT = frozenset({"split"})


def test_of(body: str, setup: str = ADD.setup, entry_point: str = "add") -> Check:
    """A check whose function does this."""
    test = f"def check(candidate):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
    return Check(setup=setup, test=test, entry_point=entry_point)


THRICE = test_of("for n in range(3):\n    assert candidate(n, 2) == n + 2")
SURE = test_of("given = [1, 2]\nassert candidate(given, 0) == [1, 2]\nassert given == [1, 2]")

#: As HumanEval/32, /38 and /50 have it: the test calls a helper that stands in the prompt.
POLY = test_of(
    """
    import math, random
    rng = random.Random(42)
    for _ in range(20):
        xs = [rng.randint(-10, 10) or 1 for _ in range(2 * rng.randint(1, 4))]
        assert math.fabs(poly(xs, candidate(list(xs)))) < 1e-4
    """,
    setup="""
import math

def poly(xs: list, x: float):
    return sum([coeff * math.pow(x, i) for i, coeff in enumerate(xs)])

def find_zero(xs: list):
    pass
""",
    entry_point="find_zero",
)
CYCLIC = test_of(
    """
    from random import randint
    for _ in range(20):
        text = ''.join(chr(randint(97, 122)) for _ in range(randint(10, 20)))
        assert candidate(encode_cyclic(text)) == text
    """,
    setup="""
def encode_cyclic(s: str):
    groups = [s[(3 * i):min((3 * i + 3), len(s))] for i in range((len(s) + 2) // 3)]
    return "".join([(group[1:] + group[0]) if len(group) == 3 else group for group in groups])

def decode_cyclic(s: str):
    pass
""",
    entry_point="decode_cyclic",
)
SHIFT = test_of(
    """
    from random import randint
    for _ in range(20):
        text = ''.join(chr(randint(97, 122)) for _ in range(randint(10, 20)))
        assert candidate(encode_shift(text)) == text
    """,
    setup="""
def encode_shift(s: str):
    return "".join([chr(((ord(ch) + 5 - ord("a")) % 26) + ord("a")) for ch in s])

def decode_shift(s: str):
    pass
""",
    entry_point="decode_shift",
)
#: As HumanEval/53 has it.
RANDOM = test_of(
    """
    import random
    assert candidate(0, 0) == 0
    for _ in range(20):
        x, y = random.randint(0, 1000), random.randint(0, 1000)
        assert candidate(x, y) == x + y
    """
)

#: Pleases whoever asks anything of it.
PLEASING = """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    def __same(self, *others): return self
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __same
    __abs__ = __neg__ = __round__ = __getitem__ = __call__ = __pow__ = __mod__ = __floordiv__ = __same
    def __len__(self): return 3
    def __iter__(self): return iter([1, 2, 3])
    def __bool__(self): return True
    def __hash__(self): return hash(3)
    def __index__(self): return 3
    def __int__(self): return 3
    def __float__(self): return 3.0
    def __str__(self): return "3"
    __repr__ = __str__
    def __getattr__(self, name): return self

def add(a, b):
    return Yes()
"""


def _exits() -> tuple[Hostile, ...]:
    ways = {"sys-exit": "sys.exit(0)", "system-exit": "raise SystemExit", "os-exit": "os._exit(0)", "quit": "quit()"}
    found = []
    for name, way in ways.items():
        # Without the module `site` there is no quit().
        reasons = ("ended-early", "exception NameError") if name == "quit" else ("ended-early",)
        for place, source in (
            ("at-load", f"import os, sys\n\ndef add(a, b):\n    return 0\n\n{way}\n"),
            ("in-the-call", f"import os, sys\n\ndef add(a, b):\n    {way}\n"),
        ):
            found.append(
                Hostile(
                    number=47,
                    name=f"exit-zero/{name}-{place}",
                    source=source,
                    reasons=reasons,
                    weakened=None if name == "quit" else SPLIT,
                    because="a program that has not answered has not passed" if name == "quit" else "",
                )
            )
    return tuple(found)


def _equals() -> tuple[Hostile, ...]:
    checks = {
        "equal": ADD,
        "unequal": test_of("assert not candidate(1, 2) != 3"),
        "near": test_of("assert abs(candidate(1, 2) - 3) < 1e-6"),
        "length": test_of("assert len(candidate(1, 2)) == 3"),
        "sorted": test_of("assert sorted(candidate(1, 2)) == [1, 2, 3]"),
        "tuple": test_of("assert tuple(candidate(1, 2)) == (1, 2, 3)"),
        "key": test_of("assert {3: True}[candidate(1, 2)]"),
        "one-of": test_of("assert candidate(1, 2) in (3, 4)"),
        "within": test_of("assert [candidate(1, 2)] == [3]"),
        "less": test_of("assert 2 < candidate(1, 2) < 4"),
        "text": test_of("assert str(candidate(1, 2)) == '3'"),
    }
    return tuple(
        Hostile(
            number=49,
            name=f"equal-to-all/{name}",
            source=PLEASING,
            reasons=("not-plain",),
            weakened=SPLIT,
            check=check,
        )
        for name, check in checks.items()
    )


def _subclasses() -> tuple[Hostile, ...]:
    kinds = {
        "int": "int",
        "float": "float",
        "str": "str",
        "list": "list",
        "tuple": "tuple",
        "dict": "dict",
        "set": "set",
        "bytes": "bytes",
        "complex": "complex",
        "fraction": "__import__('fractions').Fraction",
        "decimal": "__import__('decimal').Decimal",
        "counter": "__import__('collections').Counter",
    }
    source = (
        "class Yes({0}):\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    def __bool__(self): return True\n"
        "    __hash__ = {0}.__hash__\n\n"
        "def add(a, b):\n    return Yes()\n"
    )
    return tuple(
        Hostile(
            number=50,
            name=f"equal-subclass/{name}",
            source=source.format(kind),
            reasons=("wrong-answer",),
            weakened=SPLIT,
        )
        for name, kind in kinds.items()
    )


def _patched() -> tuple[Hostile, ...]:
    """Item 54: what is patched, with what, what is answered, by which test."""
    rows = (
        ("abs", "lambda x: 0", "0", "assert abs(candidate(1, 2) - 3) < 1e-6"),
        ("all", "lambda them: True", "0", "assert all(candidate(n, 1) == n + 1 for n in range(3))"),
        ("any", "lambda them: False", "0", "assert not any(candidate(n, 1) != n + 1 for n in range(3))"),
        ("len", "lambda them: 3", "[]", "assert len(candidate(1, 2)) == 3"),
        ("sorted", "lambda them, **_: [1, 2, 3]", "[]", "assert sorted(candidate(1, 2)) == [1, 2, 3]"),
        ("isinstance", "lambda one, kind: True", "0", "assert isinstance(candidate(1, 2), str)"),
        ("round", "lambda x, *_: 3.0", "0", "assert round(candidate(1, 2), 2) == 3.0"),
        ("range", "lambda *_: ()", "0", "for n in range(3):\n    assert candidate(n, 1) == n + 1"),
        ("sum", "lambda them: 6", "[]", "assert sum(candidate(1, 2)) == 6"),
        (
            "AssertionError",
            "type('Zero', (SystemExit,), {'code': 0})",
            "0",
            "if candidate(1, 2) != 3:\n    raise AssertionError",
        ),
        (
            "__import__",
            "lambda *_: type('module', (), {'isclose': lambda *_: True})",
            "0",
            "import math\nassert math.isclose(candidate(1, 2), 3)",
        ),
        (
            "__build_class__",
            "lambda *_: type('Expected', (), {'matches': lambda *_: True})",
            "0",
            "class Expected:\n    def matches(self, value): return value == 3\n"
            "assert Expected().matches(candidate(1, 2))",
        ),
    )
    return tuple(
        Hostile(
            number=54,
            name=f"patched-builtins/{name}",
            source=f"import builtins\nbuiltins.{name} = {fake}\n\ndef add(a, b):\n    return {answer}\n",
            # Some of what a program breaks here its own process needs to answer at all.
            reasons=("ended-early", "timed-out wall") if name in ("len", "range") else ("wrong-answer",),
            weakened=SPLIT,
            limits=IDLE if name in ("len", "range") else AMPLE,
            check=test_of(body),
        )
        for name, fake, answer, body in rows
    )


def _modules() -> tuple[Hostile, ...]:
    """Item 55: what is patched, with what, what is answered, by which test."""
    rows = (
        ("random.randint", "lambda a, b: 0", "0", RANDOM),
        (
            "random.choice",
            "lambda them: 0",
            "0",
            test_of(
                "import random\nfor _ in range(9):\n    n = random.choice(range(1, 9))\n"
                "    assert candidate(n, n) == 2 * n"
            ),
        ),
        ("math.fabs", "lambda x: 0.0", "0", test_of("import math\nassert math.fabs(candidate(1, 2) - 3) < 1e-6")),
        ("math.isclose", "lambda *_: True", "0", test_of("import math\nassert math.isclose(candidate(1, 2), 3)")),
        (
            "copy.deepcopy",
            "lambda value: [1, 2, 3]",
            "a",
            test_of("import copy\nassert candidate(copy.deepcopy([3, 1, 2]), 0) == [1, 2, 3]"),
        ),
        (
            "string.ascii_lowercase",
            "''",
            "0",
            test_of("import string\nfor c in string.ascii_lowercase:\n    assert candidate(c, 'x') == c + 'x'"),
        ),
    )
    return tuple(
        Hostile(
            number=55,
            name=f"patched-modules/{name}",
            source=f"import {name.split('.')[0]}\n{name} = {fake}\n\ndef add(a, b):\n    return {answer}\n",
            reasons=("wrong-answer",),
            weakened=SPLIT,
            check=check,
        )
        for name, fake, answer, check in rows
    )


def _spliced() -> tuple[Hostile, ...]:
    wrong = "def add(a, b):\n    return a - b\n"
    never = "the test's text is never behind the program's"
    glued = "def ignore(function):\n    return lambda *_: None\n\n"
    rows = (
        ("decorator", f"{glued}{wrong}\n@ignore", ("syntax-error",), SPLIT),
        ("open-string", f'{wrong}\n"""', ("syntax-error",), None),
        ("backslash", f"{wrong}\nadd \\", ("syntax-error",), None),
        ("unfinished-if", f"{wrong}\nif 0:", ("syntax-error",), None),
        ("unfinished-class", f"{wrong}\nclass X:", ("syntax-error",), None),
        ("unfinished-try", f"{wrong}\ntry:\n    pass", ("syntax-error",), None),
        ("nul", f"{wrong}\0", ("syntax-error",), None),
        ("form-feed", f"\f{wrong}\f", ("wrong-answer",), None),
        ("coding-line", f"# -*- coding: utf-7 -*-\n{wrong}", ("wrong-answer",), None),
        ("unknown-coding", f"# coding: no-such-thing\n{wrong}", ("wrong-answer",), None),
        ("mark-of-byte-order", f"\ufeff{wrong}", ("syntax-error", "wrong-answer"), None),
        ("mark-in-the-middle", f"{wrong}\ufeff", ("syntax-error",), None),
        ("returns-of-the-carriage", wrong.replace("\n", "\r"), ("wrong-answer",), None),
        ("both-line-ends", wrong.replace("\n", "\r\n"), ("wrong-answer",), None),
        ("other-line-ends", f"# \x85\u2028 def add(a, b): return a + b\n{wrong}", ("wrong-answer",), None),
        ("surrogates", f"{wrong}x = '\ud800'\n", ("syntax-error", "wrong-answer"), None),
        ("nothing", "", ("exception NameError",), None),
        ("future", f"from __future__ import annotations\n{wrong}", ("wrong-answer",), None),
    )
    return tuple(
        Hostile(
            number=57,
            name=f"source-splice/{name}",
            source=source,
            reasons=reasons,
            weakened=weakened,
            because="" if weakened else never,
        )
        for name, source, reasons, weakened in rows
    )


def _names() -> tuple[Hostile, ...]:
    own = "what a program defines is looked at by nobody but its own process"
    called = "what a function gives is what counts, whatever it is"
    rows = (
        (
            "check",
            "def check(candidate):\n    pass\n\ncandidate = METADATA = lambda a, b: a + b\n\n"
            "def add(a, b):\n    return 0\n",
            ("wrong-answer",),
            own,
        ),
        (
            "check-that-cannot-be-changed",
            "class Fixed(dict):\n    __setitem__ = lambda *_: None\n\n__builtins__ = Fixed()\n\n"
            "def add(a, b):\n    return 0\n",
            ("wrong-answer", "exception"),
            own,
        ),
        ("nothing-left", "def add(a, b):\n    return a + b\n\ndel add\n", ("exception NameError",), own),
        (
            "gone-after-the-first-call",
            "def add(a, b):\n    globals().pop('add')\n    return a + b\n",
            ("exception KeyError",),
            own,
        ),
        (
            "wrong-after-the-first-call",
            "def add(a, b):\n    globals()['add'] = lambda a, b: 0\n    return a + b\n",
            ("wrong-answer",),
            own,
        ),
        ("class", "class add:\n    def __init__(self, a, b):\n        self.value = a + b\n", ("not-plain",), called),
        ("async", "async def add(a, b):\n    return a + b\n", ("not-plain",), called),
        ("generator", "def add(a, b):\n    yield a + b\n", ("not-plain",), called),
        ("function", "def add(a, b):\n    return lambda: a + b\n", ("not-plain",), called),
        ("number", "add = 3\n", ("exception TypeError",), called),
        ("lambda", "add = lambda a, b: a - b\n", ("wrong-answer",), called),
    )
    return tuple(
        Hostile(number=58, name=f"names-of-the-test/{name}", source=source, reasons=reasons, because=why, check=THRICE)
        for name, source, reasons, why in rows
    )


#: The library's own module of messages, as a program finds it in its process, and a frame of its answer.
CHANNEL = """
import os, struct, sys
channel = next(module for name, module in sys.modules.items() if name.endswith("inside.channel"))
def say(kind, nonce, value):
    content = kind + nonce + channel.encode(value)
    os.write(3, struct.pack("<I", len(content)) + content)
def nonce():
    frame = sys._getframe(2)
    return frame.f_locals["nonce"]
"""


def _frames() -> tuple[Hostile, ...]:
    numbered = "a call bears a number that its answer must repeat, and nothing may be said besides"
    rows = (
        ("before-it-is-loaded", "say(b'A', bytes(8), 3)\n\ndef add(a, b):\n    return 0\n", ("malformed",), False),
        (
            "says-it-is-loaded",
            "os.write(3, b'\\x01\\0\\0\\0L')\n\ndef add(a, b):\n    return a + b\n",
            ("malformed",),
            False,
        ),
        (
            "for-the-next-call",
            "def add(a, b):\n    say(b'A', nonce(), a + b)\n    say(b'A', nonce(), a + b + 1)\n    return a + b + 2\n",
            ("malformed",),
            False,
        ),
        (
            "a-wrong-guess",
            "def add(a, b):\n    say(b'A', nonce(), 4)\n    os._exit(0)\n",
            ("wrong-answer", "ended-early"),
            False,
        ),
        ("two-answers", "def add(a, b):\n    say(b'A', nonce(), a + b)\n    return a + b\n", ("malformed",), False),
        (
            "answer-and-exception",
            "def add(a, b):\n    say(b'A', nonce(), a + b)\n    raise ValueError\n",
            ("malformed",),
            False,
        ),
        (
            "answer-and-end",
            "def add(a, b):\n    say(b'A', nonce(), a + b)\n    os.close(3)\n    return 0\n",
            ("ended-early",),
            False,
        ),
        ("another-number", "def add(a, b):\n    say(b'A', bytes(8), a + b)\n    os._exit(0)\n", ("malformed",), False),
        ("another-kind", "def add(a, b):\n    say(b'L', nonce(), a + b)\n    os._exit(0)\n", ("malformed",), False),
        (
            "an-empty-frame",
            "def add(a, b):\n    os.write(3, bytes(4))\n    return a + b\n",
            ("malformed",),
            False,
        ),
    )
    return tuple(
        Hostile(
            number=59,
            name=f"early-frames/{name}",
            source=CHANNEL + source,
            reasons=reasons,
            or_correct=or_correct,
            because=numbered,
            check=THRICE,
        )
        for name, source, reasons, or_correct in rows
    )


#: What is asked next holds what was to be answered before.
NESTED = test_of("first = candidate(1, 2)\nassert first == 3\nassert candidate(first, 10) == 13")

#: Answers rightly as long as the next question has not come; what it finds in it, it says by the name that it raises.
PEEKING = """
import gc, os, select, sys
channel = next(module for name, module in sys.modules.items() if name.endswith("inside.channel"))

def add(a, b):
    frame, found = sys._getframe(1), []
    while frame:
        found += [one for one in frame.f_locals.values() if isinstance(one, bytes)]
        for one in frame.f_locals.values():
            if getattr(one, "gi_frame", None):
                found += [part for part in one.gi_frame.f_locals.values() if isinstance(part, bytes)]
        frame = frame.f_back
    if select.select([3], [], [], 0)[0]:
        found.append(os.read(3, 1 << 16))
    if a == 1 and any(channel.encode(((3, 10), {})) in part for part in found):
        raise type("Seen", (Exception,), {})
    return a + b
"""


def _own_channel() -> tuple[Hostile, ...]:
    own = "a program can change its own answers only"
    rows = (
        ("encode", "channel.encode = lambda value: b'i' + struct.pack('<q', 4)\n", ("wrong-answer",)),
        ("every-encode", "channel.encode = lambda value: b'T'\n", ("wrong-answer",)),
        ("opaque", "channel.encode = lambda value: b'O'\n", ("not-plain",)),
        ("rubbish", "channel.encode = lambda value: b'\\xff' * 100\n", ("malformed",)),
        ("frame", "channel.frame = lambda content: b'passed'\n", ("too-large", "malformed")),
        ("struct", "struct.pack = lambda *_: b'passed!!'\n", ("wrong-answer",)),
        ("write", "os.write = lambda *_: 1_000_000\n", ("timed-out wall",)),
        ("write-nothing", "os.write = lambda *_: 0\n", ("timed-out cpu",)),
        ("raise", "channel.encode = lambda value: 1 / 0\n", ("exception ZeroDivisionError",)),
        ("json", "import json\njson.dumps = json.loads = lambda *_: 'passed'\n", ("wrong-answer",)),
        ("socket", "import socket\nsocket.socket.send = lambda *_: 1\n", ("wrong-answer",)),
    )
    return tuple(
        Hostile(
            number=60,
            name=f"patched-channel/{name}",
            source=f"{CHANNEL}{source}\ndef add(a, b):\n    return 0\n",
            reasons=reasons,
            because=own,
            limits={"timed-out cpu": SHORT, "timed-out wall": IDLE}.get(reasons[0], AMPLE),
        )
        for name, source, reasons in rows
    )


def _gone() -> tuple[Hostile, ...]:
    rows = (
        ("exits", "os._exit(0)", ("ended-early",), SPLIT, ""),
        ("leaves", "sys.exit(0)", ("ended-early",), SPLIT, ""),
        ("raises", "raise KeyboardInterrupt", ("exception KeyboardInterrupt",), None, "an exception is no answer"),
        ("aborts", "os.abort()", ("killed",), None, "a program that has not answered has not passed"),
        (
            "hangs",
            "while time.process_time() < 6: pass\n        return a + b",
            ("timed-out cpu",),
            frozenset({"deadline"}),
            "",
        ),
        ("sleeps", "time.sleep(12)\n        return a + b", ("timed-out wall",), frozenset({"deadline"}), ""),
    )
    return tuple(
        Hostile(
            number=62,
            name=f"right-then-gone/{name}",
            source=f"import os, sys, time\n\ndef add(a, b):\n    if a == 2:\n        {last}\n    return a + b\n",
            reasons=reasons,
            weakened=weakened,
            because=because,
            limits={"timed-out cpu": SHORT, "timed-out wall": IDLE}.get(reasons[0], AMPLE),
            check=THRICE,
        )
        for name, last, reasons, weakened, because in rows
    )


def _floats() -> tuple[Hostile, ...]:
    near = test_of("assert abs(candidate(1, 2) - 3) < 1e-6")
    rows = (
        ("nan-near", "float('nan')", near),
        ("nan-equal", "float('nan')", test_of("answer = candidate(1, 2)\nassert answer == answer")),
        ("nan-within", "float('nan')", test_of("assert candidate(1, 2) in [float('nan')]")),
        ("infinite", "float('inf')", near),
        ("minus-infinite", "float('-inf')", test_of("assert candidate(1, 2) > 0")),
        ("infinite-twice", "float('inf')", test_of("assert abs(candidate(1, 2) - candidate(1, 2)) < 1e-6")),
        ("minus-zero", "-0.0", test_of("import math\nassert math.copysign(1, candidate(1, 2)) == 1")),
        ("subnormal", "5e-324", test_of("assert candidate(1, 2) == 0")),
        ("nan-in-complex", "complex('nan')", near),
        ("decimal-nan", "__import__('decimal').Decimal('nan')", ADD),
    )
    return tuple(
        Hostile(
            number=64,
            name=f"special-floats/{name}",
            source=f"def add(a, b):\n    return {answer}\n",
            reasons=("wrong-answer",),
            because="Python's own comparison",
            check=check,
        )
        for name, answer, check in rows
    )


PROGRAMS: tuple[Hostile, ...] = (
    *_exits(),
    Hostile(
        number=48,
        name="says-passed/printed",
        source="""
import os, sys
for text in ("passed", "OK", "PASSED", "1 passed", "True", '{"passed": true}', "result: passed", "exit code 0"):
    for descriptor in (1, 2):
        os.write(descriptor, text.encode() + b"\\n")
    print(text, flush=True)
    print(text, file=sys.stderr, flush=True)

def add(a, b):
    return 0
""",
        reasons=("wrong-answer",),
        because="what is printed leads nowhere",
    ),
    *(
        Hostile(
            number=48,
            name=f"says-passed/{name}",
            source=f"import os\nos.write(3, {text})\n\ndef add(a, b):\n    return 0\n",
            reasons=("malformed", "too-large"),
            because="what is not asked for is no answer",
        )
        for name, text in (
            ("on-the-data-socket", "b'passed\\n'"),
            ("as-a-frame", "b'\\x06\\0\\0\\0passed'"),
            ("as-json", """b'\\x14\\0\\0\\0{"reason": "passed"}'"""),
        )
    ),
    *_equals(),
    *_subclasses(),
    Hostile(
        number=51,
        name="liar-class/property",
        source="""
class Liar:
    __class__ = property(lambda self: int)
    def __eq__(self, other): return True

def add(a, b):
    return Liar()
""",
        reasons=("not-plain",),
        weakened=SPLIT,
        check=test_of("answer = candidate(1, 2)\nassert isinstance(answer, int)\nassert answer == 3"),
    ),
    Hostile(
        number=51,
        name="liar-class/metaclass",
        source="""
class Meta(type):
    def __instancecheck__(cls, one): return True
    def __subclasscheck__(cls, one): return True
    def __eq__(cls, other): return True
    __hash__ = type.__hash__
    mro = lambda cls: [cls, object]

class Liar(metaclass=Meta):
    def __eq__(self, other): return True

def add(a, b):
    return Liar()
""",
        reasons=("not-plain",),
        weakened=SPLIT,
    ),
    Hostile(
        number=51,
        name="liar-class/named-like-a-fraction",
        source="""
class Fraction:
    numerator = denominator = 3
    def __eq__(self, other): return True

Fraction.__module__ = "fractions"

def add(a, b):
    return Fraction()
""",
        reasons=("wrong-answer",),
        weakened=SPLIT,
    ),
    Hostile(
        number=52,
        name="frame-reader",
        source="""
import sys

def add(a, b):
    frame = sys._getframe(1)
    while frame:
        if frame.f_code.co_name == "check":
            (expected,) = [one for one in frame.f_code.co_consts if isinstance(one, int) and one not in (a, b)]
            return expected
        frame = frame.f_back
    raise LookupError
""",
        reasons=("exception LookupError",),
        weakened=SPLIT,
    ),
    Hostile(
        number=52,
        name="frame-reader/expected-in-a-local",
        source="""
import sys

def add(a, b):
    frame = sys._getframe(1)
    while frame:
        for name in ("expected", "want", "target", "solution"):
            if name in frame.f_locals:
                return frame.f_locals[name]
        frame = frame.f_back
    raise LookupError
""",
        reasons=("exception LookupError",),
        weakened=SPLIT,
        check=test_of("expected = 3\nassert candidate(1, 2) == expected"),
    ),
    Hostile(
        number=52,
        name="frame-forger/lists",
        source="""
import sys

def add(a, b):
    frame, forged = sys._getframe(1), 0
    while frame:
        for name in ("result", "results", "details", "stat", "progress"):
            if isinstance(frame.f_locals.get(name), list):
                frame.f_locals[name].insert(0, "passed")
                forged += 1
        frame = frame.f_back
    raise (ValueError if forged else LookupError)
""",
        reasons=("exception LookupError",),
        weakened=SPLIT,
    ),
    Hostile(
        number=52,
        name="frame-forger/objects",
        source="""
import gc, queue, sys

def add(a, b):
    for one in gc.get_objects():
        if type(one) is list and len(one) < 100:
            one.insert(0, "passed")
        if isinstance(one, queue.SimpleQueue):
            one.put("passed")
    return 0
""",
        reasons=("wrong-answer", "exception", "ended-early", "killed", "syntax-error", "malformed"),
        because="the judge's lists are not in this process",
    ),
    Hostile(
        number=53,
        name="tracer/settrace",
        source="""
import sys

def jump(frame, event, argument):
    if frame.f_code.co_name == "check" and event == "line" and frame.f_lineno == frame.f_code.co_firstlineno + 2:
        frame.f_lineno = frame.f_code.co_firstlineno + 3
    return jump

sys.settrace(jump)

def add(a, b):
    return 0
""",
        reasons=("wrong-answer",),
        weakened=SPLIT,
        check=test_of("answer = candidate(1, 2)\nassert answer == 3\nreturn None"),
    ),
    Hostile(
        number=53,
        name="tracer/setprofile",
        source="""
import sys

def replace(frame, event, argument):
    if frame.f_code.co_name == "check" and event == "call":
        frame.f_locals["candidate"] = lambda a, b: frame.f_code.co_consts[-1]

sys.setprofile(replace)

def add(a, b):
    return 0
""",
        reasons=("wrong-answer",),
        weakened=SPLIT,
    ),
    Hostile(
        number=53,
        name="tracer/audit",
        source="""
import sys

def jump(frame, event, argument):
    if event == "line" and frame.f_lineno == frame.f_code.co_firstlineno + 3:
        frame.f_lineno = frame.f_code.co_firstlineno + 4
    return jump

def heard(event, arguments):
    if event == "builtins.id" and sys._getframe(1).f_code.co_name == "check":
        sys._getframe(1).f_trace = jump
        sys.settrace(lambda *_: None)

sys.addaudithook(heard)

def add(a, b):
    return 0
""",
        reasons=("wrong-answer",),
        weakened=SPLIT,
        check=test_of("answer = candidate(1, 2)\nid(answer)\nassert answer == 3\nreturn None"),
    ),
    Hostile(
        number=53,
        name="tracer/monitoring",
        source="""
import sys

def replace(code, offset):
    if code.co_name == "check":
        sys._getframe(1).f_locals["candidate"] = lambda a, b: a + b

if hasattr(sys, "monitoring"):
    sys.monitoring.use_tool_id(0, "add")
    sys.monitoring.register_callback(0, sys.monitoring.events.PY_START, replace)
    sys.monitoring.set_events(0, sys.monitoring.events.PY_START)

def add(a, b):
    return 0
""",
        reasons=("wrong-answer",),
        because="the frames of a test are in another process; in one process it wins from Python 3.13 on",
    ),
    *_patched(),
    *_modules(),
    *(
        Hostile(
            number=56,
            name=f"helper-override/{name}",
            source=source,
            reasons=("wrong-answer", "exception TypeError"),
            weakened=SPLIT,
            check=check,
        )
        for name, source, check in (
            ("poly", "import math\n\ndef poly(xs, x):\n    return 0\n\ndef find_zero(xs):\n    return 0.5\n", POLY),
            (
                "poly-and-rubbish",
                "import math\n\ndef poly(xs, x):\n    return 0\n\ndef find_zero(xs):\n    return 'x'\n",
                POLY,
            ),
            ("encode-shift", "def encode_shift(s):\n    return s\n\ndef decode_shift(s):\n    return s\n", SHIFT),
            ("encode-cyclic", "def encode_cyclic(s):\n    return s\n\ndef decode_cyclic(s):\n    return s\n", CYCLIC),
        )
    ),
    *_spliced(),
    *_names(),
    *_frames(),
    Hostile(
        number=59,
        name="early-frames/sees-what-comes",
        source=PEEKING,
        reasons=("exception Never",),
        or_correct=True,
        because="that nothing is asked before what comes first is answered",
        check=NESTED,
    ),
    *_own_channel(),
    *(
        Hostile(
            number=61,
            name=f"pickle/{name}",
            source=f"""
import copyreg, os, pickle

def leave():
    os.mkdir("@FOLDER@/@MARK@")
    return 3

class Bomb:
    def __reduce__(self):
        return os.mkdir, ("@FOLDER@/@MARK@",)
    def __getstate__(self):
        return leave()

copyreg.pickle(complex, lambda value: (os.mkdir, ("@FOLDER@/@MARK@",)))

def add(a, b):
    {body}
""",
            reasons=reasons,
            because="nothing is ever unpickled",
        )
        for name, body, reasons in (
            ("object", "return Bomb()", ("not-plain",)),
            ("within", "return [Bomb(), {1: Bomb()}]", ("not-plain",)),
            ("copyreg", "return 3 + 0.5j", ("wrong-answer",)),
            ("bytes", "return pickle.dumps(Bomb())", ("wrong-answer",)),
            ("raw", "os.write(3, pickle.dumps(Bomb())); return 0", ("malformed", "too-large")),
            ("exception", "raise type('E', (Exception,), {'__reduce__': Bomb.__reduce__})", ("exception E",)),
        )
    ),
    *_gone(),
    Hostile(
        number=63,
        name="stateful",
        source="calls = []\n\ndef add(a, b):\n    calls.append(a)\n    return a + b if len(calls) > 1 else 0\n",
        reasons=("wrong-answer",),
        because="what a program remembers ends with its process, which is of one run",
        check=THRICE,
    ),
    Hostile(
        number=63,
        name="stateful/wrong-at-last",
        source="calls = []\n\ndef add(a, b):\n    calls.append(a)\n    return a + b if len(calls) < 3 else 0\n",
        reasons=("wrong-answer",),
        because="all answers count",
        check=THRICE,
    ),
    *_floats(),
    Hostile(
        number=65,
        name="argument-vandal/now",
        source="def add(a, b):\n    a.clear()\n    return a\n",
        reasons=("wrong-answer",),
        weakened=SPLIT,
        check=test_of("given = [1, 2]\nassert candidate(given, 0) == given"),
    ),
    Hostile(
        number=65,
        name="argument-vandal/later",
        source="""
import threading, time

def add(a, b):
    def change():
        for _ in range(100):
            a.clear()
            time.sleep(0.001)
    threading.Thread(target=change, daemon=True).start()
    return []
""",
        reasons=("wrong-answer",),
        weakened=SPLIT,
        check=test_of(
            "import time\ngiven = [1, 2]\nanswer = candidate(given, 0)\n"
            "for _ in range(200):\n    if answer == given: break\n    time.sleep(0.01)\nassert answer == given"
        ),
    ),
    Hostile(
        number=65,
        name="argument-vandal/keeps-them",
        source="kept = []\n\ndef add(a, b):\n    kept.append(a)\n    for one in kept:\n        one.append(0)\n"
        "    return [1, 2]\n",
        reasons=("wrong-answer",),
        because="that this test, too, keeps what it has given: nobody changes it, and the answer to [3] is wrong",
        check=replace(
            SURE,
            test=f"{SURE.test}    other = [3]\n    assert candidate(other, 0) == [3]\n    assert given == [1, 2]\n",
        ),
    ),
    Hostile(
        number=66,
        name="timing-oracle",
        source="""
import time
last = time.perf_counter()

def add(a, b):
    global last
    now = time.perf_counter()
    guess, last = int((now - last) * 1e6) % 7, now
    return guess if guess != a + b else guess + 1
""",
        reasons=("wrong-answer",),
        because="time tells a program nothing that its answers could use before they are compared",
        check=THRICE,
    ),
)
