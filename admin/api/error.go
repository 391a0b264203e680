package api

// Error says what failed, what still holds and what to do next.
type Error struct {
	Code    string   `json:"code"` // one of the Code constants
	Message string   `json:"message"`
	Holds   string   `json:"holds,omitempty"`
	Hint    string   `json:"hint,omitempty"`
	Details []string `json:"details,omitempty"` // e.g. every mistake in a file
}

// Error makes *Error an error.
func (e *Error) Error() string { return e.Message }

// Codes of an Error. ExitCode maps each to the CLI's exit code.
const (
	CodeFailed      = "failed"      // 1
	CodeUsage       = "usage"       // 2
	CodeUnreachable = "unreachable" // 3
	CodeGate        = "gate"        // 4: nothing changed
	CodeTimeout     = "timeout"     // 5: state as before
	CodeCut         = "cut"         // 6: done, but connections were cut
	CodeConflict    = "conflict"    // 7
	CodeRolledBack  = "rolled_back" // 8
	CodePermission  = "permission"  // 9
	CodeNotFound    = "not_found"   // 1, HTTP 404
	CodeJournal     = "journal"     // 1, HTTP 507: the change could not be made durable, so it was not made
)

// ExitCode is the CLI's exit code for an error code; unknown codes are 1.
func ExitCode(code string) int {
	switch code {
	case CodeUsage:
		return 2
	case CodeUnreachable:
		return 3
	case CodeGate:
		return 4
	case CodeTimeout:
		return 5
	case CodeCut:
		return 6
	case CodeConflict:
		return 7
	case CodeRolledBack:
		return 8
	case CodePermission:
		return 9
	}
	return 1
}
