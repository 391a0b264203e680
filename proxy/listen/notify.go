package listen

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// States for Notify; see sd_notify(3). The service unit says Type=notify-reload (or Type=notify).
const (
	Ready    = "READY=1"    // the door serves; also after Reloading, when the reload is over
	Stopping = "STOPPING=1" // the door has begun to drain and will end
)

// Reloading says that a reload has begun; Ready must follow. systemd wants the time with it, to tell this
// message from earlier ones.
func Reloading() string {
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonicUsec())
}

// Status is one line for `systemctl status`.
func Status(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", " ")
}

// Notify tells systemd the given states in one message. Where the process was not started by a service of
// Type=notify, it does nothing.
func Notify(states ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" || len(states) == 0 {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
