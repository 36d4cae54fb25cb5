"""What ``evalkit judge`` is given, as pairs: a run and what it is compared with, a judged run, or a file of pairs."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import DataError, EvalkitError, Row, Source
from evalkit.store import RunFolder
from evalkit_judge import pairs
from evalkit_judge.pairs import Pair

#: The five answers of the paper's raters, for the first output.
_PREFERENCES = {"a-is-better": 1.0, "a-is-slightly-better": 1.0, "tie": 0.5, "b-is-slightly-better": 0.0}
_PREFERENCES["b-is-better"] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Pairs, and whose they are."""

    pairs: tuple[Pair, ...]
    model: str
    reference: str
    #: What a reader of the numbers must know: what is not among the pairs.
    notes: tuple[str, ...] = ()
    #: Whose opinions the labels are; empty where there are none.
    labels: str = ""

    def about(self) -> dict[str, Any]:
        """What the manifest of the judge's run says."""
        about = {"model": self.model, "reference": self.reference, "notes": list(self.notes)}
        return {**about, "labels": self.labels} if self.labels else about


def against(run: Path, other: Path, *, common: bool) -> Gathered:
    """A run's answers and another run's, or a file's, to the same questions.

    Answers that failed on either side make no pair; that is noted. A question that the other does not have at all is an
    error, or noted, too, where only ``common`` ones are wanted.
    """
    mine, (theirs, reference) = list(_records(run)), _outputs(other)
    made, failed, missing = [], 0, []
    for row in mine:
        found = theirs.get(row.text("question"), theirs.get(f"id {row.text('id')}", _MISSING))
        if found is _MISSING:
            missing.append(row.text("question"))
        elif found is None or not row["answers"]:
            failed += 1
        else:
            made.append(pairs.of_record(Row({**row, "target": found}, row.where, row.number)))
    if missing and not common:
        raise EvalkitError(
            f"{other} has no output for {len(missing)} of {len(mine)} questions of {run}, such as "
            f"{' '.join(missing[0].split())[:60]!r}; --common judges those that both have."
        )
    notes = [f"{failed} answers of the judged run are not judged: they, or what they are compared with, had failed"]
    notes = notes * bool(failed) + [f"only the {len(made) + failed} questions that both have"] * bool(missing)
    model = str(RunFolder.existing(run).manifest["model"])
    return Gathered(pairs=_some(made, run), model=model, reference=reference, notes=tuple(notes))


def judged(run: Path) -> Gathered:
    """The pairs of a judge's run, with its verdicts as labels: what another judge can be measured by."""
    from evalkit_judge.verdicts import read

    found = read(run)
    made = [replace(one.pair, labels=one.pair.labels or one.labels) for one in found.pairs]
    labels = found.labels or found.judge
    return Gathered(pairs=_some(made, run), model=found.model, reference=found.reference, labels=labels)


def of_file(path: Path) -> Gathered:
    """A file of pairs: annotations of alpaca_eval, or instances or records of the paper's human evaluation.

    JSON, JSON Lines or CSV, gzipped or not. Several people's opinions of one pair become labels of that pair.
    """
    found: dict[tuple[str, ...], Pair] = {}
    models: Counter[str] = Counter()
    references: Counter[str] = Counter()
    for row in _rows(path):
        pair, model, reference = _pair(row)
        key = (pair.question, pair.said, pair.reference, model, reference)
        swapped = (pair.question, pair.reference, pair.said, reference, model)
        if swapped in found and key not in found:  # somebody saw them in the other order
            labels = tuple(1.0 - label for label in pair.labels)
            found[swapped] = replace(found[swapped], labels=found[swapped].labels + labels)
            continue
        models[model] += 1
        references[reference] += 1
        before = found.get(key, replace(pair, labels=()))
        found[key] = replace(before, labels=before.labels + pair.labels)
    several = len(references) > 1 or len(models) > 1
    made = [
        replace(pair, id=f"{number}", subset=pair.subset if several or "/" not in pair.subset else "")
        for number, pair in enumerate(found.values())
    ]
    whose = path.name if any(pair.labels for pair in made) else ""
    return Gathered(pairs=_some(made, path), model=_names(models), reference=_names(references), labels=whose)


_MISSING: Any = object()


def _records(run: Path) -> Iterator[Row]:
    for number, fields in enumerate(RunFolder.existing(run).records()):
        yield Row(fields, f"{run / 'records.jsonl'}:{number + 1}", number)


