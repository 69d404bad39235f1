"""Right: the form brings the order's name, and a key for the answer. Run it as
python3 -m double_click.right."""

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from fence import orders_bucket, store

both_clicks = Barrier(2, timeout=60)


def submit(form):
    both_clicks.wait()  # the second click comes before the first one is answered
    order = f"{form['customer']}/{form['id']}"  # named when the form was made
    # Only one may create it, and both are told that this one did: without the key
    # the second one would be told that it is too late, 412.
    s3 = store(headers={"If-None-Match": "*", "Idempotency-Key": form["id"]})
    s3.put_object(Bucket="orders", Key=order, Body=form["text"].encode())
    return f"ordered: {order}"


orders_bucket()
with ThreadPoolExecutor() as pool:
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        form = {"customer": f"ann-{uuid.uuid4()}", "id": str(uuid.uuid4()), "text": "one pizza"}
        for answer in pool.map(submit, [form, form]):
            print(answer)
        print("orders:", store().list_objects_v2(Bucket="orders", Prefix=form["customer"])["KeyCount"])
