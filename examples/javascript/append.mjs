// Appends its input to a report, with the AWS SDK for JavaScript. Run it as
//
//   npm install
//   date | s3fence lock run --wait 1m s3://demo/jobs/ -- node append.mjs
//
// Nothing in it knows of the lock: the credentials that lock run sets carry its
// token in every request.

import { buffer } from "node:stream/consumers";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

const s3 = new S3Client({ forcePathStyle: true });
const report = { Bucket: "demo", Key: "jobs/report" };
const lines = (text) => text.toString().split("\n").length - 1;

async function read() {
  try {
    const { Body } = await s3.send(new GetObjectCommand(report));
    return Buffer.from(await Body.transformToByteArray());
  } catch (error) {
    if (error.name === "NoSuchKey") return Buffer.alloc(0);
    throw error;
  }
}

try {
  const before = await read();
  console.log(`the report has ${lines(before)} lines`);
  const after = Buffer.concat([before, await buffer(process.stdin)]);
  await s3.send(new PutObjectCommand({ ...report, Body: after }));
  console.log(`and now ${lines(after)}`);
} catch (error) {
  if (error.name !== "StaleFencingToken") throw error;
  // Somebody else holds the lock by now. What was read is old and nothing was
  // written: this run is over, and the next one begins with the lock.
  console.error(`nothing was written: ${error.name}: ${error.message}`);
  process.exitCode = 1;
}
