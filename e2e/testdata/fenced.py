"""fenced.py BUCKET PREFIX ELSEWHERE good|stale

What boto3 does with fenced credentials, which it takes from wherever its own chain
finds them: under a token that counts, or once it is stale.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

from boto3.s3.transfer import TransferConfig

from e2e import client, refused

bucket, prefix, elsewhere, state = sys.argv[1:]
s3 = client()
parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)


def link(operation, method, body=None):
    url = s3.generate_presigned_url(operation, Params={"Bucket": bucket, "Key": prefix + "linked"}, ExpiresIn=300)
    assert "X-Amz-Security-Token=" in url, url
    context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"]) if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


class Zeros:
    """A body of a length that nobody is told, which cannot be read twice."""

    def __init__(self, size):
        self.left = size

    def read(self, n=-1):
        n = self.left if n is None or n < 0 else min(n, self.left)
        self.left -= n
        return b"\0" * n


refused(403, "MissingFencingToken", s3.put_object, Bucket=bucket, Key=elsewhere + "x", Body=b"x")
s3.head_bucket(Bucket=bucket)
s3.list_objects_v2(Bucket=bucket)
assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]

if state == "stale":
    print(refused(412, "StaleFencingToken", s3.put_object, Bucket=bucket, Key=prefix + "late", Body=b"late"))
    refused(412, "StaleFencingToken", s3.get_object, Bucket=bucket, Key=prefix + "one")
    refused(412, "StaleFencingToken", s3.delete_object, Bucket=bucket, Key=prefix + "one")
    refused(412, "StaleFencingToken", s3.list_objects_v2, Bucket=bucket, Prefix=prefix)
    refused(412, "StaleFencingToken", s3.create_multipart_upload, Bucket=bucket, Key=prefix + "late")
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": prefix + "one"}]})
    assert gone["Errors"][0]["Code"] == "StaleFencingToken", gone
    for operation, method, body in [("put_object", "PUT", b"late"), ("get_object", "GET", None)]:
        status, said = link(operation, method, body)
        assert status == 412 and b"StaleFencingToken" in said, (status, said)
    sys.exit()

s3.put_object(Bucket=bucket, Key=prefix + "one", Body=b"one")
assert s3.get_object(Bucket=bucket, Key=prefix + "one")["Body"].read() == b"one"
s3.upload_fileobj(Zeros(11 << 20), bucket, prefix + "big", Config=parts)
assert s3.head_object(Bucket=bucket, Key=prefix + "big")["ContentLength"] == 11 << 20
s3.copy({"Bucket": bucket, "Key": prefix + "big"}, bucket, prefix + "copy", Config=parts)
assert s3.head_object(Bucket=bucket, Key=prefix + "copy")["ContentLength"] == 11 << 20
assert link("put_object", "PUT", b"linked")[0] == 200
assert link("get_object", "GET") == (200, b"linked")
keys = [prefix + k for k in ["big", "copy", "linked"]]
assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]] == keys + [prefix + "one"]
gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys + [elsewhere + "x"]]})
assert [e["Code"] for e in gone["Errors"]] == ["MissingFencingToken"], gone
assert len(gone["Deleted"]) == 3, gone
print("done")
