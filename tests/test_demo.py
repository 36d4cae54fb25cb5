"""What the demo of training measures on was not learnt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_what_is_measured_begins_otherwise_than_all_that_is_learnt(tmp_path: Path) -> None:
    # Paths through trees: of the first tree three, then one, that one of the first again, two and two.
    asked = ["a", "a", "a", "b", "a", "c", "c", "d", "d"]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": one}], "id": place}) for place, one in enumerate(asked)
    ]
    (tmp_path / "talk.jsonl").write_text("\n".join(lines) + "\n")
    command = [sys.executable, str(ROOT / "demo" / "split.py"), str(tmp_path)]
    told = subprocess.check_output([*command, "talk=2+3"], text=True)
    assert told == "train.jsonl: 2 conversations\nheld-out.jsonl: 3 conversations\n"
    parts = [(tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("train", "held-out")]
    assert [[json.loads(line)["id"] for line in part] for part in parts] == [[0, 1], [3, 5, 6]]
    few = subprocess.run([*command, "talk=2+9"], capture_output=True, text=True, check=False)
    assert (few.returncode, few.stderr) == (
        1,
        f"{tmp_path / 'talk.jsonl'} holds too few conversations for 2 and 9 others.\n",
    )
