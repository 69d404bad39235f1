"""batch.py BUCKET MINE TOKEN OTHER

Batch delete over two scopes and a plain key, answered key by key: under a token
of the scope MINE, whose prefix it is, keys in OTHER and outside are refused.
"""

import sys

from e2e import client, refused

bucket, mine, token, other = sys.argv[1:]
plain = client()
fenced = client(token)
named = client(token, f"s3://{bucket}/{mine}")

fenced.put_object(Bucket=bucket, Key=mine + "a", Body=b"a")
named.put_object(Bucket=bucket, Key=mine + "b", Body=b"b")
refused(403, "MissingFencingToken", plain.put_object, Bucket=bucket, Key=mine + "c", Body=b"c")
refused(403, "MissingFencingToken", plain.delete_object, Bucket=bucket, Key=mine + "a")
wrong = refused(400, "InvalidFencingToken", named.put_object, Bucket=bucket, Key=other + "c", Body=b"c")
assert other in str(wrong), wrong

keys = [mine + "a", other + "theirs", "plain", mine + "b", mine + "never"]
answer = fenced.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in keys]})
assert sorted(d["Key"] for d in answer["Deleted"]) == sorted([mine + "a", mine + "b", mine + "never"]), answer
errors = {e["Key"]: e for e in answer["Errors"]}
assert sorted(errors) == sorted([other + "theirs", "plain"]), answer
assert errors["plain"]["Code"] == "InvalidFencingToken", errors
assert errors[other + "theirs"]["Code"] in ("InvalidFencingToken", "StaleFencingToken"), errors
assert plain.get_object(Bucket=bucket, Key=other + "theirs")["Body"].read() == b"theirs"
assert plain.get_object(Bucket=bucket, Key="plain")["Body"].read() == b"plain"

answer = plain.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in [other + "theirs", "plain"]], "Quiet": True})
assert "Deleted" not in answer, answer
assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [(other + "theirs", "MissingFencingToken")], answer
refused(404, "NoSuchKey", plain.get_object, Bucket=bucket, Key="plain")
print("done")
