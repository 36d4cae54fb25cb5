"""``run LEVEL TIMES NAME...`` runs programs in this process; ``table FILE`` runs all, for a page of documentation."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.plugins.hostile import run, table

if __name__ == "__main__":
    if sys.argv[1] == "run":
        run.main(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        Path(sys.argv[2]).write_text(table.text())
