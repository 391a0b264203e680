// Package e2e drives the real binary from outside: it builds turnout once, starts doors with state of their own
// on free ports, and works them by the CLI, by signals and by the admin socket, as an operator would.
//
//	TestMain -> go build -> a test: startSide (servers that keep records), newDoor, start -> load -> swap -> judge
//
// What a client saw and what a server saw are both stamped by one monotonic clock (mono), so that "began after the
// answer and reached the old side" is a comparison of two numbers.
//
// HTTP has tables of conversations byte by byte (http_judge_test.go): what a client sends, what the server received and
// answers, what the client got, and what became of both connections. TURNOUT_E2E_HTTP=haproxy or nginx puts that proxy
// in the door's place, to see where the tables ask for more than others do.
//
// TURNOUT_SOAK=60s makes the property test that long; TURNOUT_SEED repeats one of its runs; TURNOUT_BINARY names a
// turnout that is built already. Under -race the binary is built with -race too, and the load is lighter.
package e2e
