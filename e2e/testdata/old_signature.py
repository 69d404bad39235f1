"""old_signature.py header|link

boto3 with Signature Version 2: told to, or, for links in us-east-1, by itself.
"""

import os
import sys

import boto3
from botocore.config import Config

place = {"Bucket": os.environ["BUCKET"], "Key": os.environ["PREFIX"] + "small"}
if sys.argv[1] == "link":
    print(boto3.client("s3", endpoint_url=os.environ["URL"]).generate_presigned_url("get_object", Params=place))
else:
    boto3.client("s3", endpoint_url=os.environ["URL"], config=Config(signature_version="s3")).get_object(**place)
