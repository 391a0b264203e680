package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/proxy"
)

// asError makes a wire error and an HTTP status of any error.
func asError(err error) (*api.Error, int) {
	var wire *api.Error
	var refused *proxy.Refusal
	var mistakes config.Errors
	switch {
	case errors.As(err, &wire):
		return wire, statusOf(wire.Code)
	case errors.As(err, &refused):
		return refusal(refused), statusOf(string(refused.Code))
	case errors.As(err, &mistakes):
		e := &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s has %d mistakes", mistakes[0].File, len(mistakes))}
		if len(mistakes) == 1 {
			e.Message = mistakes[0].File + " has a mistake"
		}
		for _, m := range mistakes {
			e.Details = append(e.Details, m.Error())
		}
		return e, statusOf(e.Code)
	}
	return &api.Error{Code: api.CodeFailed, Message: err.Error()}, http.StatusInternalServerError
}

func refusal(r *proxy.Refusal) *api.Error {
	if r == nil {
		return nil
	}
	return &api.Error{Code: string(r.Code), Message: r.Message, Holds: r.Holds, Hint: r.Hint, Details: r.Details}
}

func statusOf(code string) int {
	switch code {
	case api.CodeUsage:
		return http.StatusBadRequest
	case api.CodePermission:
		return http.StatusForbidden
	case api.CodeNotFound:
		return http.StatusNotFound
	case api.CodeConflict:
		return http.StatusConflict
	case api.CodeGate:
		return http.StatusPreconditionFailed
	case api.CodeTimeout:
		return http.StatusGatewayTimeout
	case api.CodeJournal:
		return http.StatusInsufficientStorage
	}
	return http.StatusUnprocessableEntity
}