def _outputs(path: Path) -> tuple[Mapping[str, str | None], str]:
    """Question, or ``id`` and an id, -> output, None for one that failed; and what to call them."""
    if path.is_dir():
        rows = _records(path)
        found = {row.text("question"): pairs.said(row) if row["answers"] else None for row in rows}
        return found, str(RunFolder.existing(path).manifest["model"])
    outputs: dict[str, str | None] = {}
    names: Counter[str] = Counter()
    for row in _rows(path):
        names[str(row.get("generator", path.name))] += 1
        if "instruction" in row:
            more = str(row.get("input") or "")
            outputs[row.text("instruction") + (f"\n\n{more}" if more else "")] = row.text("output").strip()
        elif "id" in row and "text" in row:
            outputs[f"id {row['id']}"] = row.text("text").strip()
        else:
            raise row.fault("an output to compare with is expected: instruction and output, or id and text")
    return outputs, _names(names)


def _rows(path: Path) -> Iterator[Row]:
    source = Source(path)
    name = source.name
    bare = name.removesuffix(".gz")
    if bare.endswith(".csv"):
        for number, fields in enumerate(csv.DictReader(io.StringIO(source.text(name)))):
            yield Row(fields, f"{name}:{number + 2}", number)
    elif bare.endswith((".jsonl", ".ndjson")):
        yield from source.jsonl(name)
    else:
        found = source.json(name)
        if not isinstance(found, list) or not all(isinstance(fields, Mapping) for fields in found):
            raise DataError(f"{name}: a list of objects is expected.")
        for number, fields in enumerate(found):
            yield Row(fields, f"{name} entry {number}", number)


def _pair(row: Row) -> tuple[Pair, str, str]:
    """A row's pair, the model of ``said`` and that of ``reference``."""
    if "output_1" in row and "output_2" in row:
        fields = {"instruction": row.text("instruction"), "input": str(row.get("input") or "")}
        outputs = row.text("output_2"), row.text("output_1")
        models = str(row.get("generator_2", "output_2")), str(row.get("generator_1", "output_1"))
        labels = _annotated(row)
        subset = str(row.get("dataset") or "")
    elif "completion_a" in row and "completion_b" in row:
        fields = {"instruction": row.text("prompt")}
        outputs = row.text("completion_a"), row.text("completion_b")
        models = str(row.get("model_a", "A")), str(row.get("model_b", "B"))
        labels = _rated(row)
        subset = " / ".join(models)
    elif isinstance(row.get("completions"), list) and len(row["completions"]) == 2:
        fields = {"instruction": row.text("prompt")}
        sides = [Row(side, row.where, row.number) for side in row["completions"]]
        outputs = sides[0].text("completion"), sides[1].text("completion")
        models = sides[0].text("model"), sides[1].text("model")
        labels, subset = (), " / ".join(models)
    else:
        raise row.fault(
            "no pair of outputs: expected instruction, output_1 and output_2; or prompt and completions; "
            f"or prompt, completion_a and completion_b; found {', '.join(row)}"
        )
    said, reference = (output.strip() for output in outputs)
    return Pair(id="", said=said, reference=reference, subset=subset, labels=labels, **fields), *models


def _annotated(row: Row) -> tuple[float, ...]:
    """alpaca_eval's preference: 1 for the first output, 2 for the second, 0 or between for a tie; null says nothing."""
    preference = row.get("preference")
    if preference is None:
        return ()
    if preference == 0:
        return (0.5,)
    if not isinstance(preference, int | float) or not 1 <= preference <= 2:
        raise row.fault(f"'preference' should be 0 or from 1 to 2, but is {preference!r}")
    return (float(preference) - 1.0,)


def _rated(row: Row) -> tuple[float, ...]:
    """A rater's word for it; none in a record that is only feedback on the instance."""
    preference = row.get("preference")
    if not preference:
        return ()
    if preference not in _PREFERENCES:
        raise row.fault(f"'preference' should be one of {', '.join(_PREFERENCES)}, but is {preference!r}")
    return (_PREFERENCES[preference],)


def _names(counted: Counter[str]) -> str:
    return ", ".join(name for name, _ in counted.most_common())


def _some(made: Iterable[Pair], path: Path) -> tuple[Pair, ...]:
    found = tuple(made)
    if not found:
        raise DataError(f"{path} gives no pair of outputs to judge.")
    return found
