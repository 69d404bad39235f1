// Package e2e tests the program from outside: the built binary, real
// PostgreSQL, real stores, real clients. It sees what users see and imports no
// package of the product but the public client.
//
// # Running
//
// make e2e builds the programs and runs everything. go test ./e2e/ builds them
// itself, once for each run; S3FENCE_TEST_BIN names a folder with s3fence,
// s3fence-race and s3fence-armed to use instead. What a test needs and does not
// find (aws, boto3, pgbouncer, rclone, redis-server) fails it with what to install;
// nothing is skipped but the run of the AWS SDK for JavaScript, which comes from npm
// alone and whose recorded requests are sent instead, and in the matrix of clients an
// aws CLI 1 that is not there, which comes from pip alone.
//
// make sizes runs the tests of the largest bodies, lists and mirrors with their
// real sizes (S3FENCE_TEST_SIZES=all), which are bounded otherwise.
//
// # The harness
//
// A test starts a [Cluster]: a state, a store, and proxies as processes.
//
//	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/"}}})
//	c.Bucket                        // a bucket of this test alone, on MinIO
//	c.Proxies[0].URL                // http://127.0.0.1:PORT
//	token := c.Acquire("jobs/", "ann")      // over the JSON API of proxy 0
//	c.Proxies[1].PutToken(t, "jobs/a", "body", token)
//
// Zero values mean PostgreSQL, MinIO, one proxy, no guard. [NewDev] starts
// "s3fence dev" and gives the same Cluster, on SQLite and the embedded store.
//
// Processes. Proxy.Stop (SIGTERM), Kill (SIGKILL), Freeze and Thaw (SIGSTOP,
// SIGCONT), Restart (same ports, same configuration, Proxy.Env as it is by
// then), Log. A failed test prints the end of every proxy's log.
//
// Faults between programs. Options.StoreFaults and StateFaults put a
// faultproxy.Proxy between each proxy and the store or PostgreSQL:
// Proxy.Store and Proxy.State. Options.Postgres and Options.MinIO take servers
// of the test's own (pgtest.Start, storetest.Start), to be stopped and killed.
//
// Pause points. Options.Pause is the value of S3FENCE_PAUSE for every proxy, as
// "AfterUpload=wait?"; it selects the armed build. Proxy.Arm(point) makes
// the next passing stop there, Proxy.AwaitHit(point) waits for it and
// Proxy.Release(point) lets a "wait" go on; Thaw does so for a "stop".
// Each proxy has a folder of its own for this.
//
// The matrix of clients. TestClientMatrix runs every client through everything that it
// does (clients_*_test.go), compares that with testdata/clients and that with
// docs/clients-matrix.md. In a run of all tests slow clients work at one site; make
// clients lets each work at all of them, and writes what it finds.
//
// Clients. Proxy.S3 (aws-sdk-go-v2), Proxy.MinIO (minio-go), Proxy.Send (a
// request signed by hand, for what no client sends), Proxy.API (the JSON API),
// Proxy.CLI (s3fence itself), Proxy.AWS (the aws CLI), Proxy.Python (a script of
// testdata, with boto3). Proxy.Tap is a proxy before a proxy that counts what one
// client asks for.
//
// # Differences
//
// TestDiffEveryOperation sends every operation of the table straight to a store and
// through the proxy (diff_*_test.go) and compares the answers field by field; what
// differs must stand in testdata/differences.yaml. S3FENCE_TEST_DIFF_CASES=REGEXP runs
// some cases (operation/case) only, S3FENCE_TEST_DIFF_OUT=FILE writes every difference,
// after the numbers of the rows that cover it, or a dash. Every pattern of a row must
// match something.
//
// Nothing is left behind: packages testserver, pgtest and storetest end every
// process with the test process, however that one ends.
package e2e
