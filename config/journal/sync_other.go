//go:build !linux

package journal

func (f osFile) sync() error { return nameless(f.Sync()) }
