"""roundtrip.py BUCKET PREFIX TOKEN MEGABYTES

Everything that boto3 does with objects, below a prefix, checked against what S3
answers. TOKEN is carried in a header; - for none.
"""

import hashlib
import io
import os
import sys

from boto3.s3.transfer import TransferConfig

from e2e import client, refused

bucket, prefix, token, megabytes = sys.argv[1:]
s3 = client(None if token == "-" else token)


def md5(b):
    return hashlib.md5(b).hexdigest()


# One object, with all that belongs to it.
body = b"what boto3 writes\n" * 100
put = s3.put_object(
    Bucket=bucket, Key=prefix + "one", Body=body, ContentType="text/x-one", CacheControl="max-age=7",
    ContentDisposition='attachment; filename="one"', Metadata={"colour": "blue", "spaced": "a  b"}, Tagging="k=v&l=w",
)
assert put["ETag"] == f'"{md5(body)}"', put
got = s3.get_object(Bucket=bucket, Key=prefix + "one")
assert got["Body"].read() == body
head = s3.head_object(Bucket=bucket, Key=prefix + "one")
for answer in (got, head):
    assert answer["ContentLength"] == len(body)
    assert answer["ETag"] == put["ETag"]
    assert answer["ContentType"] == "text/x-one"
    assert answer["CacheControl"] == "max-age=7"
    assert answer["ContentDisposition"] == 'attachment; filename="one"'
    assert answer["Metadata"]["colour"] == "blue", answer["Metadata"]
    assert "fencing-token" not in answer["Metadata"]
part = s3.get_object(Bucket=bucket, Key=prefix + "one", Range="bytes=5-10")
assert part["Body"].read() == body[5:11] and part["ContentRange"] == f"bytes 5-10/{len(body)}"
assert s3.get_object(Bucket=bucket, Key=prefix + "one", Range="bytes=-3")["Body"].read() == body[-3:]
refused(416, "InvalidRange", s3.get_object, Bucket=bucket, Key=prefix + "one", Range="bytes=99999-")
refused(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key=prefix + "none")
refused(404, "404", s3.head_object, Bucket=bucket, Key=prefix + "none")

# An empty one, and names that need escaping.
for name in ["empty", "with space", "plus+and%percent", "ünïcode/日本", "quote'\"&<>", "a=b&c=d", "~.-_"]:
    data = b"" if name == "empty" else name.encode()
    s3.put_object(Bucket=bucket, Key=prefix + "names/" + name, Body=data)
    assert s3.get_object(Bucket=bucket, Key=prefix + "names/" + name)["Body"].read() == data, name

# Checksums of every kind that boto3 has without awscrt.
for algorithm in ["CRC32", "SHA1", "SHA256"]:
    key = prefix + "sum/" + algorithm
    sent = s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm=algorithm)
    assert sent.get("Checksum" + algorithm), (algorithm, sent)
    kept = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    assert kept["Body"].read() == body
    assert kept.get("Checksum" + algorithm) == sent["Checksum" + algorithm], (algorithm, kept)
