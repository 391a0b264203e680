package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// versions is what `turnout version -o json` prints.
type versions struct {
	Client api.Version  `json:"client"`
	Door   *api.Version `json:"door,omitempty"`
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Say the version of this command and of the running door",
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			v := versions{Client: thisVersion()}
			door, err := client.Dial(c.socket).Version(ctx)
			v.Door = door
			if c.json() {
				c.writeJSON(v)
				return nil
			}
			c.printf("turnout %s", versionLine(v.Client))
			var e *api.Error
			switch {
			case err == nil:
				c.printf("door    %s", versionLine(*door))
			case errors.As(err, &e) && e.Code != api.CodeUnreachable:
				c.notef("version of the door not known: %s", e.Message)
			}
			return nil
		},
	}
}

func versionLine(v api.Version) string {
	s := v.Version
	if v.Commit != "" {
		s += " (" + v.Commit[:min(len(v.Commit), 12)] + ")"
	}
	return s + ", " + v.Go + ", " + v.OS
}
