"""The head of a cluster of this machine alone: a program that starts Ray, says where, and ends with its starter."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path


def main(folder: Path, limit: float, options: dict[str, object]) -> None:
    """Run Ray until standard input or the starter ends; ``folder/head.json`` then tells how to join."""
    starter = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends its cluster itself
    faulthandler.dump_traceback_later(max(1.0, limit - 5))  # where it hangs, for whoever reads the log
    # By this Ray listens on the loopback interface alone: nobody else may reach this cluster, and a firewall between
    # this machine and its own outer address stops nothing. Ray turns a plain 127.0.0.1 into the outer address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    context = ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level="CRITICAL", **options
    )
    told = {"address": context.address_info["gcs_address"], "mode": os.environ.get("RAY_AUTH_MODE", "")}
    draft = folder / "head.part"
    draft.write_text(json.dumps(told))
    draft.rename(folder / "head.json")
    faulthandler.cancel_dump_traceback_later()
    while os.getppid() == starter and not select.select([sys.stdin], [], [], 1.0)[0]:
        pass
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # a starter that was killed does not


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]))
