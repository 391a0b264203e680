package config

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	fault "github.com/santhosh-tekuri/jsonschema/v6/kind"
)

const schemaFile = "schema/turnout.schema.json"

func TestSchema_InTheTreeIsUpToDate(t *testing.T) {
	golden(t, schemaFile, string(Schema()))
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("turnout.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("turnout.json") // checks it against the draft's own schema, too
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySchema reads the file without any code of this package.
func bySchema(t *testing.T, s *jsonschema.Schema, file string) error {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s.Validate(doc)
}

func TestSchema_TakesEveryFileWhoseShapeIsGood(t *testing.T) {
	s := compiled(t)
	for _, folder := range []string{"good", "wrong"} {
		for _, file := range corpus(t, folder) {
			if strings.HasSuffix(file, "wrong/addresses.yaml") || strings.HasSuffix(file, "wrong/environment.yaml") {
				continue // some of their addresses are beyond what the patterns let pass, and may be
			}
			if err := bySchema(t, s, file); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// Not only the file as a whole: for each single mistake that the parser tells, the schema has one in that place.
func TestSchema_RefusesEachMistakeOfShapeThatTheParserRefuses(t *testing.T) {
	s := compiled(t)
	for _, file := range corpus(t, "bad") {
		var places []string
		var invalid *jsonschema.ValidationError
		if err := bySchema(t, s, file); errors.As(err, &invalid) {
			places = refusedPlaces(invalid, nil)
		}
		_, err := parseFile(t, file)
		var all Errors
		if !errors.As(err, &all) {
			t.Fatalf("%s: the parser takes it", file)
		}
		for _, issue := range all {
			steps := stepsOf(issue.Path)
			at := "/" + strings.Join(steps, "/")
			if !slices.Contains(places, at) && (len(steps) == 0 || !slices.Contains(places, badName+steps[len(steps)-1])) {
				t.Errorf("the schema takes %v\n%s is not among %q", issue, at, places)
			}
		}
	}
}

func refusedPlaces(e *jsonschema.ValidationError, places []string) []string {
	at := "/" + strings.Join(e.InstanceLocation, "/")
	var keys []string // that the map here has or lacks
	switch k := e.ErrorKind.(type) {
	case *fault.AdditionalProperties:
		keys = k.Properties
	case *fault.Required:
		keys = k.Missing
	case *fault.PropertyNames:
		// Where the map is, the validator does not say reliably (v6.0.3).
		return append(places, badName+k.Property)
	default:
		if len(e.Causes) == 0 {
			places = append(places, at)
		}
	}
	for _, key := range keys {
		places = append(places, strings.TrimSuffix(at, "/")+"/"+key)
	}
	for _, c := range e.Causes {
		places = refusedPlaces(c, places)
	}
	return places
}

var pathStep = regexp.MustCompile(`"[^"]*"|\[\d+\]|[^.\[]+`)

const badName = "the name "

// stepsOf takes services."a.b".listen[0] apart.
func stepsOf(path string) []string {
	steps := pathStep.FindAllString(path, -1)
	for i, step := range steps {
		if key, err := strconv.Unquote(step); err == nil {
			step = key
		}
		steps[i] = strings.Trim(step, "[]")
	}
	return steps
}
