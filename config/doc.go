// Package config reads turnout.yaml: strict YAML in, a checked and immutable [Config] out, and from it the
// [proxy.Spec] that the switching core works with.
//
//	Load, Parse:  text -> tree (tree.go: YAML within limits, positions kept)
//	              -> tables (keys.go: which keys there are, of what shape; shape.go reads them)
//	              -> check (check.go: what no single value shows: conflicts, duplicates, unknown names)
//	              -> Config
//	Schema:       the JSON Schema, made of the same tables
//	Diff:         what a reload would change, in words
//	Watch:        tells when the file's bytes have changed
//
// Promises: a mistake is never silent, and all mistakes are told at once, each with file, line, column, the
// value and what it must be. A key that this version does not know is an error. No input panics or takes more than bounded time and memory. The value of an environment
// variable is in no error text, only its name.
//
// Not done here: host names are not resolved, users and groups are not looked up, no file but the
// configuration itself is opened.
package config
