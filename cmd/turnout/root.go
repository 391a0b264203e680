package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/proxy"
)

// cli is one run of the command.
type cli struct {
	*ui
	args []string

	socket  string
	output  string // table or json
	timeout time.Duration

	helpless error // help was asked for a command that is not known
}

// errSaid ends the command with an exit code after everything has been said already.
type errSaid struct{ code int }

func (e errSaid) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// run is the whole command; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	c := &cli{ui: newUI(stdout, stderr), args: args}
	root := c.root()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		err = c.helpless
	}
	c.wipe()
	var said errSaid
	var refused *api.Error
	switch {
	case err == nil && c.full != nil: // a script would take what it got for the answer
		c.notef("the answer could not be written: %s", c.full)
		c.hint("what the command did is done; `turnout status` and `turnout history` show it")
		return 1
	case err == nil:
		return 0
	case errors.As(err, &said):
		return said.code
	case !errors.As(err, &refused):
		refused = &api.Error{Code: api.CodeFailed, Message: err.Error()}
	}
	c.refusal(refused)
	if (c.json() || asksJSON(args)) && !c.wrote { // an operation that failed has its error in it
		c.writeJSON(struct {
			Error *api.Error `json:"error"`
		}{refused})
	}
	return api.ExitCode(refused.Code)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "turnout",
		Short: "A stable front door for servers that must be maintained without being missed",
		Long: `turnout stands before pools of servers, carries their TCP and HTTP traffic, and on one command moves all
of it from one pool to another: at once, exactly, provably.

  turnout serve -c turnout.yaml     run the door
  turnout swap node standby         move all new work of the service node to the pool standby
  turnout back node                 and back again
  turnout demo                      see it work in ten seconds`,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return c.unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.Version = versionLine(thisVersion())
	root.SetVersionTemplate("turnout {{.Version}}\n")
	root.SetOut(c.out)
	root.SetErr(c.err)
	f := root.PersistentFlags()
	f.StringVar(&c.socket, "socket", "", "admin `socket` of the door (default: TURNOUT_SOCKET, else "+config.DefaultSocket()+")")
	f.StringVarP(&c.output, "output", "o", "table", "`form` of the answer: table or json (the wire types)")
	f.DurationVar(&c.timeout, "timeout", 0, "how long this command waits; what it set going goes on in the door")
	root.SetFlagErrorFunc(c.flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return c.globals(cmd) }
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))

	cobra.EnableCommandSorting = false
	c.addGroup(root, "The door:", c.serveCommand(), c.checkCommand(), c.reloadCommand(), c.demoCommand())
	c.addGroup(root, "To look:", c.statusCommand(), c.topCommand(), c.probeCommand(), c.historyCommand(), c.eventsCommand(), c.versionCommand())
	c.addGroup(root, "To move traffic:", c.swapCommand(), c.backCommand(), c.splitCommand(), c.holdCommand(), c.releaseCommand(), c.maintenanceCommand(), c.readOnlyCommand())
	c.addGroup(root, "To look after servers:", c.keepCommand(), c.drainCommand(), c.readyCommand(), c.weightCommand())
	c.addGroup(root, "Safely:", c.gateCommand(), c.snapshotCommand(), c.runCommand())
	c.addGroup(root, "Beside:", c.freezeCommand(), c.unfreezeCommand(), c.completionCommand(), c.manCommand())
	root.SetHelpCommandGroupID("Beside:")
	c.help(root)
	return root
}

// help has help for a command that is not known say so.
func (c *cli) help(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, sub := range root.Commands() {
		if sub.Name() != "help" {
			continue
		}
		sub.Run, sub.RunE = nil, func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return c.unknownCommand(of, rest[0])
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		}
	}
	known := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if name := firstWord(args); cmd == root && name != "" {
			c.helpless = c.unknownCommand(root, name)
			return
		}
		known(cmd, args)
	})
}

func (c *cli) addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = title
		cmd.DisableFlagsInUseLine = true
		root.AddCommand(cmd)
	}
}

// globals checks what every command takes.
func (c *cli) globals(cmd *cobra.Command) error {
	if c.output != "table" && c.output != "json" {
		return c.usage(cmd, fmt.Sprintf("--output %s: want table or json", quote(c.output)), "")
	}
	if c.timeout < 0 || cmd.Flags().Changed("timeout") && c.timeout == 0 {
		return c.usage(cmd, fmt.Sprintf("--timeout %s: want more than 0, such as 30s", c.timeout), "")
	}
	if err := c.empties(cmd); err != nil {
		return err
	}
	if c.socket == "" {
		c.socket = os.Getenv("TURNOUT_SOCKET")
	}
	if c.socket == "" {
		c.socket = config.DefaultSocket()
	}
	return nil
}

