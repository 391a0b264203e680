//go:build !linux

package listen

import (
	"errors"
	"runtime"
)

var errElsewhere = errors.New("the door runs on Linux, not on " + runtime.GOOS)

func (s *Socket) openTCP() error     { return errElsewhere }
func (s *Socket) openUnix() error    { return errElsewhere }
func (s *Socket) openSystemd() error { return errElsewhere }

func closeFD(int) error { return errElsewhere }

func monotonicUsec() int64 { return 0 }
