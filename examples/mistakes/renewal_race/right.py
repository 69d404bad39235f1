"""Right: a job keeps the token it began with; when that is lost, all begins again.
Run it as python3 -m renewal_race.right."""

import sys

from botocore.exceptions import ClientError

from fence import acquire, is_stale, lock, read_number, release, store, write_number

SCOPE, KEY = "s3://demo/stock/", "stock/n"


def ann(delay):
    while True:
        token = acquire(SCOPE, "ann", ttl="1s" if delay else "30s")
        s3 = store(token)  # every request of this job carries this token, to its end
        try:
            n = read_number(s3, KEY)
            if delay:
                delay = delay()  # the planted delay: ann stands still until her lease is over
            write_number(s3, KEY, n + 1)  # no look at the lease can make this safe; the token does
            return release(SCOPE, token)
        except ClientError as error:
            if not is_stale(error):
                raise
            print("ann:", error.response["Error"]["Message"])  # and once more, from the read on


def bob():
    with lock(SCOPE, "bob") as token:  # waits for the end of ann's lease
        s3 = store(token)
        write_number(s3, KEY, read_number(s3, KEY) + 1)


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    before = read_number(store(), KEY)
    ann(bob)
    print(f"two workers added 1 each: {before} became {read_number(store(), KEY)}")
