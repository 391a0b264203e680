package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot take|compare|list",
		Short: "Write down what services are like now, and say later what became of it",
		Long: `Write down what services are like now: which pools are active, what every check answers and its value, rates, error
rates and latencies of the last minute, the names of all metrics. Later say in words what got worse, what vanished, and
what does not move any more.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return c.usage(cmd, fmt.Sprintf("snapshot %s: want take, compare or list", quote(args[0])), "")
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	var reason, with string
	var force bool
	take := &cobra.Command{
		Use: "take NAME [TARGET]", Short: "Write down what a service, a group or all services are like now",
		Long: `Write down what a service, a group or all services are like now. Is there one of that name already, it stays, and the
exit code is 7: what it was like before is not to be had again. --force replaces it; so does the step of a runbook, which
is of its run.`,
		Example: "  turnout snapshot take before node --reason \"before 2.9.1\"",
		Args:    c.wants(1, 2, "NAME [TARGET]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.snapshotName(cmd, args[0]); err != nil {
				return err
			}
			return c.withDoor(func(w *wait, d *client.Client) error {
				req := api.SnapshotRequest{Reason: reason, Replace: force}
				if len(args) == 2 {
					req.Target = args[1]
				}
				s, err := d.TakeSnapshot(w.ctx, args[0], req)
				if err == nil {
					c.showSnapshot(s)
				}
				return err
			})
		},
	}
	take.Flags().StringVar(&reason, "reason", "", "`why`, kept with it")
	take.Flags().BoolVar(&force, "force", false, "replace the one of that name")
	compare := &cobra.Command{
		Use: "compare NAME", Short: "Say what became of a snapshot by now, or by another one; exit 4 when something got worse",
		Example: "  turnout snapshot compare before\n  turnout snapshot compare before --with after",
		Args:    c.wants(1, 1, "the NAME of a snapshot"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.snapshotName(cmd, args[0]); err != nil {
				return err
			}
			return c.withDoor(func(w *wait, d *client.Client) error {
				r, err := d.Compare(w.ctx, args[0], with)
				if err != nil {
					return err
				}
				return c.showCompared(r)
			})
		},
	}
	compare.Flags().StringVar(&with, "with", "", "the `name` of a later snapshot; without it: now")
	list := &cobra.Command{
		Use: "list", Short: "All snapshots, oldest first", Args: c.wants(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			return c.withDoor(func(w *wait, d *client.Client) error {
				all, err := d.Snapshots(w.ctx)
				if err == nil {
					c.showSnapshots(all)
				}
				return err
			})
		},
	}
	for _, sub := range []*cobra.Command{take, compare, list} {
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	return cmd
}

// snapshotName refuses a name that would get lost in a path; all else is for the door to judge.
func (c *cli) snapshotName(cmd *cobra.Command, name string) error {
	if strings.Trim(name, ".") == "" {
		return c.usage(cmd, quote(name)+": want a name of letters, digits, '.', '_' and '-', such as before-2.9.1", "")
	}
	return nil
}

// withDoor does something with the door while --timeout and Ctrl-C allow it.
func (c *cli) withDoor(do func(*wait, *client.Client) error) error {
	w := newWait(c.timeout)
	defer w.stop()
	d := client.Dial(c.socket)
	defer d.Close()
	return do(w, d)
}

func (c *cli) showSnapshot(s *api.Snapshot) {
	if c.json() {
		c.writeJSON(s)
		return
	}
	for _, name := range sortedKeys(s.Services) {
		svc := s.Services[name]
		passes := 0
		for i := range svc.Answers {
			if svc.Answers[i].OK {
				passes++
			}
		}
		c.printf("%s: %s active, %d of %s pass, %.1f requests a second, error rate %.2f%%", name, svc.Active, passes, plural(len(svc.Answers), "check"),
			svc.Readings["rate"], 100*svc.Readings["error_rate"])
	}
	replaced := ""
	if s.Replaced != nil {
		replaced = ", in the place of that of " + s.Replaced.Local().Format(time.DateTime)
	}
	c.printf("snapshot %s taken, revision %d%s", s.Name, s.Revision, replaced)
}

func (c *cli) showCompared(r *api.Compared) error {
	if c.json() {
		c.writeJSON(r)
	} else {
		for _, line := range r.Worse {
			c.printf("worse: %s", line)
		}
		for _, line := range r.Other {
			c.printf("other: %s", line)
		}
	}
	than := fmt.Sprintf("%s (%s)", r.Name, r.Taken.Local().Format(time.DateTime))
	if len(r.Worse) > 0 {
		return &api.Error{Code: api.CodeGate, Message: fmt.Sprintf("%s got worse since snapshot %s", plural(len(r.Worse), "thing"), than)}
	}
	if !c.json() {
		c.printf("nothing is worse than in snapshot %s", than)
	}
	return nil
}

func (c *cli) showSnapshots(all []api.Snapshot) {
	if c.json() {
		c.writeJSON(all)
		return
	}
	var rows [][]cell
	for i := range all {
		s := &all[i]
		if s.Damaged != "" {
			rows = append(rows, []cell{text(s.Name), stateCell("damaged"), text(""), text(""), text("")})
			continue
		}
		rows = append(rows, []cell{text(s.Name), text(s.Taken.Local().Format(time.DateTime)), text(s.By), text(strings.Join(sortedKeys(s.Services), ", ")), text(s.Reason)})
	}
	c.table([]string{"NAME", "TAKEN", "BY", "SERVICES", "REASON"}, rows)
	for i := range all {
		if s := &all[i]; s.Damaged != "" {
			c.printf("%s is damaged: %s; `turnout snapshot take %s --force` puts one in its place; or move the file elsewhere", s.Name, s.Damaged, s.Name)
		}
	}
}
