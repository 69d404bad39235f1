"""Right: claims an event; of all who claim it one is told yes. Run it as
python3 -m webhook_three_times.right."""

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from fence import s3fence

all_are_here = Barrier(3, timeout=60)
charged = []


def deliver(event):
    all_are_here.wait()  # the same planted delay: all three at once
    try:
        s3fence("claim", "webhooks", event)
    except subprocess.CalledProcessError as error:
        if error.returncode != 3:
            raise  # nobody knows: let the sender come again
        return  # somebody else handles it
    charged.append(event)


with ThreadPoolExecutor() as pool:
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        event = f"evt-{uuid.uuid4()}"
        list(pool.map(deliver, [event] * 3))
        print(f"{event} was delivered three times and charged {charged.count(event)} times")
