"""Right: locks, then reads. Run it as python3 -m check_then_lock.right."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from fence import lock, read_number, somebody_waits, store, write_number

SCOPE, KEY = "s3://demo/counter/", "counter/n"


def add_one(owner, other_is_there):
    with lock(SCOPE, owner) as token:  # lock …
        s3 = store(token)
        n = read_number(s3, KEY)  # … then read, under the token: refused once it is stale
        if not other_is_there.is_set():
            other_is_there.set()  # the first one lets the other one begin,
            somebody_waits(SCOPE)  # and the planted delay ends when that one waits
        write_number(s3, KEY, n + 1)


with ThreadPoolExecutor() as pool:
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        before = read_number(store(), KEY)
        other_is_there = Event()
        workers = [pool.submit(add_one, owner, other_is_there) for owner in ["ann", "bob"]]
        for worker in workers:
            worker.result()
        print(f"two workers added 1 each: {before} became {read_number(store(), KEY)}")
