package health

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

// Rule is an expression over readings of a service that says whether something is wrong: `error_rate > 0.01 || !progress`.
// It knows numbers (Readings), `ready`, `baseline.` with the same numbers from before, and each check by its name, with
// _ for - and ., which is true while the check does not fail. A name that a number and a check have is the number's, and of two
// checks the first one's: see Ambiguous. It is never changed after NewRule.
type Rule struct {
	text    string
	program *vm.Program
	checks  map[string]string   // as written in the rule → the check's name
	ready   bool                // it reads `ready`
	twice   map[string][]string // as written in the rule → the checks that have the name too
}

// Readings are the numbers a Rule knows, with what each is.
var Readings = map[string]string{
	"error_rate":    "the part of new work that failed: dials (tcp), 5xx and no answer (http); 0 while there is too little to tell",
	"requests":      "new connections (tcp) or requests (http) in the time that is looked at",
	"dial_failures": "dials that failed in that time",
	"latency_p50":   "seconds that half of the answers took less than (http)",
	"latency_p90":   "seconds that nine in ten took less than (http)",
	"latency_p99":   "seconds that all but one in a hundred took less than (http)",
	"connections":   "connections that are there",
}

// maxRule bounds an expression.
const maxRule = 2000

// RuleName is a check's name as a Rule writes it.
func RuleName(check string) string { return strings.NewReplacer("-", "_", ".", "_").Replace(check) }

// NewRule compiles a rule that may name those checks.
func NewRule(text string, checks []string) (*Rule, error) {
	if len(text) > maxRule {
		return nil, fmt.Errorf("longer than %d bytes", maxRule)
	}
	r := &Rule{text: text, checks: map[string]string{}, twice: map[string][]string{}}
	env := map[string]any{"ready": true}
	baseline := map[string]float64{}
	for name := range Readings {
		env[name], baseline[name] = 0.0, 0.0
	}
	env["baseline"] = baseline
	named, hidden := map[string]string{}, map[string][]string{}
	for _, c := range checks {
		if _, taken := env[RuleName(c)]; taken {
			hidden[RuleName(c)] = append(hidden[RuleName(c)], c)
			continue
		}
		env[RuleName(c)], named[RuleName(c)] = true, c
	}
	if tree, err := parser.Parse(text); err == nil { // before its types are looked at: those of the other meaning would not fit
		uses := names{}
		ast.Walk(&tree.Node, uses)
		for name := range uses {
			if hidden[name] != nil {
				r.twice[name] = hidden[name]
			}
			if check, ok := named[name]; ok {
				r.checks[name] = check
			}
		}
		r.ready = uses["ready"]
	}
	program, err := expr.Compile(text, expr.Env(env), expr.AsBool(), expr.DisableAllBuiltins(), expr.MaxNodes(500))
	if err != nil && r.Ambiguous() != nil {
		return nil, r.Ambiguous()
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("%s; it knows %s", first, strings.Join(slices.Sorted(maps.Keys(env)), ", "))
	}
	r.program = program
	return r, nil
}

type names map[string]bool

func (n names) Visit(node *ast.Node) {
	if id, ok := (*node).(*ast.IdentifierNode); ok {
		n[id.Value] = true
	}
}

// Ambiguous refuses a rule in which a name could be meant for something else than it reads. Whoever writes a rule is told; one
// that nobody wrote, the default, is not asked.
func (r *Rule) Ambiguous() error {
	if len(r.twice) == 0 {
		return nil
	}
	name := slices.Min(slices.Collect(maps.Keys(r.twice)))
	check := r.twice[name][0]
	if first, isCheck := r.checks[name]; isCheck {
		return fmt.Errorf("%s is the name of two checks here, %s and %s: rename one of them", name, first, check)
	}
	return fmt.Errorf("%s is what the watch itself reads, and the name of a check as well: rename the check %s, such as %s-check, and write %s_check for it", name, check, check, name)
}

// Checks are the names of the checks that the rule reads.
func (r *Rule) Checks() []string { return slices.Sorted(maps.Values(r.checks)) }

// Ready tells whether the rule reads `ready`.
func (r *Rule) Ready() bool { return r.ready }

// Broken tells whether the rule is true, and of what: the numbers and checks it reads. passes has each check's verdict by
// its name.
func (r *Rule) Broken(now, baseline map[string]float64, ready bool, passes map[string]bool) (bool, string, error) {
	env := map[string]any{"ready": ready}
	before := map[string]float64{}
	for name := range Readings {
		env[name], before[name] = now[name], baseline[name]
	}
	env["baseline"] = before
	for written, check := range r.checks {
		env[written] = passes[check]
	}
	out, err := expr.Run(r.program, env)
	if err != nil {
		return false, "", err
	}
	if broken, _ := out.(bool); !broken {
		return false, "", nil
	}
	uses := names{}
	node := r.program.Node()
	ast.Walk(&node, uses)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		switch {
		case r.checks[name] != "":
			parts = append(parts, fmt.Sprintf("%s %v", name, env[name]))
		case name == "ready":
			parts = append(parts, fmt.Sprintf("ready %v", ready))
		case Readings[name] != "":
			parts = append(parts, fmt.Sprintf("%s %.4g", name, now[name]))
		}
	}
	return true, fmt.Sprintf("%s (%s)", r.text, strings.Join(parts, ", ")), nil
}
