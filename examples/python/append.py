"""Appends its input to a report, with boto3. Run it as

    date | s3fence lock run --wait 1m s3://demo/jobs/ -- python3 append.py

Nothing in it knows of the lock: the credentials that lock run sets carry its token
in every request.
"""

import os
import sys

import boto3
from botocore.exceptions import ClientError

# boto3 1.28 and later find the endpoint by themselves.
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
report = {"Bucket": "demo", "Key": "jobs/report"}

try:
    try:
        text = s3.get_object(**report)["Body"].read()
    except s3.exceptions.NoSuchKey:
        text = b""
    print("the report has", text.count(b"\n"), "lines", flush=True)
    text += sys.stdin.buffer.read()
    s3.put_object(**report, Body=text)
    print("and now", text.count(b"\n"))
except ClientError as error:
    if error.response["Error"]["Code"] != "StaleFencingToken":
        raise
    # Somebody else holds the lock by now. What was read is old and nothing was
    # written: this run is over, and the next one begins with the lock.
    sys.exit(f"nothing was written: {error}")
