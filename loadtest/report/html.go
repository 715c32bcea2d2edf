package report

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// WriteHTML writes the report as a page that needs nothing else: what WriteText
// says, and a scenario's pictures. worked says whether workers took part.
func (r *Report) WriteHTML(w io.Writer, worked bool) error {
	var text, b strings.Builder
	if err := r.WriteText(&text, worked); err != nil {
		return err
	}
	b.WriteString(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Waystation load test</title>
<style>body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow-x:auto}svg{max-width:100%;height:auto}</style>
</head><body><h1>Waystation load test</h1>
`)
	fmt.Fprintf(&b, "<pre>%s</pre>\n", html.EscapeString(text.String()))
	if r.Scenario != nil {
		for i := range r.Scenario.Plots {
			fmt.Fprintf(&b, "<figure>%s</figure>\n", r.Scenario.Plots[i].SVG())
		}
	}
	b.WriteString("</body></html>\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}
