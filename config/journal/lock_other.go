//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package journal

import (
	"errors"
	"fmt"
	"io"
)

func lockFile(path string) (io.Closer, error) {
	return nil, fmt.Errorf("lock %s: %w: a journal is written on Unix systems, elsewhere only read", path, errors.ErrUnsupported)
}
