// Package config turns a file and the environment into one validated [Config].
//
// # Sources
//
// Three, the later wins: defaults (in the struct tags of Config), one YAML file,
// environment variables. A variable's name is S3FENCE_ and the key in capitals,
// with two underscores between levels and numbers for the elements of lists:
//
//	S3FENCE_STATE
//	S3FENCE_UPSTREAMS__MAIN__SECRET_KEY
//	S3FENCE_CREDENTIALS__0__SECRET_KEY
//	S3FENCE_CREDENTIALS__0__RIGHTS=read,write
//
// Names of upstreams and buckets with other characters than letters and digits
// are written with _ for each of them, and must stand in the file: MY_BUCKET
// means the file's my-bucket. An empty variable counts as absent. A list of
// words may be one variable with commas.
//
// A secret NAME may instead be given as NAME_file, a path whose content, without
// the line break at its end, is the secret. Relative paths in the file are
// relative to the file's directory, those in variables to the working directory.
//
// # Guarantees
//
// Nothing is guessed: an unknown key, a duplicate, a wrong type or a value out of
// bounds is an error, and all errors are reported together as [Errors], each
// with key, place (file:line or variable), what is wrong and what to do. A Config
// that [Load] returned is complete. It remembers where each value came from.
// [Secret] values print as "(hidden)" whatever prints them.
//
// Settings of what this version does not do (the waits of writing in place) are
// read and checked, and named by [Config.Unused] so that whoever starts the program
// is told. Writing in place itself is refused.
//
// # What it does not do
//
// It connects to nothing, does not parse scopes (the wiring does, and reports in
// the same words through [Config.Problem]) and imports no other package of this
// module. The YAML tree is decoded here rather than by a configuration library,
// because those lose line and source of a value on the way, and a complaint
// without its place is half a complaint. Anchors, aliases and several documents
// in one file are refused.
package config
