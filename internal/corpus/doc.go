// Package corpus is what real clients asked of a proxy and what real stores answered
// it, byte for byte, for tests of whatever reads foreign bytes: fuzz targets begin
// from it, and plain tests hold that each of it is understood. testdata/README.md says
// how it was recorded.
package corpus
