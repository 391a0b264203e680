package runbook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

func (r *run) notify(ctx context.Context, s *Step) string {
	ctx, cancel := context.WithTimeout(ctx, notifyWithin)
	defer cancel()
	text := s.Text
	if text == "" {
		text = r.title() + ": " + s.Words()
	}
	var err error
	if s.Webhook != "" {
		err = post(ctx, s.Webhook, map[string]string{"text": text, "runbook": r.title(), "time": time.Now().UTC().Format(time.RFC3339)})
	} else {
		err = r.opt.Run(ctx, Command{Shell: s.Shell, Dir: r.dir(), Env: append(r.env(), "TURNOUT_TEXT="+text)})
	}
	if err != nil {
		r.opt.Note("not notified: %v", err)
		return "not delivered"
	}
	return ""
}

// post sends JSON. The error has no more of the URL than its host.
func post(ctx context.Context, webhook string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, webhook, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: the URL cannot be used", host(webhook))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the URL
		}
		return fmt.Errorf("%s: %w", host(webhook), err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", host(webhook), resp.Status)
	}
	return nil
}
