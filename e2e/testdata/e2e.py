"""Clients of the proxy under test, for the scripts beside this module."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def client(token=None, scope=None):
    """A boto3 client; with a token, each of its requests carries it in a signed header."""
    s3 = boto3.client(
        "s3",
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    if token is not None:

        def add(params, **_):
            params["headers"]["X-Fencing-Token"] = str(token)
            if scope is not None:
                params["headers"]["X-Fencing-Scope"] = scope

        s3.meta.events.register("before-call.s3", add)
    return s3


def refused(status, code, call, **arguments):
    """Runs a call that must be refused with this status and code."""
    try:
        answer = call(**arguments)
    except ClientError as e:
        got = (e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["Error"]["Code"])
        assert got == (status, code), f"want {status} {code}, got {got}: {e}"
        return e
    raise AssertionError(f"want {status} {code}, got success: {answer}")
