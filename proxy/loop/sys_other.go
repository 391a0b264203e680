//go:build !linux

package loop

import "syscall"

// See sys_linux.go. None of these is ever called elsewhere, since New fails.

func Recv(int, []byte) (int, syscall.Errno)            { return 0, syscall.ENOSYS }
func Peek(int, []byte) (int, syscall.Errno)            { return 0, syscall.ENOSYS }
func Send(int, []byte) (int, syscall.Errno)            { return 0, syscall.ENOSYS }
func Sendv(int, []byte, []byte) (int, syscall.Errno)   { return 0, syscall.ENOSYS }
func Splice(int, int, int, int) (int, syscall.Errno)   { return 0, syscall.ENOSYS }
func Accept4(int) (int, syscall.Errno)                 { return -1, syscall.ENOSYS }
func AcceptAddr(int, *Sockaddr) (int, syscall.Errno)   { return -1, syscall.ENOSYS }
func Socket(int, int, int) (int, syscall.Errno)        { return -1, syscall.ENOSYS }
func Connect(int, *Sockaddr) syscall.Errno             { return syscall.ENOSYS }
func Close(int) syscall.Errno                          { return syscall.ENOSYS }
func Shutdown(int, int) syscall.Errno                  { return syscall.ENOSYS }
func SetsockoptInt(int, int, int, int) syscall.Errno   { return syscall.ENOSYS }
func GetsockoptInt(int, int, int) (int, syscall.Errno) { return 0, syscall.ENOSYS }
func SetNodelay(int) syscall.Errno                     { return syscall.ENOSYS }
func SetLinger0(int) syscall.Errno                     { return syscall.ENOSYS }
func GetsockErr(int) syscall.Errno                     { return syscall.ENOSYS }
func OutQueue(int) (int, syscall.Errno)                { return 0, syscall.ENOSYS }
func InQueue(int) (int, syscall.Errno)                 { return 0, syscall.ENOSYS }
func Getsockname(int, *Sockaddr) syscall.Errno         { return syscall.ENOSYS }
func Getpeername(int, *Sockaddr) syscall.Errno         { return syscall.ENOSYS }

func dup(int) (int, syscall.Errno)   { return -1, syscall.ENOSYS }
func openPipe(int) (Pipe, int, bool) { return Pipe{}, 0, false }
