//go:build soak

// Package soak runs two proxies for an hour and a million operations, and looks
// whether they use more with time, and whether anything that was acknowledged is
// lost.
//
// make soak builds and runs it (T=1h OPS=1000000). Two proxies share one durable
// PostgreSQL: the delivered binary, and this program itself as a proxy that tells
// of its goroutines and its heap, which the delivered one tells nobody. The store
// hashes what it is sent and keeps small bodies (storetest.StartDiscard), so that the
// processors are left to the proxies; -minio takes MinIO.
//
// Who works: holders, each with a scope and a model of what must stand in it, who
// write, read, list, copy, delete, upload in parts, under conditions and under
// Idempotency-Keys, break uploads off, hand their lock over from proxy to proxy and
// try the old token; a line of waiters before each of a few locks, who come and go;
// writers who count up one object by If-Match alone; schedulers who claim slots;
// clients outside of every guard. Meanwhile sessions of the database are ended.
//
// Every so often all of them rest. What the proxies hold then (goroutines, heap after
// a collection, descriptors, resident memory) must be what they held at earlier
// rests; what the state keeps must follow what is kept, not how long it ran. In the
// end every key of every model is read.
//
// The build tag keeps it out of every other build and test run.
package soak