refused(400, "BadDigest", s3.put_object, Bucket=bucket, Key=prefix + "sum/wrong", Body=body, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
refused(404, "404", s3.head_object, Bucket=bucket, Key=prefix + "sum/wrong")

# Lists, page by page.
keys = [prefix + f"page/{i:03}" for i in range(25)]
for key in keys:
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
for operation in ["list_objects_v2", "list_objects"]:
    found = [o["Key"] for page in s3.get_paginator(operation).paginate(Bucket=bucket, Prefix=prefix + "page/", PaginationConfig={"PageSize": 4}) for o in page["Contents"]]
    assert found == keys, (operation, found)
rolled = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
assert [p["Prefix"] for p in rolled["CommonPrefixes"]] == [prefix + d for d in ["names/", "page/", "sum/"]], rolled
assert [o["Key"] for o in rolled["Contents"]] == [prefix + "one"]

# Tags.
assert s3.get_object_tagging(Bucket=bucket, Key=prefix + "one")["TagSet"] == [{"Key": "k", "Value": "v"}, {"Key": "l", "Value": "w"}]
s3.put_object_tagging(Bucket=bucket, Key=prefix + "one", Tagging={"TagSet": [{"Key": "new tag", "Value": "a+b = c"}]})
assert s3.get_object_tagging(Bucket=bucket, Key=prefix + "one")["TagSet"] == [{"Key": "new tag", "Value": "a+b = c"}]
s3.delete_object_tagging(Bucket=bucket, Key=prefix + "one")
assert s3.get_object_tagging(Bucket=bucket, Key=prefix + "one")["TagSet"] == []
assert s3.get_object(Bucket=bucket, Key=prefix + "one")["Body"].read() == body

# Copies: attributes kept, and replaced.
copied = s3.copy_object(Bucket=bucket, Key=prefix + "copy", CopySource={"Bucket": bucket, "Key": prefix + "one"})
assert copied["CopyObjectResult"]["ETag"] == put["ETag"], copied
head = s3.head_object(Bucket=bucket, Key=prefix + "copy")
assert head["ContentType"] == "text/x-one" and head["Metadata"]["colour"] == "blue", head
s3.copy_object(
    Bucket=bucket, Key=prefix + "copy", CopySource={"Bucket": bucket, "Key": prefix + "copy"},
    MetadataDirective="REPLACE", ContentType="text/x-two", Metadata={"size": "L"},
)
head = s3.head_object(Bucket=bucket, Key=prefix + "copy")
assert head["ContentType"] == "text/x-two" and head["Metadata"] == {"size": "L"}, head
assert s3.get_object(Bucket=bucket, Key=prefix + "copy")["Body"].read() == body
refused(404, "NoSuchKey", s3.copy_object, Bucket=bucket, Key=prefix + "copy", CopySource={"Bucket": bucket, "Key": prefix + "none"})

# Conditions.
etag = s3.put_object(Bucket=bucket, Key=prefix + "swap", Body=b"1", IfNoneMatch="*")["ETag"]
refused(412, "PreconditionFailed", s3.put_object, Bucket=bucket, Key=prefix + "swap", Body=b"2", IfNoneMatch="*")
second = s3.put_object(Bucket=bucket, Key=prefix + "swap", Body=b"2", IfMatch=etag)["ETag"]
refused(412, "PreconditionFailed", s3.put_object, Bucket=bucket, Key=prefix + "swap", Body=b"3", IfMatch=etag)
refused(404, "NoSuchKey", s3.put_object, Bucket=bucket, Key=prefix + "absent", Body=b"3", IfMatch=etag)
refused(304, "304", s3.get_object, Bucket=bucket, Key=prefix + "swap", IfNoneMatch=second)
assert s3.get_object(Bucket=bucket, Key=prefix + "swap")["Body"].read() == b"2"

# A large one in parts, several at once.
size = int(megabytes) << 20
big = os.urandom(1 << 20) * int(megabytes)
big = big[: size - 12345]
s3.upload_fileobj(io.BytesIO(big), bucket, prefix + "big", ExtraArgs={"Metadata": {"kind": "big"}}, Config=TransferConfig(multipart_chunksize=8 << 20, max_concurrency=4))
head = s3.head_object(Bucket=bucket, Key=prefix + "big")
assert head["ContentLength"] == len(big) and head["Metadata"] == {"kind": "big"}, head
parts = [hashlib.md5(big[i : i + (8 << 20)]).digest() for i in range(0, len(big), 8 << 20)]
assert head["ETag"] == f'"{hashlib.md5(b"".join(parts)).hexdigest()}-{len(parts)}"', (head["ETag"], len(parts))
back = io.BytesIO()
s3.download_fileobj(bucket, prefix + "big", back, Config=TransferConfig(multipart_chunksize=8 << 20, max_concurrency=4))
assert back.getvalue() == big
assert s3.get_object(Bucket=bucket, Key=prefix + "big", Range=f"bytes={(8 << 20) - 5}-{(8 << 20) + 4}")["Body"].read() == big[(8 << 20) - 5 : (8 << 20) + 5]

# Uploads by hand: parts in any order, a part from a copy, lists, abort.
upload = s3.create_multipart_upload(Bucket=bucket, Key=prefix + "hand")["UploadId"]
second = s3.upload_part(Bucket=bucket, Key=prefix + "hand", UploadId=upload, PartNumber=2, Body=b"the end")
first = s3.upload_part_copy(Bucket=bucket, Key=prefix + "hand", UploadId=upload, PartNumber=1, CopySource={"Bucket": bucket, "Key": prefix + "big"}, CopySourceRange=f"bytes=0-{(5 << 20) - 1}")
listed = s3.list_parts(Bucket=bucket, Key=prefix + "hand", UploadId=upload)["Parts"]
assert [(p["PartNumber"], p["Size"]) for p in listed] == [(1, 5 << 20), (2, 7)], listed
uploads = s3.list_multipart_uploads(Bucket=bucket, Prefix=prefix + "hand")["Uploads"]
assert [u["Key"] for u in uploads] == [prefix + "hand"], uploads
s3.complete_multipart_upload(
    Bucket=bucket, Key=prefix + "hand", UploadId=upload,
    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first["CopyPartResult"]["ETag"]}, {"PartNumber": 2, "ETag": second["ETag"]}]},
)
hand = s3.get_object(Bucket=bucket, Key=prefix + "hand")["Body"].read()
assert hand == big[: 5 << 20] + b"the end"
upload = s3.create_multipart_upload(Bucket=bucket, Key=prefix + "gone")["UploadId"]
s3.upload_part(Bucket=bucket, Key=prefix + "gone", UploadId=upload, PartNumber=1, Body=b"x")
s3.abort_multipart_upload(Bucket=bucket, Key=prefix + "gone", UploadId=upload)
refused(404, "NoSuchUpload", s3.list_parts, Bucket=bucket, Key=prefix + "gone", UploadId=upload)

# Presigned.
if token == "-":
    import urllib.request

    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": prefix + "one"}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == body

# And all gone again.
everything = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix) for o in page["Contents"]]
assert len(everything) == 25 + 7 + 3 + 5, everything
gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in everything + [prefix + "never"]]})
assert not gone.get("Errors"), gone
assert len(gone["Deleted"]) == len(everything) + 1
assert s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 0
print("done")
