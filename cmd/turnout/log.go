package main

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/turnout-proxy/turnout/config"
)

// newLog is the door's own log: for people, or one JSON object a line.
func newLog(w io.Writer, cfg config.Log) (*zap.Logger, zap.AtomicLevel) {
	level := zap.NewAtomicLevel()
	setLevel(level, cfg.Level)
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	var encoder zapcore.Encoder
	if cfg.Format == "json" {
		enc.TimeKey = "time"
		encoder = zapcore.NewJSONEncoder(enc)
	} else {
		enc.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), level
}

func setLevel(l zap.AtomicLevel, name string) {
	if level, err := zapcore.ParseLevel(name); err == nil { // the configuration has checked it
		l.SetLevel(level)
	}
}
