"""No-op tasks a second through Dask: python3 dask_noop.py TASKS ROUNDS. Prints one line of JSON.

Four processes of 16 threads, as edgeprof has four workers of 16 boards.
"""

import json
import sys
import time

import distributed


def nothing(_):
    return None


def main():
    tasks, rounds = int(sys.argv[1]), int(sys.argv[2])
    cluster = distributed.LocalCluster(n_workers=4, threads_per_worker=16, dashboard_address=None, silence_logs=50)
    client = distributed.Client(cluster)
    client.gather(client.map(nothing, range(64), pure=False))
    rates = []
    for _ in range(rounds):
        start = time.monotonic()
        client.gather(client.map(nothing, range(tasks), pure=False))
        rates.append(tasks / (time.monotonic() - start))
    client.close()
    cluster.close()
    print(json.dumps({"version": distributed.__version__, "rates": rates}))


if __name__ == "__main__":
    main()
