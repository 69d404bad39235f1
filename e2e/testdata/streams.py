"""streams.py BUCKET PREFIX TOKEN SECURE

Bodies that can be read once and whose length nobody knows. TOKEN is carried in a
header; - for none. SECURE is 1 over TLS.
"""

import sys

from boto3.s3.transfer import TransferConfig

from e2e import client

bucket, prefix, token, secure = sys.argv[1:]
s3 = client(None if token == "-" else token)


class Stream:
    """A pipe: no seek, no tell, no len."""

    def __init__(self, size):
        self.left = size

    def read(self, n=-1):
        n = self.left if n is None or n < 0 else min(n, self.left)
        self.left -= n
        return b"s" * n


def size(key):
    return s3.head_object(Bucket=bucket, Key=prefix + key)["ContentLength"]


# What everybody should use: parts are buffered by the client.
s3.upload_fileobj(Stream(9 << 20), bucket, prefix + "parts", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
assert size("parts") == 9 << 20
s3.upload_fileobj(Stream(1000), bucket, prefix + "small")
assert size("small") == 1000

# One PUT. Over TLS botocore sends chunks with the checksum in a trailer; without TLS
# it would have to hash the body before it sends it, and says so.
try:
    s3.put_object(Bucket=bucket, Key=prefix + "put", Body=Stream(300_000))
except Exception as e:
    assert secure == "0", f"over TLS: {e!r}"
    print(type(e).__name__)
else:
    assert size("put") == 300_000
