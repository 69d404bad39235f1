// Package mutants plants faults in the product, one at a time, and demands that
// a test notices each. It measures the tests: a mutant that survives is a promise
// which nothing defends.
//
// A row of the table names a mistake that a tired maintainer could make: a text of
// one file, which stands there once, and the text instead; the invariant that is
// broken (F1 to F10, docs/protocol.md); and the one test that must fail. It counts
// as caught only if that test was run, failed by an assertion, and passes without
// the mutant. A program that does not build, a test that is skipped, panics or does
// not end catches nothing.
//
// # How
//
// Nothing in the checkout is changed: go test reads the mutated sources through
// -overlay. To build and link the tests anew for each mutant would take minutes, so
// all mutants inside of functions are woven into one program for each package of
// tests: each becomes a copy of its function, and the function itself begins by
// asking whether a copy is to be run instead. The environment variable [Environment]
// says which; without it every function is as it was written. Mutants elsewhere (in
// statements and schemas) are built by themselves.
//
// # What it does not show
//
// That a fault is caught says nothing of others. The faults are chosen by people, for
// the rules that the fence rests on; where each is caught is the cheapest test that
// does it, not the only one.
package mutants
