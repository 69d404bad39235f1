"""Wrong: looks whether an event was handled, and then handles it. Run it as
python3 -m webhook_three_times.wrong."""

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from fence import store

all_have_looked = Barrier(3, timeout=60)
charged = []


def deliver(event):
    s3, mark = store(), {"Bucket": "demo", "Key": f"handled-{event}"}
    handled = s3.list_objects_v2(Bucket="demo", Prefix=mark["Key"])["KeyCount"]
    all_have_looked.wait()  # the planted delay: nobody has made the mark yet
    if handled:
        return
    charged.append(event)  # what cannot be taken back
    s3.put_object(**mark)


with ThreadPoolExecutor() as pool:
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        event = f"evt-{uuid.uuid4()}"
        list(pool.map(deliver, [event] * 3))  # the sender was in doubt
        print(f"{event} was delivered three times and charged {charged.count(event)} times")
