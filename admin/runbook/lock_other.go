//go:build !unix

package runbook

import "os"

// lock does nothing where there is no flock: two runs of one file are then not kept apart.
func lock(*os.File) error { return nil }