// empties refuses flags that were given and say nothing: a script's variable that was not set must not become another
// command, such as a swap to wherever.
func (c *cli) empties(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		v := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok && len(list.GetSlice()) == 0 {
			v = ""
		}
		switch {
		case err != nil || f.Name == "reason":
		case v == "":
			err = c.usage(cmd, "--"+f.Name+" is empty: was a variable not set?", "")
		case f.Name == "if-revision" && v == "0":
			err = c.usage(cmd, "--if-revision 0: want the number of a revision, 1 or more", "")
		}
	})
	return err
}

func (c *cli) json() bool { return c.output == "json" }

// usage is a mistake in the command line; corrected, if not empty, is the line that was most likely meant.
func (c *cli) usage(cmd *cobra.Command, message, corrected string) error {
	hint := "`" + cmd.CommandPath() + " --help` shows how it is used"
	if corrected != "" {
		hint = "did you mean `" + corrected + "`?"
	}
	return &api.Error{Code: api.CodeUsage, Message: message, Hint: hint}
}

func (c *cli) unknownCommand(root *cobra.Command, name string) error {
	var known []string
	for _, sub := range root.Commands() {
		if !sub.Hidden {
			known = append(known, sub.Name())
		}
	}
	corrected := ""
	if meant := proxy.Nearest(name, known); meant != "" {
		corrected = c.corrected(name, meant)
	}
	return c.usage(root, fmt.Sprintf("unknown command %q", name), corrected)
}

// corrected is the command line as it was given, with the first word like wrong replaced.
func (c *cli) corrected(wrong string, right ...string) string {
	args := slices.Clone(c.args)
	if i := slices.Index(args, wrong); i >= 0 {
		args = slices.Replace(args, i, i+1, right...)
	}
	return commandLine(args)
}

// flagError turns what pflag says into words that teach.
func (c *cli) flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if !cmd.HasParent() { // an unknown command is only seen after its flags
		if name := firstWord(c.args); name != "" {
			return c.unknownCommand(cmd, name)
		}
	}
	var unknown *pflag.NotExistError
	var needs *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return c.unknownFlag(cmd, unknown)
	case errors.As(err, &needs):
		return c.usage(cmd, fmt.Sprintf("--%s needs a value: %s", needs.GetFlag().Name, needs.GetFlag().Usage), "")
	case errors.As(err, &invalid):
		want := map[string]string{
			"duration": api.WantDuration(invalid.GetValue()), "int": "want a whole number", "uint64": "want a whole number", "bool": "want true or false",
		}[invalid.GetFlag().Value.Type()]
		return c.usage(cmd, fmt.Sprintf("--%s %s: %s", invalid.GetFlag().Name, quote(invalid.GetValue()), want), "")
	}
	return c.usage(cmd, err.Error(), "")
}

func (c *cli) unknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	name := unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" && short[0] >= '0' && short[0] <= '9' {
		return c.usage(cmd, fmt.Sprintf("-%s: want no negative number", short), "")
	} else if short != "" {
		return c.usage(cmd, fmt.Sprintf("%s has no flag -%s", cmd.CommandPath(), name), "")
	}
	var known []string
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	corrected := ""
	if meant := proxy.Nearest(name, known); meant != "" {
		corrected = c.corrected("--"+name, "--"+meant)
		for _, a := range c.args {
			if value, ok := strings.CutPrefix(a, "--"+name+"="); ok {
				corrected = c.corrected(a, "--"+meant+"="+value)
			}
		}
	}
	return c.usage(cmd, fmt.Sprintf("%s has no flag --%s", cmd.CommandPath(), name), corrected)
}

// firstWord is the first argument that is neither a flag nor the value of one that every command takes.
func firstWord(args []string) string {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--socket" || a == "--output" || a == "--timeout" || a == "-o":
			i++
		case !strings.HasPrefix(a, "-"):
			return a
		}
	}
	return ""
}

// asksJSON looks for -o json where a mistake in the command line has ended its reading too soon.
func asksJSON(args []string) bool {
	for i, a := range args {
		switch a {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// wants checks the number of arguments; what names them, as in "TARGET [POOL]".
func (c *cli) wants(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case slices.Contains(args, ""):
			return c.usage(cmd, fmt.Sprintf("%s: argument %d is empty: was a variable not set?", cmd.CommandPath(), slices.Index(args, "")+1), "")
		case len(args) < least:
			return c.usage(cmd, fmt.Sprintf("%s needs %s", cmd.CommandPath(), what), "")
		case len(args) > most && most == 0:
			corrected := ""
			if cmd.Flags().Lookup("config") != nil && len(args) == 1 {
				corrected = c.corrected(args[0], "-c", args[0])
			}
			return c.usage(cmd, fmt.Sprintf("%s takes no arguments, got %s", cmd.CommandPath(), quote(args[0])), corrected)
		case len(args) > most:
			return c.usage(cmd, fmt.Sprintf("%s takes %s, got %s too", cmd.CommandPath(), what, quote(args[most])), "")
		}
		return nil
	}
}
