// Package arrows holds no code: its test reads what every package of this module
// imports (go list -deps) and holds it against a table of who may know whom,
// each row with its reason. A package without a row fails the test, so that a
// new room is placed on purpose.
//
// It looks at the imports of an ordinary build. Imports of test files are free,
// except that what tests import never becomes part of a program.
//
// Its other tests look at the whole tree, too: how secrets are compared, and whether
// the tests that docs/ names are there.
package arrows
