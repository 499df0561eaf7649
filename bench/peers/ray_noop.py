"""No-op tasks a second through Ray: python3 ray_noop.py TASKS ROUNDS. Prints one line of JSON.

One process a core, which is Ray's own default and its fastest setting here; each takes its tasks one after the
other. Submission, execution and the return of every result count, as they do for edgeprof.
"""

import json
import sys
import time

import ray

tasks, rounds = int(sys.argv[1]), int(sys.argv[2])
ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")


@ray.remote
def nothing():
    return None


ray.get([nothing.remote() for _ in range(64)])
rates = []
for _ in range(rounds):
    start = time.monotonic()
    ray.get([nothing.remote() for _ in range(tasks)])
    rates.append(tasks / (time.monotonic() - start))
ray.shutdown()
print(json.dumps({"version": ray.__version__, "rates": rates}))
