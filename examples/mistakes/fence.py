"""What the Python examples here share: a lock, and S3 under its token.

The lock comes from the s3fence program. S3 is plain boto3; each request of a
client that was given a token carries it in a signed header.
"""

import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager

import boto3
from botocore.exceptions import ClientError


def s3fence(*args):
    """Runs s3fence and returns what it prints; CalledProcessError has its exit code."""
    return subprocess.run(["s3fence", *args], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def acquire(scope, owner, ttl="30s", wait="60s"):
    return s3fence("lock", "acquire", scope, "--owner", owner, "--ttl", ttl, "--wait", wait)


def release(scope, token):
    s3fence("lock", "release", scope, "--token", token)


@contextmanager
def lock(scope, owner):
    token = acquire(scope, owner)
    try:
        yield token
    finally:
        release(scope, token)


def somebody_waits(scope):
    """Returns once another one stands in line for the lock."""
    deadline = time.monotonic() + 60
    while not any(s["queue"] for s in json.loads(s3fence("lock", "list", scope, "--json"))):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody waits for {scope}")


_making_clients = threading.Lock()  # boto3.client is not thread-safe; its clients are


def store(token=None, headers=None):
    """An S3 client, each of whose requests has these headers and carries the token."""
    headers = {**(headers or {}), **({"X-Fencing-Token": token} if token else {})}

    def add(request, **_):
        for name, value in headers.items():
            request.headers[name] = value

    with _making_clients:
        s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
    s3.meta.events.register("before-sign.s3", add)
    return s3


def orders_bucket():
    """Makes s3://orders/, where conditions are exact and nobody needs a lock."""
    s3 = store()
    if "orders" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="orders")
    s3fence("guard", "add", "s3://orders/", "--tokens", "none")


def read_number(s3, key):
    try:
        return int(s3.get_object(Bucket="demo", Key=key)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return 0


def write_number(s3, key, n):
    s3.put_object(Bucket="demo", Key=key, Body=str(n).encode())


def is_stale(error: ClientError):
    return error.response["Error"]["Code"] == "StaleFencingToken"
