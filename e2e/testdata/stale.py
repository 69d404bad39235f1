"""stale.py BUCKET KEY TOKEN

A stale token as boto3's users see it: an error with code and message, at once.
"""

import sys

from e2e import client, refused

bucket, key, token = sys.argv[1:]
s3 = client(token)
print(refused(412, "StaleFencingToken", s3.put_object, Bucket=bucket, Key=key, Body=b"late"))
refused(412, "StaleFencingToken", s3.put_object, Bucket=bucket, Key=key, Body=b"late" * (1 << 20))
refused(412, "StaleFencingToken", s3.delete_object, Bucket=bucket, Key=key)
refused(412, "StaleFencingToken", s3.get_object, Bucket=bucket, Key=key)
refused(412, "StaleFencingToken", s3.create_multipart_upload, Bucket=bucket, Key=key)
refused(412, "StaleFencingToken", client().put_object, Bucket=bucket, Key=key, Body=b"late", Metadata={"fencing-token": token})
