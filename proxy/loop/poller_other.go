//go:build !linux

package loop

import (
	"errors"
	"runtime"
)

// poller: see poller_linux.go. There is none for this system yet.
type poller struct{}

type event struct{}

func (*event) token() Token   { return 0 }
func (*event) events() Events { return 0 }

var errElsewhere = errors.New("the door runs on Linux, not on " + runtime.GOOS + " (turnout's other commands do)")

func (*poller) open() error                  { return errElsewhere }
func (*poller) close()                       {}
func (*poller) wake()                        {}
func (*poller) add(int, Token, Events) error { return errElsewhere }
func (*poller) mod(int, Token, Events) error { return errElsewhere }
func (*poller) del(int) error                { return errElsewhere }
func (*poller) poll() []event                { return nil }
func (*poller) wait(int64) []event           { return nil }
func (*poller) nap(int64) []event            { return nil }
func shortSlice()                            {}
func yield()                                 {}
func threadID() int                          { return 0 }
