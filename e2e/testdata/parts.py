"""parts.py BUCKET PREFIX TOKEN

Parts and checksums as boto3 sends them by default. TOKEN is carried in a header;
- for none.
"""

import base64
import io
import os
import sys
import zlib

from boto3.s3.transfer import TransferConfig

from e2e import client, refused

bucket, prefix, token = sys.argv[1:]
s3 = client(None if token == "-" else token)
mib = 1 << 20

# The transfer manager, with parts in threads, as "aws s3 cp" uses it.
key = prefix + "transferred"
body = os.urandom(11 * mib + 5)
s3.upload_fileobj(io.BytesIO(body), bucket, key, Config=TransferConfig(multipart_threshold=5 * mib, multipart_chunksize=5 * mib))
pieces = [body[: 5 * mib], body[5 * mib : 10 * mib], body[10 * mib :]]


def crc32(b):
    return base64.b64encode(zlib.crc32(b).to_bytes(4, "big")).decode()


composite = crc32(b"".join(zlib.crc32(p).to_bytes(4, "big") for p in pieces))
head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
assert head["ETag"].endswith('-3"'), head["ETag"]
assert head["ChecksumCRC32"] == composite + "-3", head
assert head["ChecksumType"] == "COMPOSITE", head
read = b""
for n, piece in enumerate(pieces, 1):
    for call in (s3.head_object, s3.get_object):
        got = call(Bucket=bucket, Key=key, PartNumber=n, ChecksumMode="ENABLED")
        assert got["PartsCount"] == 3 and got["ContentLength"] == len(piece), got
        assert got["ChecksumCRC32"] == crc32(piece), (n, got)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206, got
    read += got["Body"].read()
assert read == body
refused(416, "InvalidPartNumber", s3.get_object, Bucket=bucket, Key=key, PartNumber=4)
attributes = s3.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["Checksum", "ObjectParts", "ETag", "ObjectSize"])
assert attributes["Checksum"]["ChecksumCRC32"] == composite, attributes
assert attributes["ObjectParts"]["TotalPartsCount"] == 3, attributes
assert [(p["PartNumber"], p["Size"], p["ChecksumCRC32"]) for p in attributes["ObjectParts"]["Parts"]] == [
    (n, len(p), crc32(p)) for n, p in enumerate(pieces, 1)
], attributes
down = io.BytesIO()
s3.download_fileobj(bucket, key, down, Config=TransferConfig(multipart_threshold=5 * mib, multipart_chunksize=5 * mib))
assert down.getvalue() == body

# Full-object CRC32, with a wrong sum of the whole first.
key = prefix + "full"
up = s3.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
parts = []
for n, piece in enumerate(pieces, 1):
    put = s3.upload_part(Bucket=bucket, Key=key, UploadId=up["UploadId"], PartNumber=n, Body=piece)
    assert put["ChecksumCRC32"] == crc32(piece), put
    parts.append({"PartNumber": n, "ETag": put["ETag"], "ChecksumCRC32": put["ChecksumCRC32"]})
complete = dict(Bucket=bucket, Key=key, UploadId=up["UploadId"], MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT")
try:
    s3.complete_multipart_upload(ChecksumCRC32=crc32(b"other"), **complete)
    raise SystemExit("a wrong checksum of the whole was taken")
except s3.exceptions.ClientError as e:
    assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 400, e
done = s3.complete_multipart_upload(ChecksumCRC32=crc32(body), **complete)
assert done["ChecksumCRC32"] == crc32(body), done
got = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
assert got["ChecksumCRC32"] == crc32(body) and got["Body"].read() == body
