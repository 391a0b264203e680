//go:build !linux

package health

func newExec(*Exec) (prober, error) {
	return nil, &SpecError{Key: "exec", Text: "programs are checks on Linux only"}
}
