// Package runbook carries out a file of steps: what an operator would type, written down once. It runs in the command
// line and drives a door through admin/client alone; what must outlive the command (holds, maintenance, drains) has its
// deadline in the door.
//
//	Parse:  text -> strict YAML (package config) -> variables filled in -> Book, or every mistake with its place
//	Check:  Book + the running door -> what would be done, and what cannot work: known before step 1
//	Run:    begin -> confirm, exec, change, ... -> done; a failure -> on_failure -> what holds now
//
// # Resuming
//
// Each step's begin and end are written to a record beside the file before the next step begins. A run that was
// interrupted goes on with the first step that is not recorded as done. Steps that change the door say where it
// is to be, not by how much, so doing one twice is doing it once. A command that had begun and not ended may or may not
// have done its work: then the operator says which (Redo or Skip).
//
// Not promised: that a command's effects are taken back, unless on_failure does it.
package runbook
