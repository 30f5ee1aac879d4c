package stage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"ferry/pkg/terminal"
)

// newLogger logs to w: for people as "ferry-fetch: warn: message key=value",
// without a time, which a service manager adds; for programs as JSON. minimum
// is a level's name; "" is info.
func newLogger(w io.Writer, format, program, minimum string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(minimum)) // the flag's enum lets no other text through
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})).With("program", program)
	}
	line := &line{out: w, program: program}
	attrs := slog.NewTextHandler(&line.text, &slog.HandlerOptions{Level: level, ReplaceAttr: onlyAttrs})
	return slog.New(lineHandler{attrs, line})
}

// onlyAttrs drops what a line begins with in its own way.
func onlyAttrs(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// line is the line being made, shared by all handlers of a logger.
type line struct {
	out     io.Writer
	program string
	mu      sync.Mutex
	text    bytes.Buffer
}

// lineHandler lets slog's text handler write the attributes behind a message.
type lineHandler struct {
	attrs slog.Handler
	line  *line
}

func (h lineHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.attrs.Enabled(ctx, l) }

func (h lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lineHandler{h.attrs.WithAttrs(attrs), h.line}
}

func (h lineHandler) WithGroup(name string) slog.Handler {
	return lineHandler{h.attrs.WithGroup(name), h.line}
}

func (h lineHandler) Handle(ctx context.Context, r slog.Record) error {
	l := h.line
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
	fmt.Fprintf(&l.text, "%s: %s: %s ", l.program, strings.ToLower(r.Level.String()), printable(r.Message))
	if err := h.attrs.Handle(ctx, r); err != nil {
		return err
	}
	_, err := fmt.Fprintln(l.out, strings.TrimRight(l.text.String(), " \n"))
	return err
}

// printable makes s one harmless line.
func printable(s string) string { return terminal.Printable(s) }
