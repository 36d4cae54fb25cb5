"""What `trainer export` holds in memory above what lies on disk: the most that it allocates, beside the largest layer.

    EVALKIT_SMOLLM2=MODEL python benchmarks/export.py

A checkpoint of SmolLM2's shape, written by two ranks, is exported in shards of 50 MB. Anonymous memory is counted,
every millisecond; pages of files that are mapped can be dropped and are not counted. The bound is one layer in
fp32, the embeddings being one.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import torch

from trainer.exporting import stored
from trainer.exporting.export import LEARNER, export
from trainer.exporting.frame import Frame, write
from trainer.rendering import render
from trainer.training import fragments
from trainer.training.checkpoint import Checkpoint, State
from trainer.training.fragments import Fragment


class Peak:
    """The most anonymous memory of this process while the block runs, in bytes above what it was before."""

    def __enter__(self) -> Peak:
        self.before = self.most = anonymous()
        self._running = True
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()

    def _watch(self) -> None:
        while self._running:
            self.most = max(self.most, anonymous())
            time.sleep(0.001)


def anonymous() -> int:
    """Bytes that this process holds and that no file backs."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1)) * 1024


def checkpoint(frame: Frame, folder: Path, ranks: int = 2) -> None:
    """Write the files of a checkpoint of random numbers, of which each rank has an equal stretch of every parameter."""

    def pieces(rank: int) -> Iterator[Fragment]:
        for name, shape in frame.shapes.items():
            size = torch.Size(shape).numel()
            start, stop = size * rank // ranks, size * (rank + 1) // ranks
            numbers = torch.zeros(stop - start).normal_()
            yield Fragment(name=LEARNER + name, start=start, tensors=(numbers, numbers, numbers))

    for rank in range(ranks):
        fragments.write(pieces(rank), folder / f"rank-{rank:05}.safetensors")


def main() -> None:
    """Measure and print."""
    model = os.environ["EVALKIT_SMOLLM2"]
    used = render.load(model).template
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        made_of = {"template": {"name": used.name, "fingerprint": used.fingerprint}}
        frame = write(place / "frame", model=model, made_of=made_of, vocabulary=49152, dtype="bfloat16")
        # In a process of its own, so that none of its memory is there to be used again.
        writing = get_context("spawn").Process(target=checkpoint, args=(frame, place))
        writing.start()
        writing.join()
        state = State(step=1, updates=1, learnt={}, data="", world=2, layout={})
        found = Checkpoint(folder=place, state=state, files={one.name: {} for one in place.glob("rank-*")})
        sizes = {name: 4 * torch.Size(shape).numel() for name, shape in frame.shapes.items()}
        layers: dict[str, int] = {}
        for name, size in sizes.items():
            layer = re.sub(r"(\.\d+)\..*|\.weight$", r"\1", name)
            layers[layer] = layers.get(layer, 0) + size
        with Peak() as peak:
            export(stored.parameters(found, frame, "bfloat16"), frame.folder, place / "model", shard_bytes=50_000_000)
        files = len(list((place / "model").glob("*.safetensors")))
    above = peak.most - peak.before
    print(f"weights {sum(sizes.values()) / 1e6:,.0f} MB in fp32, exported to {files} files of bf16")
    print(f"largest layer {max(layers.values()) / 1e6:,.1f} MB, a block {layers['model.layers.0'] / 1e6:,.1f} MB")
    print(f"held at most {above / 1e6:,.1f} MB")
    assert above <= max(layers.values())


if __name__ == "__main__":
    main()
