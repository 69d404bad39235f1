"""clients.py OPERATION ARGUMENT…

boto3 for the matrix of clients: one operation, as a short program would do it.
BUCKET and PREFIX are in the environment, and so is what boto3 looks for by itself.
"""

import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

bucket, prefix = os.environ["BUCKET"], os.environ["PREFIX"]
# s3v4, since links of us-east-1 are signed with version 2 without it.
s3 = boto3.client("s3", endpoint_url=os.environ["URL"], config=Config(signature_version="s3v4"))


def stamp(token):
    """Adds the token to every request, in a header that is signed."""
    s3.meta.events.register("before-sign.s3", lambda request, **_: request.headers.add_header("X-Fencing-Token", token))


def upload(file, key, **extra):
    s3.upload_file(file, bucket, prefix + key, **extra)


def multipart(file, key):
    upload(file, key, Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))


def download(key, file):
    s3.download_file(bucket, prefix + key, file)


def get(key, file):
    with open(file, "wb") as f:
        f.write(s3.get_object(Bucket=bucket, Key=prefix + key)["Body"].read())


def keys(key):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + key)
    return [o["Key"] for page in pages for o in page.get("Contents", [])]


def list(key):
    print("\n".join(keys(key)))


def copy(source, target):
    s3.copy({"Bucket": bucket, "Key": prefix + source}, bucket, prefix + target)


def delete(key):
    s3.delete_object(Bucket=bucket, Key=prefix + key)


def deleteall(key):
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys(key)]})
    assert not gone.get("Errors"), gone


def presignget(key):
    print(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": prefix + key}))


def presignput(key):
    print(s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": prefix + key}))


def metadata(file, key):
    upload(file, key, ExtraArgs={"ContentType": "text/x-matrix", "Metadata": {"colour": "blue"}})
    print(s3.head_object(Bucket=bucket, Key=prefix + key))


def tags(key):
    s3.put_object_tagging(Bucket=bucket, Key=prefix + key, Tagging={"TagSet": [{"Key": "shade", "Value": "pale"}]})
    print(s3.get_object_tagging(Bucket=bucket, Key=prefix + key))


def byheader(file, key, token):
    stamp(token)
    upload(file, key)


def bymetadata(file, key, token):
    upload(file, key, ExtraArgs={"Metadata": {"fencing-token": token}})


def byquery(file, key, token):
    """A link whose query has the token among what is signed."""

    def add(request, **_):
        request.params["X-Fencing-Token"] = token

    s3.meta.events.register("before-sign.s3", add)
    presignput(key)


globals()[sys.argv[1]](*sys.argv[2:])
