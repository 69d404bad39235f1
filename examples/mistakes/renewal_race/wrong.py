"""Wrong: when a renewal comes too late, the lock is taken again under the running
job. Run it as python3 -m renewal_race.wrong."""

import subprocess
import sys

from fence import acquire, lock, read_number, release, s3fence, store, write_number

SCOPE, KEY = "s3://demo/stock/", "stock/n"


def renew_or_take_again(token):
    try:
        return s3fence("lock", "renew", SCOPE, "--token", token)
    except subprocess.CalledProcessError:
        return acquire(SCOPE, "ann")  # "we hold it again, so all is well"


def ann():
    token = acquire(SCOPE, "ann", ttl="1s")
    n = read_number(store(token), KEY)
    bob()  # the planted delay: ann stands still until her lease is over
    token = renew_or_take_again(token)  # the renewal thread is the first to wake up
    write_number(store(token), KEY, n + 1)  # the newest token, and an old n
    release(SCOPE, token)


def bob():
    with lock(SCOPE, "bob") as token:  # waits for the end of ann's lease
        s3 = store(token)
        write_number(s3, KEY, read_number(s3, KEY) + 1)


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    before = read_number(store(), KEY)
    ann()
    print(f"two workers added 1 each: {before} became {read_number(store(), KEY)}")
