package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/config"
)

var updateDocs = flag.Bool("update", false, "write docs/cli.md anew")

// docs/cli.md is a text of its own up to its first command; from there on it is what the commands say.
func TestDocs_ThePageOfTheCommandLineIsWhatTheCommandsSay(t *testing.T) {
	const path, begin = "../../docs/cli.md", "## turnout\n"
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	preface, _, ok := strings.Cut(string(was), begin)
	if !ok {
		t.Fatalf("%s has no line %q", path, strings.TrimSpace(begin))
	}
	var page strings.Builder
	page.WriteString(preface)
	var tell func(cmd *cobra.Command)
	tell = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		words := strings.Fields(cmd.CommandPath())
		var out, errs bytes.Buffer
		if code := run(append(words[1:], "--help"), &out, &errs); code != 0 {
			t.Fatalf("%s --help: exit code %d: %s", cmd.CommandPath(), code, &errs)
		}
		text, _, _ := strings.Cut(out.String(), "\n\nGlobal Flags:")
		text = strings.ReplaceAll(text, config.DefaultSocket(), "/run/turnout/admin.sock")
		if page.Len() > len(preface) {
			page.WriteString("\n")
		}
		page.WriteString("## " + cmd.CommandPath() + "\n\n```\n" + strings.TrimSpace(text) + "\n```\n")
		for _, sub := range cmd.Commands() {
			tell(sub)
		}
	}
	tell((&cli{ui: newUI(&bytes.Buffer{}, &bytes.Buffer{})}).root())
	if page.String() == string(was) {
		return
	}
	if *updateDocs {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s is not what the commands say: go test ./cmd/turnout -run Docs -update", path)
}
