package config

import (
	"bytes"
	"encoding/json"
)

// Schema is the JSON Schema (draft 2020-12) of turnout.yaml, made of the tables that the parser reads by. It
// knows the shape of a file; that names exist, addresses do not collide and the like, only Parse knows.
func Schema() []byte {
	schema := object{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"$id":         "https://github.com/turnout-proxy/turnout/blob/main/config/schema/turnout.schema.json",
		"title":       "turnout.yaml",
		"description": "Configuration of turnout. In any text, ${NAME} is filled in from the environment; $${ is ${ itself.",
	}
	for k, v := range fileShape.schema {
		schema[k] = v
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		panic("config: BUG: schema: " + err.Error())
	}
	return b.Bytes()
}
