"""named.py BUCKET PREFIX TOKEN

Requests under an Idempotency-Key as boto3's users send them: the same request is
answered as the first time, another one under the key is refused.
"""

import io
import sys

from e2e import client, refused

bucket, prefix, token = sys.argv[1:]


def under(key):
    s3 = client(token)

    def add(params, **_):
        params["headers"]["Idempotency-Key"] = key

    s3.meta.events.register("before-call.s3", add)
    return s3


once = under("invoice 17")
first = once.put_object(Bucket=bucket, Key=prefix + "invoice", Body=b"17", IfNoneMatch="*")
again = once.put_object(Bucket=bucket, Key=prefix + "invoice", Body=b"17", IfNoneMatch="*")
assert first["ETag"] == again["ETag"], (first, again)
print(refused(422, "IdempotencyKeyReused", once.put_object, Bucket=bucket, Key=prefix + "invoice", Body=b"18", IfNoneMatch="*"))
refused(422, "IdempotencyKeyReused", once.put_object, Bucket=bucket, Key=prefix + "invoice", Body=b"17")
refused(422, "IdempotencyKeyReused", once.delete_object, Bucket=bucket, Key=prefix + "invoice")
assert once.get_object(Bucket=bucket, Key=prefix + "invoice")["Body"].read() == b"17"

# A file in parts may have one key for all of its requests. Begun again, with the
# checksum that boto3 asks for, it is the upload that is completed already, which takes
# no parts any more; with another checksum it is another request.
upload = under("upload 4")
body = b"0123456789abcdef" * (1 << 20)
upload.upload_fileobj(io.BytesIO(body), bucket, prefix + "upload")
assert upload.head_object(Bucket=bucket, Key=prefix + "upload")["ContentLength"] == len(body)
id = upload.create_multipart_upload(Bucket=bucket, Key=prefix + "upload", ChecksumAlgorithm="CRC32")["UploadId"]
refused(404, "NoSuchUpload", upload.upload_part, Bucket=bucket, Key=prefix + "upload", UploadId=id, PartNumber=1, Body=b"x")
refused(422, "IdempotencyKeyReused", upload.create_multipart_upload, Bucket=bucket, Key=prefix + "upload")

gone = under("clean-up")
objects = {"Objects": [{"Key": prefix + "invoice"}, {"Key": prefix + "none"}]}
for _ in range(2):
    answer = gone.delete_objects(Bucket=bucket, Delete=objects)
    assert not answer.get("Errors"), answer
    client(token).put_object(Bucket=bucket, Key=prefix + "invoice", Body=b"since")
assert client(token).get_object(Bucket=bucket, Key=prefix + "invoice")["Body"].read() == b"since"
