"""odd_keys.py BUCKET PREFIX: boto3 with keys that XML 1.0 cannot hold."""
import sys

from botocore.exceptions import ClientError

import e2e

bucket, prefix = sys.argv[1:]
s3 = e2e.client()

for name in ["\x01", "\x1b[31m", "a\x0bb", "\x1f", "\ufffe", "tab\tnew\nreturn\r"]:
    key = prefix + name
    for missing in (lambda: s3.get_object(Bucket=bucket, Key=key),
                    lambda: s3.copy_object(Bucket=bucket, Key=prefix + "to", CopySource={"Bucket": bucket, "Key": key}),
                    lambda: s3.get_object_tagging(Bucket=bucket, Key=key)):
        try:
            missing()
            raise SystemExit(f"{key!r} is there before it was written")
        except ClientError as e:
            # Where a store says nothing else, NoSuchKey: the document was understood.
            assert e.response["Error"]["Code"] == "NoSuchKey", (key, e)
            assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 404, (key, e)
    s3.put_object(Bucket=bucket, Key=key, Body=b"small")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"small"

    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"part")
    listed = s3.list_parts(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
    assert [p["ETag"] for p in listed["Parts"]] == [part["ETag"]], listed
    done = s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"],
                                        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert s3.head_object(Bucket=bucket, Key=key)["ETag"] == done["ETag"]

    # boto3 asks for encoding-type=url by itself.
    keys = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key) for o in page["Contents"]]
    assert keys == [key], keys
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix=key)
