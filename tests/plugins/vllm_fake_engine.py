"""A fake engine for tests of the asking side: it speaks the lines of engine.py, and does what its arguments script.

``die_after``: kill itself with signal 9 after so many answers. ``fail``: what it says instead of being ready.
``log``: lines that it prints before. ``hold``: answers only what it gets after so many requests at once. Texts are the
last two ids of the prompt, reversed; the log-probability of a token is minus its id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main(come: int, go: int) -> None:
    """Answer line by line."""
    lines, out = os.fdopen(come, "r"), os.fdopen(go, "w")

    def send(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=out, flush=True)

    script = json.loads(lines.readline())["arguments"]
    sys.stdout.write("this is what vLLM prints on its standard output\n")
    for line in script.get("log", ()):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    if "fail" in script:
        send({"failed": script["fail"]})
        sys.exit(1)
    send({"ready": {"version": "0", "max_num_seqs": script.get("max_num_seqs", 4), "max_model_len": 64}})
    answered = 0
    held: list[dict[str, Any]] = []
    for line in lines:
        message = json.loads(line)
        if "end" in message:
            return
        if "drop" in message:
            held = [one for one in held if one["id"] not in message["drop"]]
            continue
        held.append(message)
        if len(held) < script.get("hold", 1):
            continue
        for one in held:
            if script.get("die_after") == answered:
                os.kill(os.getpid(), signal.SIGKILL)
            send(answer(one))
            answered += 1
        held = []


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """What is said to a request."""
    settings, ids = message["settings"], message["ids"]
    if settings.get("temperature", 0) > 2:
        return {"id": message["id"], "error": "temperature must be in [0, 2]."}
    if "logprob_token_ids" in settings:
        return {"id": message["id"], "logprobs": [-float(one) for one in settings["logprob_token_ids"]], "cached": 0}
    return {"id": message["id"], "texts": [[ids[:-3:-1], "length"]] * settings.get("n", 1), "cached": len(ids) // 2}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
