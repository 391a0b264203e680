package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// ErrClosed is what a closed journal answers.
var ErrClosed = errors.New("journal is closed")

// LockedError says that another door writes this journal.
type LockedError struct {
	Dir  string
	PID  int    // 0 if the holder had not written it yet
	Host string // tells containers on one volume apart
}

func (e *LockedError) Error() string {
	holder, stop := "another door", "stop it"
	if e.PID > 0 {
		holder = fmt.Sprintf("the door with pid %d on %s", e.PID, e.Host)
		stop = fmt.Sprintf("stop it (kill %d)", e.PID)
	}
	return fmt.Sprintf("state_dir %s is held by %s, which serves on undisturbed; "+
		"%s, or give this door a state_dir of its own", e.Dir, holder, stop)
}

// CorruptError says that bytes which were durable once are no longer what was written.
// Nothing was changed on disk.
type CorruptError struct {
	File   string
	Offset int64 // of the first bad line
	Reason string
	Before int // good lines before Offset, the header not counted
	After  int // good lines after it

	archive bool
}

func (e *CorruptError) Error() string {
	text := fmt.Sprintf("%s is damaged at byte %d: %s; %d lines before it are readable and %d after it, the file was left as it is",
		e.File, e.Offset, e.Reason, e.Before, e.After)
	if e.archive {
		return text + "; the door does not need it, only history is poorer: restore the file from a backup or live with it"
	}
	text += "; turnout history shows what is readable; restore the file from a backup"
	if e.Before == 0 {
		return text + ", or move it and all history-*.log away to begin anew from turnout.yaml"
	}
	return fmt.Sprintf("%s, or go back to the state before the damage: head -c %d '%[3]s' >'%[3]s.cut', keep the damaged file elsewhere, mv '%[3]s.cut' '%[3]s'",
		text, e.Offset, e.File)
}

// NotFoundError says that there is no journal to read, or only its history.
type NotFoundError struct {
	Dir     string
	Archive string // the newest archive, if there is any
}

func (e *NotFoundError) Error() string {
	if e.Archive == "" {
		return fmt.Sprintf("no journal in %s: no door has run with this state_dir", e.Dir)
	}
	live := filepath.Join(e.Dir, liveName)
	return fmt.Sprintf("%s is missing, but %s is there; restore it from a backup, or go back to the state in which that archive ends: "+
		"cp %[2]s %[1]s; or move all history-*.log away to begin anew from turnout.yaml", live, e.Archive)
}

// Is makes errors.Is(err, fs.ErrNotExist) hold.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

func newerError(v uint64) error {
	return fmt.Errorf("written in format %d by a newer turnout, this one reads format %d: run the newer one", v, format)
}

// notTaken wraps why a record was refused; what still holds and what to do come with it.
// Must be called with j.mu held.
func (j *Journal) notTaken(err error) error {
	return fmt.Errorf("%s: record not taken: %w; all %d acknowledged before are kept%s", j.path, err, j.last, advice(err))
}

func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "; free some space and try again"
	case errors.Is(err, syscall.EROFS):
		return "; the file system is read-only: dmesg tells why, remount it and try again"
	case errors.Is(err, syscall.EIO):
		return "; the disk fails: see dmesg"
	}
	return ""
}
