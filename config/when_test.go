package config_test

import (
	"testing"
	"time"
	_ "time/tzdata" // the machine may have no time zones

	"github.com/turnout-proxy/turnout/config"
)

func TestWhen_IsTheNextTimeThatIsMeant(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 30, 21, 30, 5, 7, zone)
	for text, want := range map[string]string{
		"22:00":                     "2026-11-30T22:00:00+01:00",
		"21:30":                     "2026-12-01T21:30:00+01:00", // it has begun already
		"21:30:06":                  "2026-11-30T21:30:06+01:00",
		"00:00":                     "2026-12-01T00:00:00+01:00",
		"2h":                        "2026-11-30T23:30:05+01:00",
		"+1h30m":                    "2026-11-30T23:00:05+01:00",
		"2026-12-01T22:00:00Z":      "2026-12-01T22:00:00Z",
		"2026-12-01T22:00:00+02:00": "2026-12-01T22:00:00+02:00",
		"2020-01-01T00:00:00Z":      "2020-01-01T00:00:00Z", // the door says that it has passed
		"2026-12-01 22:00":          "2026-12-01T22:00:00+01:00",
		"2026-12-01 22:00:01":       "2026-12-01T22:00:01+01:00",
		"24:00":                     "", "22": "", "10pm": "", "-2h": "", "++2h": "", "0s": "", "": "", "tomorrow": "", "22:00 CET": "", "2026-12-01": "",
	} {
		got, err := config.When(text, now)
		if (err != nil) != (want == "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %s, %v; want %s", text, got.Format(time.RFC3339), err, want)
		}
	}
}

func TestWhen_ATimeOfDayIsTheOneOfTomorrowsClock(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 24, 23, 0, 0, 0, zone) // that night has 25 hours
	if got, err := config.When("22:00", now); err != nil || got.Sub(now) != 24*time.Hour || got.Hour() != 22 {
		t.Error(got, err)
	}
}
