"""What a dry run looks for where a prompt ends and its answer begins: stop strings, and the tokens of letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from evalkit.backend import Continues, Tokenizer
from evalkit.benchmark import Shots
from evalkit.prompt_checks import NAMED, Cases, Sight
from evalkit.types import Example, Finding, GenerateRequest, LikelihoodRequest

#: Endings of prompts behind which the tokens of answer letters are looked at; nearly always there is one.
ENDINGS = 64
#: Characters that make an ending: more than the longest token that could reach from a prompt into its answer.
REACH = 32


class Stops:
    """Whether a right answer could be cut by a stop string."""

    def __init__(self, shots: Shots) -> None:
        self._shots = shots
        self._shown: dict[str, str] = {}
        self._targets, self._prefixes, self._openings = Cases(), Cases(), Cases()
        self._strings: Counter[str] = Counter()

    def see(self, sight: Sight) -> None:
        """Look for stop strings in the right answers, in the shots and where the answer begins."""
        request, example = sight.request, sight.example
        if not isinstance(request, GenerateRequest) or not request.stop:
            return
        right = [text.strip() for text in (example.target, *example.aliases)]
        found = [next((stop for stop in request.stop if stop in text), "") for text in right]
        if all(found):
            self._targets.add(example)
            self._strings[found[0]] += 1
        elif example.subset not in self._shown:
            self._shown[example.subset] = self._in_shots(request, example)
        if sight.ids is None and request.chat and any(stop in request.answer_prefix for stop in request.stop):
            self._prefixes.add(example)
        blank = any(not stop.strip() for stop in request.stop)
        if (
            blank
            and request.chat
            and sight.ids is not None
            and not request.answer_prefix
            and not sight.text[-1:].isspace()
        ):
            self._openings.add(example)

    def _in_shots(self, request: GenerateRequest, example: Example) -> str:
        """The stop string in what a shot of this prompt shows as its answer, or nothing."""
        forms = [(shot.solution.strip(), shot.target.strip()) for shot in self._shots.of(example)]
        shown = [max((one for one in form if one in request.prompt), key=len, default="") for form in forms]
        return next((stop for answer in shown for stop in request.stop if stop in answer), "")

    def findings(self, seen: int) -> Iterator[Finding]:
        """Warnings."""
        if self._targets.count:
            strings = ", ".join(repr(stop) for stop, _ in self._strings.most_common(NAMED))
            yield Finding(
                level="warning",
                text=f"In {self._targets.of(seen, 'right answers')} there is a stop string ({strings}), so that no "
                "model can write them whole.",
                remedy="Ask another setting of the benchmark, or expect its scores to be that much too low.",
            )
        if cut := {subset: stop for subset, stop in self._shown.items() if stop}:
            subset, stop = next(iter(cut.items()))
            where = f" of {subset}" if subset else ""
            yield Finding(
                level="warning",
                text=f"The solved examples{where} hold the stop string {stop!r} within their answers: an answer in "
                "their form is cut there.",
                remedy="Show others with --shots-data, or none with --shots 0.",
            )
        if self._prefixes.count:
            yield Finding(
                level="warning",
                text=f"In {self._prefixes.of(seen)} the answer is to begin with a text that holds a stop string: a "
                "model that repeats it is cut there.",
                remedy="Leave --chat on out.",
            )
        if self._openings.count:
            yield Finding(
                level="warning",
                text=f"In {self._openings.of(seen)} no blank stands before the answer, and one stops it: an answer "
                "that begins with a new line is cut to nothing.",
                remedy="End the chat template's generation prompt as it ends before the answers it was trained on.",
            )


class Letters:
    """Whether answer letters are one token each, and not the same one."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer if isinstance(tokenizer, Continues) else None
        self._endings: set[tuple[str, tuple[str, ...]]] = set()
        self._tied: dict[str, None] = {}
        self._long: dict[str, int] = {}
        self._uneven = False

    def see(self, sight: Sight) -> None:
        """Look at the tokens of letters behind a prompt that ends otherwise than those before."""
        request = sight.request
        if self._tokenizer is None or not isinstance(request, LikelihoodRequest) or len(self._endings) >= ENDINGS:
            return
        key = (sight.text[-REACH:], request.continuations)
        if key in self._endings or not all(_is_letter(one) for one in request.continuations):
            return
        self._endings.add(key)
        tokens = [tuple(ids) for ids in self._tokenizer.continuation_ids(request)[1]]
        for text, ids in zip(request.continuations, tokens, strict=True):
            if any(ids == other and text != name for name, other in zip(request.continuations, tokens, strict=True)):
                self._tied[text] = None
            if len(ids) > 1:
                self._long[text] = len(ids)
        self._uneven = self._uneven or len(set(map(len, tokens))) > 1

    def findings(self, seen: int) -> Iterator[Finding]:
        """An error for letters that are the same to the model, a warning for letters of unlike length."""
        if self._tied:
            yield Finding(
                level="error",
                text=f"The answers {', '.join(map(repr, self._tied))} are compared by the same token, so the model "
                "cannot choose between them.",
                remedy="Leave out the -B option that encodes letters by themselves (protocol), or ask in the generated "
                "form of the benchmark.",
            )
        if self._long:
            letters = ", ".join(f"{text!r} {count}" for text, count in self._long.items())
            unlike = "a letter of more tokens is less likely for that alone" if self._uneven else "asking takes longer"
            yield Finding(
                level="warning" if self._uneven else "note",
                text=f"Answer letters are several tokens behind the prompt ({letters}): {unlike}.",
                remedy="Compare this model with others in the generated form of the benchmark."
                if self._uneven
                else "Nothing to do: all letters have the same number of tokens.",
            )


def _is_letter(text: str) -> bool:
    return sum(map(str.isalnum, text)) == 1 and len(text) <= 4
