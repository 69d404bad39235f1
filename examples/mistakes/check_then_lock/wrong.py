"""Wrong: reads, then locks. Run it as python3 -m check_then_lock.wrong."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from fence import lock, read_number, store, write_number

SCOPE, KEY = "s3://demo/counter/", "counter/n"

both_have_read = Barrier(2, timeout=60)


def add_one(owner):
    n = read_number(store(), KEY)  # check …
    both_have_read.wait()  # the planted delay: any pause will do
    with lock(SCOPE, owner) as token:  # … then lock: n is old by now
        write_number(store(token), KEY, n + 1)


with ThreadPoolExecutor() as pool:
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        before = read_number(store(), KEY)
        list(pool.map(add_one, ["ann", "bob"]))
        print(f"two workers added 1 each: {before} became {read_number(store(), KEY)}")
