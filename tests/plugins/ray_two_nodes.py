"""A program: a cluster of a head and another node, of one processor each, which a line on standard input takes away."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    # Addresses that no firewall stands before, and that Ray does not turn into the outer one.
    size = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={**size, "include_dashboard": False, "node_ip_address": "127.0.0.2"}
    )
    other = cluster.add_node(**size, node_ip_address="127.0.0.3")
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    if sys.stdin.readline().strip() == "lose":
        cluster.remove_node(other, allow_graceful=False)
        sys.stdout.write("lost\n")
        sys.stdout.flush()
        sys.stdin.read()
    cluster.shutdown()
