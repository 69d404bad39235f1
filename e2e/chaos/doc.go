// Package chaos runs many real processes while another one hurts them, and judges
// what they were told.
//
// # What runs
//
// One PostgreSQL, one MinIO, three s3fence, and a dozen workers of three clients
// each, all processes of their own. Between each proxy and its database, its store
// and each half of the workers stands a fault proxy. Workers take locks with short
// leases, read, write, delete, list, upload in parts, publish sets of objects, renew,
// release, or do not. A gremlin, seeded, stops, continues and kills any of them, cuts
// and delays links, swallows answers, and holds bytes back to deliver them late;
// several at once. In the end everything runs again, and every key is read through
// every proxy.
//
// # What is judged
//
// Workers write down what they are about to ask, then what they were told, on one
// clock for all processes of the machine. history.Judge holds the whole against the
// invariants (F1–F8, F10); [corruptions] counts beside it what a person would call
// damage: lost updates, writes of former holders, old values that come back, torn
// publications. Zero of each is demanded. Then the same workers, the same gremlin and
// the same seed run once more, writing outside of the guard and without tokens, with
// the same locks; what is counted there is what was prevented.
//
// One corruption is certain: a worker that stops itself between looking at its lease
// and writing, is succeeded, and goes on. So the run without the fence must count at
// least one, or it would prove nothing.
//
// # Running
//
// make chaos T=60s SEED=7; go test ./e2e/chaos runs 18 s of each. A page with the
// history is written where -page says, of a failed test in any case.
package chaos
