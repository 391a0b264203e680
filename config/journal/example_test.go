package journal_test

import (
	"fmt"
	"os"

	"github.com/turnout-proxy/turnout/config/journal"
)

func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		panic(err)
	}
	for _, change := range []string{`{"swap":"green"}`, `{"hold":true}`} {
		if err := j.Append([]byte(change)); err != nil { // durable, or not taken
			panic(err)
		}
	}
	if err := j.Compact([]byte(`{"active":"green","hold":true}`)); err != nil {
		panic(err)
	}
	if err := j.Append([]byte(`{"hold":false}`)); err != nil {
		panic(err)
	}

	_ = j.Replay(func(kind journal.Kind, payload []byte) error {
		fmt.Printf("replay  %s %s\n", kind, payload)
		return nil
	})
	_ = j.History(func(payload []byte) error {
		fmt.Printf("history %s\n", payload)
		return nil
	})
	if err := j.Close(); err != nil {
		panic(err)
	}
	// Output:
	// replay  checkpoint {"active":"green","hold":true}
	// replay  record {"hold":false}
	// history {"swap":"green"}
	// history {"hold":true}
	// history {"hold":false}
}
