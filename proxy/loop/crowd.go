package loop

import "syscall"

// KeepBelow has the loop leave descriptors from ceiling on to others: to the admin socket, the journal, checks. The
// kernel gives out the lowest number that is free, so one at or above ceiling tells that so many are in use. It must
// be called before Run; 0 is no ceiling.
func (l *Loop) KeepBelow(ceiling int) { l.ceiling = ceiling }

// Crowded tells that fd, which was just opened, is one of those that are left to others.
func (l *Loop) Crowded(fd int) bool { return l.ceiling > 0 && fd >= l.ceiling }

// Socket is Socket below the ceiling: EMFILE also when only descriptors are left that are others'.
func (l *Loop) Socket(domain, typ, proto int) (fd int, err syscall.Errno) {
	fd, err = Socket(domain, typ, proto)
	if err == 0 && l.Crowded(fd) {
		Close(fd)
		return -1, syscall.EMFILE
	}
	return fd, err
}

// Full tells whether a descriptor that is opened now would be one of others'. fd is any that is open.
func (l *Loop) Full(fd int) bool {
	if l.ceiling == 0 {
		return false
	}
	n, err := dup(fd)
	if err != 0 {
		return true
	}
	Close(n)
	return l.Crowded(n)
}
