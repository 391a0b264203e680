package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/config/journal"
	"github.com/turnout-proxy/turnout/proxy"
)

func (c *cli) historyCommand() *cobra.Command {
	var limit int
	var long bool
	var file, stateDir string
	cmd := &cobra.Command{
		Use:   "history [TARGET]",
		Short: "Say who changed what, when, why, and how it ended",
		Long: `Say who changed what, when, why, and how it ended; newest last. TARGET is a service or group, or
SERVICE/POOL[/SERVER].

With -c or --state-dir the journal itself is read, without changing it: also when no door is up.`,
		Args:              c.wants(0, 1, "one TARGET at most"),
		ValidArgsFunction: c.complete(targets),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := ""
			if len(args) > 0 {
				target = args[0]
			}
			if limit < 0 {
				return c.usage(cmd, fmt.Sprintf("-n %d: want 0 (all that the door keeps) or more", limit), "")
			}
			if file != "" && stateDir != "" {
				return c.usage(cmd, "-c and --state-dir exclude each other", "")
			}
			records, err := c.records(target, limit, file, stateDir)
			if len(records) > 0 || err == nil {
				c.showHistory(records, long)
			}
			if len(records) == 0 && err == nil && target != "" {
				c.notef("no change of %s is in the history", target)
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.IntVarP(&limit, "number", "n", 20, "how many of the latest; 0: all that the door gives")
	fs.BoolVar(&long, "long", false, "also the proofs, what was decided in words, and the holds that swaps begin with")
	fs.StringVarP(&file, "config", "c", "", "read the journal of the state_dir in this `file`")
	fs.StringVar(&stateDir, "state-dir", "", "read the journal in this `folder`")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

// records come from the door, or from the journal itself where one was named. Damage in a journal is an error
// beside the records that could be read.
func (c *cli) records(target string, limit int, file, stateDir string) ([]api.Record, error) {
	if file != "" {
		cfg, err := config.Load(file)
		if err != nil {
			return nil, badConfig(err)
		}
		stateDir = cfg.StateDir
	}
	if stateDir == "" {
		ctx, cancel := context.WithTimeout(context.Background(), max(c.timeout, statusPatience))
		defer cancel()
		records, err := client.Dial(c.socket).History(ctx, target, limit)
		var e *api.Error
		if errors.As(err, &e) && e.Code == api.CodeUnreachable {
			e.Hint = "`turnout history -c FILE` or --state-dir reads the journal itself when no door is up"
		}
		return records, err
	}
	records, known, err := journalled(stateDir, target, limit)
	if len(records) == 0 && err == nil && target != "" && !slices.Contains(known, target) {
		err = &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("the history has no change of %s", quote(target)), Hint: proxy.Among(target, known)}
	}
	return records, err
}

// journalled reads the records of a journal that no door has to hold. The journal's records and those on the wire
// have the same names, but for the overlap of a proof, which is a number there. known is what it has changes of.
func journalled(dir, target string, limit int) (records []api.Record, known []string, err error) {
	r, err := journal.ReadOnly(dir, journal.Options{})
	if err != nil {
		return nil, nil, err
	}
	names := map[string]bool{}
	at := map[uint64]int{} // Seq → position in records
	err = r.History(func(payload []byte) error {
		var rec struct {
			Of uint64 `json:"of"`
			api.Record
		}
		var more struct {
			Services map[string]json.RawMessage
			Proofs   []struct {
				Overlap time.Duration `json:"overlap_ns"`
			}
		}
		if err := errors.Join(json.Unmarshal(payload, &rec), json.Unmarshal(payload, &more)); err != nil {
			return err
		}
		for i := range rec.Proofs {
			rec.Proofs[i].Overlap = api.Duration(more.Proofs[i].Overlap)
		}
		if i, ok := at[rec.Of]; ok { // how a change ended
			records[i].Outcome, records[i].Proofs = rec.Outcome, rec.Proofs
			records[i].Detail = strings.TrimPrefix(records[i].Detail+"; "+rec.Detail, "; ")
			return nil
		}
		for name := range more.Services {
			names[name] = true
		}
		if rec.Target != "" {
			names[rec.Target] = true
		}
		if _, touched := more.Services[target]; rec.Of == 0 && (target == "" || touched || rec.Target == target || strings.HasPrefix(rec.Target, target+"/")) {
			at[rec.Seq] = len(records)
			records = append(records, rec.Record)
		}
		return nil
	})
	for i := range records {
		if records[i].Outcome == "" { // its door ended before it did, or still works on it
			records[i].Outcome = "interrupted"
		}
	}
	if limit > 0 {
		records = records[max(0, len(records)-limit):]
	}
	return records, sortedKeys(names), err
}

func (c *cli) showHistory(records []api.Record, long bool) {
	if c.json() {
		if records == nil {
			records = []api.Record{}
		}
		c.writeJSON(records)
		return
	}
	if !long {
		var rows [][]cell
		for i := range records {
			r := &records[i]
			if r.Verb == "hold" && r.Outcome == "done" && strings.HasPrefix(r.Detail, "first step of ") { // what it began has a line
				continue
			}
			rows = append(rows, []cell{text(r.Time.Local().Format(time.DateTime)), text(r.Who.Name), text(r.Verb), text(orDash(r.Target)),
				text(orDash(fromTo(r))), stateCell(r.Outcome), text(r.Reason)})
		}
		c.table([]string{"TIME", "WHO", "VERB", "TARGET", "FROM -> TO", "OUTCOME", "REASON"}, rows)
		return
	}
	for i := range records {
		c.showRecord(&records[i])
	}
}

func (c *cli) showRecord(r *api.Record) {
	line := []string{r.Time.Local().Format("2006-01-02 15:04:05.000"), fmt.Sprintf("revision %d", r.Revision), r.Verb}
	for _, s := range []string{r.Target, fromTo(r)} {
		if s != "" {
			line = append(line, s)
		}
	}
	c.printf("%s: %s", strings.Join(line, "  "), r.Outcome)
	who := fmt.Sprintf("by %s", r.Who.Name)
	if r.Who.UID >= 0 {
		who += fmt.Sprintf(" (uid %d, pid %d)", r.Who.UID, r.Who.PID)
	}
	if r.Force {
		who += ", forced"
	}
	c.printf("  %s%s", who, because(r.Reason))
	if r.Detail != "" {
		c.printf("  %s", r.Detail)
	}
	for i := range r.Proofs {
		c.printf("  proof of %s: %s", r.Proofs[i].Service, proof(&r.Proofs[i]))
	}
}

func fromTo(r *api.Record) string {
	switch {
	case r.From == "":
		return r.To
	case r.To == "":
		return r.From
	}
	return r.From + " -> " + r.To
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
